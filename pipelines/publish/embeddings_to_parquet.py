"""Vectors as Parquet files in the store: a delta each version, a snapshot now and then."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from models.store.embeddings import write_embeddings
from models.store.lineage import Publication
from models.store.store import Store

__all__ = ["FileSink"]


@dataclass(frozen=True)
class FileSink:
    """Writes `embeddings/delta-*.parquet` and `snapshot-*.parquet`.

    Readers follow CURRENT, which names a version only once its files are whole.
    """

    store: Store

    def publish(self, group: Sequence[Publication]) -> None:
        """Write the versions' files; the same version again writes the same files."""
        files: list[tuple[str, int, pa.Table | pa.RecordBatch]] = []
        for one in group:
            if one.snapshot is not None:
                files.append(("snapshot", one.version, one.snapshot))
            files.append(("delta", one.version, one.delta))
        write_embeddings(self.store, files)
