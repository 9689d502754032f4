"""Which items' published counts have faded too far to stand beside fresh ones."""

import numpy as np
from numpy.typing import NDArray

from models.row_arrays import NEVER

__all__ = ["StaleCounts"]

_HOUR_MS = 3_600_000
Rows = NDArray[np.integer]
Times = NDArray[np.int64]


class StaleCounts:
    """A calendar of item rows: when each is to be published again.

    An untouched item's counts decay; it is due when the time since it was last
    published reaches half the time since its last event, but not within half the shortest
    half-life. So an item costs a few rows after each event, whatever the number of
    micro-batches; after four times the longest half-life it is left alone. To ask costs
    what is due, not what exists. Everything follows from the times that are passed in:
    nothing here needs to be saved.

    Args:
        half_lives_h: hours, ascending.
    """

    def __init__(self, half_lives_h: tuple[float, ...]) -> None:
        self._rest = int(half_lives_h[0] * _HOUR_MS / 2)
        self._forget = 4 * half_lives_h[-1] * _HOUR_MS
        self._days: dict[int, list[Rows]] = {}

    def note(self, rows: Rows, last: Times, published: Times) -> None:
        """Enter rows by the times of their last event and publication (epoch ms)."""
        held = (last > NEVER) & (published > NEVER)
        rows, last, published = rows[held], last[held], published[held]
        day = self._due_at(last, published) // max(self._rest, 1)
        order = np.argsort(day, kind="stable")
        starts = np.flatnonzero(np.diff(day[order], prepend=NEVER))
        for part in np.split(order, starts[1:]) if len(order) else ():
            self._days.setdefault(int(day[part[0]]), []).append(rows[part])

    def take(self, now: int, last: Times, published: Times, limit: int) -> Rows:
        """The rows due at `now`, at most `limit`: those published longest ago, then the lower.

        Args:
            now: epoch ms.
            last: `[items]` last event of every row; published: `[items]`.
            published: see `last`.
            limit: the others stay due.
        """
        today = now // max(self._rest, 1)
        past = [day for day in self._days if day <= today]
        found = [rows for day in past for rows in self._days.pop(day)]
        if not found:
            return np.zeros(0, np.int64)
        rows = np.unique(np.concatenate(found))
        rows = rows[(last[rows] > NEVER) & (now - last[rows] < self._forget)]
        due = self._due_at(last[rows], published[rows]) <= now
        ready, later = rows[due], rows[~due]
        ready = ready[np.lexsort((ready, published[ready]))]
        for rest in (ready[limit:], later):
            self.note(rest, last[rest], published[rest])
        return ready[:limit]

    def _due_at(self, last: Times, published: Times) -> Times:
        """First moment t with t - published >= max((t - last) // 2, half the half-life)."""
        return np.maximum(2 * published - last - 1, published + self._rest)
