"""When the live stages wake up: at event-time ticks, on a grid that the windows give.

Windows of a fixed length end on a grid of their own. A session ends at any
millisecond; it is told at the next tick of a grid that is fine against its gap.
Which rows there are, and in which batches, does not depend on the grid.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.arrow.columns import Ints, as_int64
from pipelines.arrow.partition import compact_dictionaries, take
from pipelines.config import WindowSpec

__all__ = ["TimerGrid", "by_tick", "first_end"]


@dataclass(frozen=True)
class TimerGrid:
    """Instants `offset_ms` + k · `step_ms`, since the epoch."""

    step_ms: int
    offset_ms: int = 0

    @classmethod
    def of(cls, window: WindowSpec) -> "TimerGrid":
        """The ticks at which windows are told.

        >>> TimerGrid.of(WindowSpec.parse("sliding:5s/2s"))
        TimerGrid(step_ms=2000, offset_ms=1000)
        """
        return cls(window.tick_ms, window.tick_offset_ms)

    @classmethod
    def of_rows(cls, window: WindowSpec) -> "TimerGrid":
        """Instants at which all rows are there whose windows have ended by then.

        >>> TimerGrid.of_rows(WindowSpec.parse("fixed:60s")).step_ms  # any instant will do
        1
        """
        return cls.of(window) if window.kind == "session" else cls(1)

    def after(self, times: Ints) -> npt.NDArray[np.int64]:
        """Event times `[n]` → the first tick after each `[n]`, epoch milliseconds.

        >>> TimerGrid(60_000).after(np.array([0, 59_999, 60_000])).tolist()
        [60000, 60000, 120000]
        """
        steps = (np.asarray(times) - self.offset_ms) // self.step_ms + 1
        return np.asarray(steps * self.step_ms + self.offset_ms)

    def at_or_after(self, times: Ints) -> npt.NDArray[np.int64]:
        """Instants `[n]` → the first tick that is not before each `[n]`, epoch milliseconds.

        >>> TimerGrid(60_000).at_or_after(np.array([0, 59_999, 60_000])).tolist()
        [0, 60000, 60000]
        """
        return self.after(np.asarray(times) - 1)


def first_end(times: Ints, window: WindowSpec) -> npt.NDArray[np.int64]:
    """Event times `[n]` → when the first window of each ends at the earliest `[n]`, epoch ms.

    >>> first_end(np.array([9_000]), WindowSpec.parse("sliding:5s/2s")).tolist()
    [11000]
    >>> first_end(np.array([9_000]), WindowSpec.parse("session:4s")).tolist()
    [13000]
    """
    if window.kind == "session":
        return np.asarray(times + window.size_ms)
    return TimerGrid.of(window).after(times)


def by_tick(events: pa.RecordBatch, grid: TimerGrid) -> list[tuple[int, pa.RecordBatch]]:
    """EVENTS `[n]` → (tick by which its events have to be settled, these), in order of time."""
    ticks = grid.after(as_int64(events.column("event_time")))
    found, which = np.unique(ticks, return_inverse=True)
    if len(found) == 1:
        return [(int(found[0]), compact_dictionaries(events))]
    order = np.argsort(which, kind="stable")
    moved = take(events, pa.array(order))
    ends = np.cumsum(np.bincount(which, minlength=len(found))).tolist()
    return [
        (tick, compact_dictionaries(moved.slice(start, end - start)))
        for tick, start, end in zip(found.tolist(), [0, *ends], ends, strict=False)
    ]
