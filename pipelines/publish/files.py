"""Vectors as Parquet files in the store: a delta each version, a snapshot now and then."""

from dataclasses import dataclass

from models.embeddings import write_embeddings
from models.lineage import Publication
from models.store import Store

__all__ = ["FileSink"]


@dataclass(frozen=True)
class FileSink:
    """Writes `embeddings/delta-*.parquet` and `snapshot-*.parquet`.

    Readers follow CURRENT, which names a version only once its files are whole.
    """

    store: Store

    def publish(self, publication: Publication) -> None:
        """Write the version's files; the same version again writes the same files."""
        if publication.snapshot is not None:
            write_embeddings(self.store, "snapshot", publication.version, publication.snapshot)
        write_embeddings(self.store, "delta", publication.version, publication.delta)
