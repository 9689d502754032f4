"""Events of windows that are open: what is told once a window has ended. No Beam.

A shard of users knows its past in two parts::

    past ──────────────► memory of the users ──► held events ──► (events that wait to be settled)
                         (pipelines.features.user_state)      (here)

An event is held while a window that is not yet told may hold it; then it becomes
part of the memory. A fixed window tells all its events at once, so nothing is
held. Sliding windows share events. A session is told when it has ended, and is
never opened again: what comes later is another session (docs/live.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.arrow.columns import Ints, as_int64, encode_column, order_by, run_starts
from pipelines.arrow.ipc import concat, decode
from pipelines.arrow.partition import compact_dictionaries, join_batches
from pipelines.config import FeatureConfig
from pipelines.features.event_order import user_order
from pipelines.features.rows import FeatureRows
from pipelines.features.user_state import (
    UserMemory,
    rows_and_memory,
    rows_of_ended_windows,
    updated_memory,
)
from pipelines.live.state.timer_grid import TimerGrid, first_end
from pipelines.schema import EVENTS

__all__ = ["Fired", "OpenWindows", "Recall", "open_windows_for"]

Flags = npt.NDArray[np.bool_]
Recall = Callable[[pa.RecordBatch], UserMemory]
"""EVENTS → the memory of their users."""


@dataclass(frozen=True)
class Fired:
    """What a tick brings.

    Attributes:
        rows: of windows that have ended, each part with histories of its own.
        memory: of the users of whom events have become part of it.
        repeats: events left out, for they came with the same id, user and instant before.
    """

    rows: list[FeatureRows]
    memory: UserMemory
    repeats: int


class OpenWindows(Protocol):
    """The open windows of a shard of users."""

    events: pa.RecordBatch
    """EVENTS that are settled, and may yet be part of a row."""

    def ticks(self, times: Ints, frontier: int) -> Ints:
        """When to wake up for events of these times that arrive now, epoch milliseconds."""

    def fire(self, recall: Recall, arrived: pa.RecordBatch, frontier: int, upto: int) -> Fired:
        """Tell windows that end at `upto` or before, and revise those that ended by `frontier`.

        Args:
            recall: looks up what is remembered.
            arrived: EVENTS that were settled since, late ones too.
            frontier: the tick before.
            upto: this tick; not before the last one.
        """

    def skip(self, arrived: list[bytes], upto: int) -> None:
        """Hold what `fire` would, without telling anything; batches as `encode` gives them."""


def open_windows_for(config: FeatureConfig) -> OpenWindows:
    """What holds the events of a kind of window."""
    if config.window.kind == "session":
        return _Sessions(config)
    if config.window.overlap == 1:
        return _Fixed(config)
    return _Sliding(config)


def _none() -> pa.RecordBatch:
    return concat([], EVENTS)


@dataclass
class _Fixed:
    """Windows that share no event: all that has arrived is told, and nothing is held."""

    config: FeatureConfig
    events: pa.RecordBatch = field(default_factory=_none)

    def ticks(self, times: Ints, frontier: int) -> Ints:
        """See `OpenWindows`."""
        return np.unique(TimerGrid.of(self.config.window).after(times))

    def fire(self, recall: Recall, arrived: pa.RecordBatch, frontier: int, upto: int) -> Fired:
        """See `OpenWindows`."""
        rows, memory, repeats = rows_and_memory(recall(arrived), arrived, self.config)
        return Fired([rows], memory, repeats)

    def skip(self, arrived: list[bytes], upto: int) -> None:
        """See `OpenWindows`."""


@dataclass
class _Sliding:
    """Windows that share events: an event is held until the last of its windows is told."""

    config: FeatureConfig
    events: pa.RecordBatch = field(default_factory=_none)

    def ticks(self, times: Ints, frontier: int) -> Ints:
        """See `OpenWindows`."""
        window = self.config.window
        first = np.unique(TimerGrid.of(window).after(times))
        ends = np.unique(np.add.outer(first, np.arange(window.overlap) * window.period_ms))
        return ends[(ends > frontier) | np.isin(ends, first)]

    def fire(self, recall: Recall, arrived: pa.RecordBatch, frontier: int, upto: int) -> Fired:
        """See `OpenWindows`."""
        arrived, repeats = _without_repeats(arrived)
        rows = self._revised(recall, arrived, frontier)
        together = join_batches([self.events, arrived])
        if upto > frontier and together.num_rows:
            rows.append(
                rows_of_ended_windows(recall(together), together, self.config, (frontier, upto))
            )
        open_still = self._open(together, upto)
        done = together.filter(pa.array(~open_still))
        memory = (
            updated_memory(recall(done), done, self.config) if done.num_rows else UserMemory.empty()
        )
        self.events = compact_dictionaries(together.filter(pa.array(open_still)))
        return Fired(rows, memory, repeats)

    def _revised(self, recall: Recall, arrived: pa.RecordBatch, frontier: int) -> list[FeatureRows]:
        """Rows of windows that were told, of late events alone."""
        times = as_int64(arrived.column("event_time"))
        late = arrived.filter(pa.array(first_end(times, self.config.window) <= frontier))
        if not late.num_rows:
            return []
        theirs = self.events.filter(_of_users(self.events, late))
        memory = recall(join_batches([theirs, late]))
        if theirs.num_rows:
            memory = updated_memory(memory, theirs, self.config)
        told = (frontier - self.config.allowed_lateness - 1, frontier)
        return [rows_of_ended_windows(memory, late, self.config, told)]

    def skip(self, arrived: list[bytes], upto: int) -> None:
        """See `OpenWindows`."""
        new, _ = _without_repeats(join_batches(map(decode, arrived)))
        together = join_batches([self.events, new])
        self.events = compact_dictionaries(together.filter(pa.array(self._open(together, upto))))

    def _open(self, events: pa.RecordBatch, upto: int) -> Flags:
        """`[n]` which events a window that ends after `upto` holds."""
        window = self.config.window
        next_end = int(TimerGrid.of(window).after(np.array([upto]))[0])
        return as_int64(events.column("event_time")) >= next_end - window.size_ms


@dataclass
class _Sessions:
    """Runs of a user's events with gaps under `size_ms`, each told once it has ended."""

    config: FeatureConfig
    events: pa.RecordBatch = field(default_factory=_none)

    def ticks(self, times: Ints, frontier: int) -> Ints:
        """See `OpenWindows`."""
        window = self.config.window
        return np.unique(TimerGrid.of(window).at_or_after(first_end(times, window)))

    def fire(self, recall: Recall, arrived: pa.RecordBatch, frontier: int, upto: int) -> Fired:
        """See `OpenWindows`."""
        ended, repeats = self._part(arrived, upto)
        if not ended.num_rows:
            return Fired([], UserMemory.empty(), repeats)
        rows, memory, more = rows_and_memory(
            recall(ended), ended, self.config
        )  # of what was held, too
        return Fired([rows], memory, repeats + more)

    def skip(self, arrived: list[bytes], upto: int) -> None:
        """See `OpenWindows`."""
        self._part(join_batches(map(decode, arrived)), upto)

    def _part(self, arrived: pa.RecordBatch, upto: int) -> tuple[pa.RecordBatch, int]:
        """Hold the events of sessions that go on; (those of sessions that have ended, repeats)."""
        arrived, repeats = _without_repeats(arrived)
        together = join_batches([self.events, arrived])
        ended = _ended(together, self.config.window.size_ms, upto)
        self.events = (
            compact_dictionaries(together.filter(pa.array(~ended))) if ended.any() else together
        )
        return together.filter(pa.array(ended)), repeats


def _ended(events: pa.RecordBatch, gap_ms: int, upto: int) -> Flags:
    """`[n]` which events belong to a session that ends at `upto` (ms) or before."""
    user, _ = encode_column(events.column("user_id"))
    time = as_int64(events.column("event_time"))
    order = order_by(user, time - time.min(initial=0) if len(time) else time)
    begins = run_starts(user[order])
    begins[1:] |= np.diff(time[order]) >= gap_ms
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(order)) - 1
    ended = np.zeros(len(order), bool)
    if len(order):
        over = time[order][last] + gap_ms <= upto
        ended[order] = over[np.cumsum(begins) - 1]
    return ended


def _of_users(events: pa.RecordBatch, others: pa.RecordBatch) -> pa.Array:
    """`[n]` which events are of a user of the others."""
    users = others.column("user_id")
    if pa.types.is_dictionary(users.type):
        users = users.dictionary_decode()
    return pc.is_in(events.column("user_id").cast(pa.string()), users)


def _without_repeats(events: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
    """EVENTS → (those that count, how many came with the same id, user and instant before)."""
    user, _ = encode_column(events.column("user_id"), ordered=True)
    kept = user_order(events, user)
    if len(kept) == events.num_rows:
        return events, 0
    return events.take(pa.array(kept)), events.num_rows - len(kept)
