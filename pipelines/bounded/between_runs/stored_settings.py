"""The settings that a store was made with, for commands that only have the store."""

from typing import Any

from pydantic import ValidationError

from models.config import ModelConfig
from models.store.store import Store
from pipelines.config import JobConfig, WindowSpec, parse_duration
from pipelines.errors import StoreError

__all__ = ["stored_job", "stored_model"]


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
        raise _unknown(store, error) from None
    return model.model_copy(update={"overlap": window.overlap})


def stored_job(store: Store) -> JobConfig:
    """All settings of the store's job; those that change no row are today's defaults.

    Raises:
        StoreError: what is recorded is not what this Rillet knows.
    """
    made_with = store.meta().get("config", {})
    tables = {
        name: _as_written(field.annotation, made_with[name])
        for name, field in JobConfig.model_fields.items()
        if name in made_with
    }
    try:
        return JobConfig.model_validate(tables)
    except ValidationError as error:
        raise _unknown(store, error) from None


def _as_written(section: Any, recorded: dict[str, Any]) -> dict[str, Any]:
    """A section as a job file has it: a store records durations as milliseconds."""
    durations = {
        name
        for name, field in section.model_fields.items()
        if any(getattr(one, "func", None) is parse_duration for one in field.metadata)
    }
    return {name: f"{v}ms" if name in durations else v for name, v in recorded.items()}


def _unknown(store: Store, error: ValidationError) -> StoreError:
    first: Any = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return StoreError(
        f"store {store.root} was made with {where or 'window'} = {first['input']!r}, which "
        f"this Rillet does not take ({first['msg']}): use the Rillet that made it"
    )
