"""A store with a training log and nothing else, as an interrupted run leaves one."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.config import ModelConfig
from models.store.canonical_bytes import canonical, to_ipc
from models.store.store import Store


def logged(
    folder: Path,
    batches: Sequence[pa.RecordBatch],
    config: ModelConfig,
    items: pa.Table | None = None,
) -> Store:
    store = Store(folder / "store")
    window = {"kind": "fixed", "size_ms": 60_000, "period_ms": 60_000}
    made_with = {"model": config.model_dump(mode="json"), "features": {"window": window}}
    store.create(made_with)
    store.log_batches([(n, to_ipc(canonical(part))) for n, part in enumerate(batches, 1)])
    if items is not None:
        pq.write_table(items, store.catalogue_path("items"))
    return store
