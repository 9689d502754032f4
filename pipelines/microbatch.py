"""When a micro-batch is cut, in which order its rows stand, and the training log.

Batches follow from event time and keys alone, never from arrival: at each
window end the pending rows become a batch once there are `min_rows` of them or
the oldest has waited `max_wait` of event time (DESIGN 7).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from models.canonical import canonical, to_ipc
from models.store import Store
from pipelines.config import BatchConfig
from pipelines.errors import StoreError
from pipelines.rows import FeatureRows

__all__ = [
    "Keys",
    "LogBatches",
    "MicroBatch",
    "Pending",
    "advance",
    "canonical_order",
    "cut",
    "spans",
]

_GROUP = 64
"""Batches that are put on disk together."""


@dataclass(frozen=True)
class Pending:
    """Rows that wait to be cut: how many, and the first one's window end (ms)."""

    oldest_end: int = 0
    rows: int = 0


def advance(
    pending: Pending, end: int, rows: int, config: BatchConfig
) -> tuple[bool, bool, Pending]:
    """One window end after another: is a batch cut before its rows are added, and after?

    Args:
        pending: what waits from earlier window ends.
        end: the window end (epoch ms), not before an earlier call's.
        rows: rows with that window end.
        config: when a batch is due.
    """
    before = pending.rows > 0 and pending.oldest_end + config.max_wait < end
    if before or not pending.rows:
        pending = Pending(end, 0)
    pending = Pending(pending.oldest_end, pending.rows + rows)
    after = pending.rows >= config.min_rows or end >= pending.oldest_end + config.max_wait
    return before, after, Pending() if after else pending


def spans(ends: NDArray[np.int64], config: BatchConfig) -> list[tuple[int, int]]:
    """Where rows sorted by window end are cut: half-open index spans, in order.

    Args:
        ends: `[rows]` int64 epoch ms, ascending.
        config: when a batch is due; at the end of the input the rest is one.
    """
    distinct, starts = np.unique(ends, return_index=True)
    counts = np.diff(np.append(starts, len(ends)))
    cuts, pending = [0], Pending()
    for end, start, rows in zip(distinct.tolist(), starts.tolist(), counts.tolist(), strict=True):
        before, after, pending = advance(pending, end, rows, config)
        if before:
            cuts.append(start)
        if after:
            cuts.append(start + rows)
    if cuts[-1] < len(ends):
        cuts.append(len(ends))
    return [(a, b) for a, b in pairwise(cuts) if a < b]


@dataclass(frozen=True)
class Keys:
    """What the order of rows rests on; arrays of `[rows]`, times in epoch ms."""

    user_id: NDArray[np.object_]
    """UTF-8 bytes."""
    item_id: NDArray[np.object_]
    window_start: NDArray[np.int64]
    window_end: NDArray[np.int64]
    revision: NDArray[np.int32]

    @classmethod
    def of(cls, rows: pa.RecordBatch) -> "Keys":
        """Of feature rows, `user_id` and `item_id` plain or dictionary-encoded."""
        return cls(
            user_id=_text(rows.column("user_id")),
            item_id=_text(rows.column("item_id")),
            window_start=rows.column("window_start").cast(pa.int64()).to_numpy(),
            window_end=rows.column("window_end").cast(pa.int64()).to_numpy(),
            revision=rows.column("revision").to_numpy(),
        )

    def take(self, rows: NDArray[np.int64]) -> "Keys":
        """Those of some rows."""
        return Keys(
            self.user_id[rows],
            self.item_id[rows],
            self.window_start[rows],
            self.window_end[rows],
            self.revision[rows],
        )


def canonical_order(keys: Keys, number: int) -> NDArray[np.int64]:
    """The order of a batch's rows: by window start, then scattered by a seeded hash.

    The hash keeps one user's rows from standing together; what it leaves equal
    is ordered by the ids, the window end and the revision.
    """
    scattered = np.fromiter(
        (
            xxhash.xxh3_64_intdigest(user + b"\0" + item, seed=number)
            for user, item in zip(keys.user_id, keys.item_id, strict=True)
        ),
        np.uint64,
        len(keys.user_id),
    )
    order = np.lexsort((keys.revision, keys.window_end, scattered, keys.window_start))
    # The ids decide only where two keys share a hash, which hardly ever happens.
    left, right = order[:-1], order[1:]
    tied = (scattered[left] == scattered[right]) & (
        keys.window_start[left] == keys.window_start[right]
    )
    pairs = zip(left[tied].tolist(), right[tied].tolist(), strict=True)
    if all(_ids(keys, a) == _ids(keys, b) for a, b in pairs):
        return order
    exact = sorted(range(len(order)), key=lambda row: _exact(keys, scattered, row))
    return np.array(exact, np.int64)


def cut(keys: Keys, config: BatchConfig, first: int) -> list[NDArray[np.int64]]:
    """Row numbers of each micro-batch, in canonical order; the first is number `first`.

    A span longer than `max_rows` gives several batches, numbered on, in the
    order that belongs to the first one's number.
    """
    by_end = np.argsort(keys.window_end, kind="stable")
    batches: list[NDArray[np.int64]] = []
    for start, stop in spans(keys.window_end[by_end], config):
        rows = by_end[start:stop]
        rows = rows[canonical_order(keys.take(rows), first + len(batches))]
        batches += [rows[at : at + config.max_rows] for at in range(0, len(rows), config.max_rows)]
    return batches


def _ids(keys: Keys, row: int) -> tuple[bytes, bytes]:
    return keys.user_id[row], keys.item_id[row]


def _exact(keys: Keys, scattered: NDArray[np.uint64], row: int) -> tuple[Any, ...]:
    return (
        int(keys.window_start[row]),
        int(scattered[row]),
        *_ids(keys, row),
        int(keys.window_end[row]),
        int(keys.revision[row]),
    )


def _text(column: pa.Array) -> NDArray[np.object_]:
    if pa.types.is_dictionary(column.type):
        words = column.dictionary.cast(pa.binary()).to_numpy(zero_copy_only=False)
        return np.asarray(words[column.indices.to_numpy()], np.object_)
    return np.asarray(column.cast(pa.binary()).to_numpy(zero_copy_only=False), np.object_)


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
        seen: called with all rows (`pipelines.rows.ROWS`) before they are logged.
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
