"""What was predicted before training, as Parquet files of whole runs of batches.

One file holds the batches between two checkpoints and is written just before
the second one counts. A restart replays from a checkpoint on, so whatever was
not yet written is predicted again, and every row ends up in exactly one file.
"""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from models.schema import PREDICTIONS
from models.store import atomic_files

__all__ = ["PredictionFiles"]

_NAME = re.compile(r"predictions-(\d{6,})-(\d{6,})\.parquet")


class PredictionFiles:
    """The files of one run in a folder that may hold earlier runs' too.

    Args:
        folder: made when the first file is written.
        start: the last batch before this run; later ones belong to it.
    """

    def __init__(self, folder: Path, start: int) -> None:
        self._folder = folder
        self._start = start
        self._first: int | None = None
        self._rows: list[pa.RecordBatch] = []

    def covered(self) -> int:
        """The last batch up to which this run's predictions are there without a gap."""
        reached = self._start
        for first, last in sorted(self._files()):
            if first == reached + 1:
                reached = last
        return reached

    def truncate(self, base: int) -> None:
        """Remove this run's files that hold batches after `base`: they are made again."""
        for first, last in self._files():
            if first > self._start and last > base:
                self._path(first, last).unlink()

    def wants(self, number: int) -> bool:
        """Whether a batch belongs to this run."""
        return number > self._start

    def add(self, number: int, rows: pa.RecordBatch | None) -> None:
        """Keep a batch's predictions until the next `flush`; batches come in order."""
        self._first = self._first or number
        if rows is not None:
            self._rows.append(rows)

    def flush(self, last: int) -> None:
        """Write what was added as the file of the batches up to `last`."""
        if self._first is None:
            return
        tables = [pa.Table.from_batches([rows]).cast(PREDICTIONS) for rows in self._rows]
        table = pa.concat_tables([PREDICTIONS.empty_table(), *tables])
        atomic_files.write_file(
            self._path(self._first, last),
            lambda file: pq.write_table(table, file, compression="zstd"),
        )
        self._first, self._rows = None, []

    def _files(self) -> list[tuple[int, int]]:
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return [(int(match[1]), int(match[2])) for match in found if match]

    def _path(self, first: int, last: int) -> Path:
        return self._folder / f"predictions-{first:06d}-{last:06d}.parquet"
