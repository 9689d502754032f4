"""Ask a store for the served vectors: one Parquet file, for any index to read."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from models.errors import RequestError
from models.store import atomic_files
from models.store.embeddings import read_embeddings
from models.store.store import Store

__all__ = ["export_embeddings"]


def export_embeddings(store: Path | Store, out: Path, version: int | None = None) -> dict[str, Any]:
    """Write the served vectors as one Parquet file with the columns of EMBEDDINGS.

    Raises:
        StoreError: no store, nothing served yet, or `out` cannot be written.
        RequestError: `out` is a folder.
    """
    store = store if isinstance(store, Store) else Store.open(store)
    if out.is_dir():
        raise RequestError(f"{out} is a folder: name a file, such as {out / 'embeddings.parquet'}")
    chosen, table = read_embeddings(store, version)
    # No dictionary of vectors, no two of which are the same: a fifth of the time to write it.
    how = {"compression": "zstd", "use_dictionary": ["entity"]}
    atomic_files.write_file(out, lambda file: pq.write_table(table, file, **how))
    items = table["entity"].to_pylist().count("item")
    return {
        "out": str(out),
        "version": chosen,
        "users": len(table) - items,
        "items": items,
        "dim": table.schema.field("embedding").type.list_size,
        "newest_event_time": store.manifest(chosen).newest_event_time.isoformat(),
    }
