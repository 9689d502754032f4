"""The micro-batches of a log that ends: cut, put in order, written to the training log."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import apache_beam as beam
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.store.canonical_bytes import canonical, to_ipc
from models.store.store import Store
from pipelines.batches.cut import cut
from pipelines.batches.row_order import Keys
from pipelines.config import BatchConfig
from pipelines.errors import StoreError
from pipelines.features.rows import FeatureRows

__all__ = ["LogBatches", "MicroBatch"]

_GROUP = 64
"""Batches that are put on disk together."""


class LogBatches:
    """Cuts a run's rows and writes the micro-batches to the training log.

    Args:
        store: held by the run.
        config: when a batch is due.
        history: past events that a logged row carries.
        start: the last batch of the runs before.
    """

    def __init__(self, store: Store, config: BatchConfig, history: int, start: int) -> None:
        self.store, self._config = store, config
        self._history, self._start = history, start

    def __call__(self, rows: FeatureRows) -> tuple[int, int]:
        """Log all batches of `rows`; the span (start, last) of their numbers.

        A batch that an interrupted run has logged must be the same.

        Raises:
            StoreError: it is not: the events are others.
        """
        batches = cut(Keys.of(rows.rows), self._config, self._start + 1)
        last = self._start + len(batches)
        if self.store.last_batch() > last:
            raise StoreError(
                f"{self.store.root} holds micro-batches up to {self.store.last_batch()}, these "
                f"events end at {last}: an interrupted run goes on with the --events it began with"
            )
        numbered = list(enumerate(batches, self._start + 1))
        for at in range(0, len(numbered), _GROUP):
            group = numbered[at : at + _GROUP]
            self.store.log_batches([(number, self._file(rows, of)) for number, of in group])
        return self._start, last

    def _file(self, rows: FeatureRows, indices: NDArray[np.int64]) -> bytes:
        return to_ipc(canonical(rows.take(indices).materialise(self._history)))


class _Log(beam.DoFn):
    """All of a run's rows, gathered under one key → the span (start, last) that was logged."""

    def __init__(self, log: LogBatches, seen: Callable[[pa.RecordBatch], None]) -> None:
        self._log, self._seen = log, seen

    def process(self, keyed: tuple[int, Iterable[FeatureRows]]) -> Iterator[tuple[int, int]]:
        parts = [part for part in keyed[1] if len(part)]
        if not parts:
            return
        rows = FeatureRows.concat(parts)
        self._seen(rows.rows)
        with self._log.store.lock("writer"):
            span = self._log(rows)
        yield span


@dataclass(eq=False, kw_only=True)
class MicroBatch(beam.PTransform):
    """(shard, feature rows) → the span of the log that they became.

    Nothing comes out where there are no rows.

    Attributes:
        log: the training log.
        seen: called with all rows (`pipelines.features.rows.ROWS`) before they are logged.
    """

    log: LogBatches
    seen: Callable[[pa.RecordBatch], None]

    def expand(
        self, rows: beam.PCollection[tuple[int, FeatureRows]]
    ) -> beam.PCollection[tuple[int, int]]:
        """One key: batches are cut over all users."""
        return (
            rows
            | "OneKey" >> beam.Map(_one_key).with_output_types(tuple[int, FeatureRows])
            | "Gather" >> beam.GroupByKey()
            | "Log" >> beam.ParDo(_Log(self.log, self.seen)).with_output_types(tuple[int, int])
        )


def _one_key(shard: tuple[int, FeatureRows]) -> tuple[int, FeatureRows]:
    return 0, shard[1]
