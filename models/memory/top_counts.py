"""The rows with the largest decayed counts, without looking at all of them."""

import numpy as np
from numpy.typing import NDArray

from models.memory.decayed_counts import DecayedCounts

__all__ = ["TopCounts"]

Rows = NDArray[np.int64]


class TopCounts:
    """A pool that always holds the `k` rows with the largest sums in one column.

    Sums only grow (decay is forward) until they are set to nothing or all scaled, so a
    row outside the pool enters it when it is touched, and never else. Which rows are
    the largest k is a function of the sums alone: nothing here needs to be saved.

    Args:
        counts: the sums.
        column: which half-life.
        k: how many are asked for; between 2·k and 8·k are held.
    """

    def __init__(self, counts: DecayedCounts, column: int, k: int) -> None:
        self._counts, self._column, self._k = counts, column, max(k, 1)
        self._rows: Rows = np.zeros(0, np.int64)
        self._floor: tuple[float, int] | None = None  # sum and row of the last that is in
        self._landmark: float | None = None

    def touch(self, rows: NDArray[np.integer]) -> None:
        """Rows whose sums grew, or were set to nothing."""
        if self._floor is None or self._moved():
            return
        value, last = self._floor
        sums = self._sums(rows)
        inside = (sums > value) | ((sums == value) & (rows <= last))
        self._rows = np.union1d(self._rows, rows[inside]).astype(np.int64)
        if len(self._rows) > 8 * self._k:
            self._keep(self._rows)

    def drop(self, rows: NDArray[np.integer]) -> None:
        """Rows that were recycled."""
        self._rows = np.setdiff1d(self._rows, rows, assume_unique=False)

    def rows(self) -> Rows:
        """The pool, ascending: whatever the largest k are, they are among them."""
        if self._floor is None or self._moved() or len(self._rows) < self._k:
            self._keep(np.flatnonzero(self._counts.sums[:, self._column] > 0))
            self._landmark = float(self._counts.landmarks[self._column])
        return self._rows

    def _moved(self) -> bool:
        """Whether all sums were scaled since."""
        return self._landmark != float(self._counts.landmarks[self._column])

    def _sums(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        return self._counts.sums[rows, self._column]

    def _keep(self, rows: Rows) -> None:
        """Of `rows` the 2·k first by (largest sum, lowest row), and the floor that follows."""
        if len(rows) <= 2 * self._k:
            self._rows, self._floor = rows, (0.0, 0)
            return
        sums = self._sums(rows)
        edge = np.partition(sums, len(sums) - 2 * self._k)[len(sums) - 2 * self._k]
        above, level = rows[sums > edge], rows[sums == edge]
        level = level[: 2 * self._k - len(above)]
        self._rows, self._floor = np.union1d(above, level), (float(edge), int(level[-1]))
