"""When the live stages wake up: at event-time ticks, the ends of windows."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.columns import Ints, as_int64
from pipelines.config import WindowSpec
from pipelines.errors import RequestError
from pipelines.pieces import compact, take

__all__ = ["by_tick", "check_window", "tick_of"]


def check_window(window: WindowSpec) -> None:
    """Refuse windows that the live path does not fire.

    Raises:
        RequestError: sliding or session windows.
    """
    if window.kind != "fixed":
        raise RequestError(
            f"a live run takes fixed windows, not {window.kind} ones; write --window fixed:60s, "
            "or read a bounded log (kafka://…?until=now on the default runner)"
        )


def tick_of(times: Ints, size_ms: int) -> npt.NDArray[np.int64]:
    """Event times `[n]` → the ends of their windows `[n]`, both epoch milliseconds.

    >>> tick_of(np.array([0, 59_999, 60_000]), 60_000).tolist()
    [60000, 60000, 120000]
    """
    return np.asarray((times // size_ms + 1) * size_ms)


def by_tick(events: pa.RecordBatch, size_ms: int) -> list[tuple[int, pa.RecordBatch]]:
    """EVENTS `[n]` → (end of the window, its events), in order of time."""
    ticks = tick_of(as_int64(events.column("event_time")), size_ms)
    found, which = np.unique(ticks, return_inverse=True)
    if len(found) == 1:
        return [(int(found[0]), compact(events))]
    order = np.argsort(which, kind="stable")
    moved = take(events, pa.array(order))
    ends = np.cumsum(np.bincount(which, minlength=len(found))).tolist()
    return [
        (tick, compact(moved.slice(start, end - start)))
        for tick, start, end in zip(found.tolist(), [0, *ends], ends, strict=False)
    ]
