"""A simulation that is played: when each line is due, and what time its event then has.

Lines leave one after another at an even rate, in their order of arrival. That
gives simulated time a course by the clock, and events take their times from it:
what happened in a quiet night passes quickly. Order, repeats and lateness stay
as they were simulated; only the pauses between events are others.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.arrow.columns import Ints, as_int64
from pipelines.clock import wall_clock_ms
from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.entities import DAY_MS

__all__ = ["Clock", "Pace", "slices", "with_times"]

_SLICE_MS = 20


@dataclass(frozen=True)
class Clock:
    """The time, and how to wait; arguments, so that a test needs neither."""

    now_ms: Callable[[], int] = wall_clock_ms
    sleep: Callable[[float], None] = time.sleep


@dataclass
class Pace:
    """The course of simulated time by the clock.

    Attributes:
        rate: lines a second.
        begin_ms: when the first one is due, epoch milliseconds.
        memory_ms: simulated time that a line may lie behind its event.
    """

    rate: float
    begin_ms: int
    memory_ms: int
    _lines: int = 0
    _simulated: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    _due: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def due(self, arrival: Ints) -> npt.NDArray[np.float64]:
        """Simulated arrivals `[n]`, ascending, none before an earlier call's → ms by the clock."""
        order = self._lines + np.arange(len(arrival), dtype=np.float64)
        due: npt.NDArray[np.float64] = self.begin_ms + order * (1_000 / self.rate)
        self._lines += len(arrival)
        oldest = (int(arrival[0]) if len(arrival) else 0) - self.memory_ms
        kept = max(int(np.searchsorted(self._simulated, oldest)) - 1, 0)
        self._simulated = np.append(self._simulated[kept:], arrival)
        self._due = np.append(self._due[kept:], due)
        return due

    def by_clock(self, simulated: Ints) -> Ints:
        """Simulated instants `[n]` up to the last arrival → epoch milliseconds `[n]`."""
        if not len(self._due):
            return np.full(len(simulated), self.begin_ms)
        return np.interp(simulated, self._simulated, self._due).astype(np.int64)


def with_times(table: pa.Table, column: str, spec: SimulationSpec, pace: Pace) -> pa.Table:
    """The table with simulated times where an even course of the whole stream would put them."""
    at = table.schema.get_field_index(column)
    speed = spec.days * DAY_MS / (spec.events * 1_000 / pace.rate)
    since = as_int64(table.column(column).combine_chunks()) - spec.start_ms
    moved = pa.array((pace.begin_ms + since / speed).astype(np.int64))
    named = table.schema.field(at)
    return table.set_column(at, named, moved.cast(named.type))


def slices(due: npt.NDArray[np.float64], clock: Clock) -> Iterator[tuple[int, int]]:
    """Wait until lines `[n]` are due (ms by the clock, ascending); (from, to) of those that are."""
    start = 0
    while start < len(due):
        now = clock.now_ms()
        stop = int(np.searchsorted(due, now, side="right"))
        if stop > start:
            yield start, stop
            start = stop
        else:
            clock.sleep(max(float(due[start]) - now, _SLICE_MS) / 1_000)
