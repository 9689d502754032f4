"""Counts of rows that fade with time.

Decay is forward (Cormode et al., ICDE 2009): an event at t adds 2**((t - L)/h)
to a sum kept as of a landmark L, so nothing is touched but what an event is
about; L moves before the sums overflow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.row_arrays import Column, RowArrays

__all__ = ["MS_PER_H", "DecayedCounts"]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]
MS_PER_H = 3_600_000.0


class DecayedCounts(RowArrays):
    """Counts per row at several half-lives; `inf` for no decay.

    Args:
        half_lives_h: hours.
        size: rows at first.
    """

    sums = Column(np.float64, "half_lives")
    landmarks = Column(np.float64, "half_lives", by_row=False)  # epoch ms

    def __init__(self, half_lives_h: Sequence[float], size: int) -> None:
        super().__init__(size, half_lives=len(half_lives_h))
        self.half_lives_h = np.asarray(half_lives_h, float)

    def _age(self, now_ms: Any) -> Floats:
        since = np.asarray(now_ms, float)[..., None] - self.landmarks
        return np.asarray(since / (self.half_lives_h * MS_PER_H))

    def add(self, rows: Rows, weights: Floats, times: Rows) -> None:
        """Add `weights` `[n]`, observed at `times` `[n]`, to `rows` `[n]` (may repeat)."""
        if not len(rows):
            return
        newest = times.max()
        far = self._age(newest) > 40.0
        if far.any():
            self.sums[:, far] *= 2.0 ** -np.minimum(self._age(newest)[far], 1_000.0)
            self.landmarks[far] = newest
        growth = 2.0 ** np.clip(self._age(times), -1_000.0, 41.0)
        np.add.at(self.sums, rows, weights[:, None] * growth)

    def at(self, now_ms: int, rows: Rows | slice = slice(None)) -> Floats:
        """Counts `[n, half-lives]` as of `now_ms`."""
        return self.sums[rows] * 2.0 ** -np.minimum(self._age(now_ms), 1_000.0)
