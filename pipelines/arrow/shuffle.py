"""Spreading batches over shards by key: a few large pieces instead of many small ones."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy.typing as npt
import pyarrow as pa
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.windowed_value import WindowedValue

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.arrow.ipc import concat
from pipelines.arrow.partition import split
from pipelines.arrow.spill_files import Place, spill

__all__ = ["Spread"]

SPREAD_ROWS = 1 << 18
"""Rows gathered before they are split: bounds memory, and makes pieces worth their frame."""


class Spread(beam.DoFn):
    """Batches → (shard, place of a piece), gathered over a bundle. For the global window only."""

    def __init__(
        self,
        shard_of: Callable[[pa.RecordBatch], npt.NDArray[Any]],
        shards: int,
        schema: pa.Schema,
        folder: Path,
        prepare: Callable[[pa.RecordBatch], pa.RecordBatch] | None = None,
    ) -> None:
        """See the class.

        Args:
            shard_of: batch `[n]` → `[n]` unsigned hashes, taken modulo `shards`.
            shards: how many there are.
            schema: names and logical types of what travels.
            folder: where pieces are left, for `pipelines.arrow.spill_files.gather`.
            prepare: applied to each batch before anything else.
        """
        self.shard_of, self.shards, self.schema, self.prepare = shard_of, shards, schema, prepare
        self.folder = folder

    def start_bundle(self) -> None:
        """Begin with nothing."""
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0

    def process(self, batch: pa.RecordBatch) -> Iterator[tuple[int, Place]]:
        """Keep the batch; give out pieces when there are enough."""
        if self.prepare is not None:
            batch = self.prepare(batch)
        self._batches.append(batch)
        self._rows += batch.num_rows
        if self._rows >= SPREAD_ROWS:
            yield from self._pieces()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Give out the rest."""
        for piece in self._pieces():
            yield WindowedValue(piece, GlobalWindow().max_timestamp(), (GlobalWindow(),))

    def _pieces(self) -> Iterator[tuple[int, Place]]:
        if self._batches:
            batch = concat(self._batches, self.schema)
            self.start_bundle()
            pieces = split(batch, self.shard_of(batch), self.shards)
            yield from spill(self.folder, pieces)
