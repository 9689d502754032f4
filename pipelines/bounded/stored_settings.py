"""The model's settings that a store was made with, for commands that only have the store."""

from pydantic import ValidationError

from models.config import ModelConfig
from models.store.store import Store
from pipelines.config import WindowSpec
from pipelines.errors import StoreError

__all__ = ["stored_model"]


def stored_model(store: Store) -> ModelConfig:
    """The `[model]` section of the store's job; a row weighs as its windows overlap.

    Raises:
        StoreError: what is recorded is not what this Rillet knows.
    """
    made_with = store.meta().get("config", {})
    try:
        model = ModelConfig.model_validate(made_with.get("model", {}))
        window = WindowSpec.model_validate(made_with.get("features", {}).get("window"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StoreError(
            f"store {store.root} was made with {where or 'window'} = {first['input']!r}, which "
            f"this Rillet does not take ({first['msg']}): use the Rillet that made it"
        ) from None
    return model.model_copy(update={"overlap": window.overlap})
