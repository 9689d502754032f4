"""The copies of the catalogues of items and users that a store keeps beside its log."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from models.errors import StoreError
from models.store.store import Store

__all__ = ["read_catalogue"]


def read_catalogue(
    store: Store, entity: str, columns: Sequence[str] | None = None
) -> pa.Table | None:
    """The copy of `items` or `users`; None where there is none.

    Args:
        store: that has it.
        entity: which.
        columns: those of them that it has; None for all.

    Raises:
        StoreError: damaged.
    """
    path = store.catalogue_path(entity)
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            return file.read([name for name in columns or names if name in names])
    except (OSError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise StoreError(
            f"{path} cannot be read ({why}): give rillet run --{entity} again, which replaces it"
        ) from None
