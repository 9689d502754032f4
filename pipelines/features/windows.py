"""How event time is cut into windows: pure functions on whole columns.

Sliding windows of a size and a period are `overlap` layers of disjoint ones,
so that every kind of window comes down to the same thing: a layer gives each
instant the number of its window, or none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.arrow.columns import Ints, run_starts
from pipelines.config import WindowSpec

__all__ = ["NO_WINDOW", "Layer", "layers"]

NO_WINDOW = -1


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Disjoint windows, numbered in the order of time within a user.

    Attributes:
        of_event: `[n]` number of the window of each event, or NO_WINDOW.
        of_dwell: `[n]` number of the window in which the dwell of each event
            was observed, or NO_WINDOW; without meaning where none was.
        bounds: numbers `[k]` → starts `[k]` and ends `[k]`, ms since the epoch.
    """

    of_event: Ints
    of_dwell: Ints
    bounds: Callable[[Ints], tuple[Ints, Ints]]


def layers(
    window: WindowSpec,
    *,
    user: npt.NDArray[np.int32],
    time: Ints,
    known_at: Ints,
    counted: npt.NDArray[np.bool_],
    ended: tuple[int, int] | None = None,
) -> Iterator[Layer]:
    """The layers of a window specification over events `[n]` in user order.

    Args:
        window: how to cut.
        user: users' codes, contiguous.
        time: event times, ms since the epoch, ascending within a user.
        known_at: when the event's dwell was observed: the time of the next event.
        counted: whether the event is an observation itself (and not a memory).
        ended: of windows that are no sessions, only those that end after the first instant
            and not after the second, ms since the epoch; None for all.
    """
    if window.kind == "session":
        yield _sessions(window.size_ms, user, time, counted)
        return
    tile = window.overlap * window.period_ms
    for offset in range(0, tile, window.period_ms):
        # The numbers of the windows that are asked for: first < number <= last.
        first, last = ((at - window.size_ms - offset) // tile for at in ended or (0, 0))
        if ended is None or first < last:
            yield _tiles(window.size_ms, tile, offset, time, known_at, ended and (first, last))


def _tiles(
    size: int, tile: int, offset: int, time: Ints, known_at: Ints, some: tuple[int, int] | None
) -> Layer:
    def numbers(times: Ints) -> Ints:
        found = (times - offset) // tile
        outside = np.zeros(len(times), bool)
        if size < tile:  # windows of this layer leave gaps, which other layers cover
            outside = times - (found * tile + offset) >= size
        if some is not None:
            outside |= (found <= some[0]) | (found > some[1])
        found[outside] = NO_WINDOW
        return found

    def bounds(found: Ints) -> tuple[Ints, Ints]:
        starts = found * tile + offset
        return starts, starts + size

    return Layer(of_event=numbers(time), of_dwell=numbers(known_at), bounds=bounds)


def _sessions(
    gap: int, user: npt.NDArray[np.int32], time: Ints, counted: npt.NDArray[np.bool_]
) -> Layer:
    events = np.flatnonzero(counted)
    moments = time[events]
    begins = run_starts(user[events])
    begins[1:] |= np.diff(moments) >= gap
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(events)) - 1
    number = np.full(len(time), NO_WINDOW, np.int64)
    number[events] = np.cumsum(begins) - 1
    following = np.append(number[1:], NO_WINDOW)  # dwell is observed by the next event

    def bounds(found: Ints) -> tuple[Ints, Ints]:
        return moments[first[found]], moments[last[found]] + gap

    return Layer(of_event=number, of_dwell=following, bounds=bounds)
