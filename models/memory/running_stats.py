"""Running means of what the ranking heads predict, by row: shrunk, and against the whole."""

import numpy as np
from numpy.typing import NDArray

from models.row_arrays import Column, RowArrays

__all__ = ["PRIOR", "RunningStats", "ShrunkMeans"]

PRIOR = 5.0
"""Observations that the overall mean is worth beside a row's own."""

_USUAL, _ODD = 100.0, 10.0  # from so many observations on: standard deviations that count in full

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]


class ShrunkMeans(RowArrays):
    """Means per row that are worth something from the first observation on.

    Args:
        heads: columns.
        size: rows at first.
    """

    sums = Column(np.float64, "heads")
    n = Column(np.float64, "heads")

    def __init__(self, heads: int, size: int) -> None:
        super().__init__(size, heads=heads)

    def add(self, rows: Rows, values: Floats, counted: Floats) -> None:
        """Add sums `[m, heads]` of values, and how many they are of, to `rows` `[m]`."""
        np.add.at(self.sums, rows, values)
        np.add.at(self.n, rows, counted)

    def shrunk(self, rows: Rows, prior: Floats) -> Floats:
        """Means `[n, heads]` of `rows` `[n]`, as if `PRIOR` more had been what `prior` says.

        Args:
            rows: may repeat.
            prior: `[heads]`, or `[n, heads]`.
        """
        return (self.sums[rows] + PRIOR * prior) / (self.n[rows] + PRIOR)


class RunningStats(ShrunkMeans):
    """Running means of the ranking heads' targets, per row and over all.

    Columns are heads: first the binary ones, then those with a real value.

    Args:
        binary: number of binary heads.
        real: number of heads with a real value.
        size: rows at first.
    """

    total = Column(np.float64, 3, "heads", by_row=False)  # n, sum, sum of squares

    def __init__(self, binary: int, real: int, size: int) -> None:
        super().__init__(binary + real, size)
        self.binary = binary

    def update(
        self, rows: Rows, targets: Floats, present: NDArray[np.bool_], weight: float = 1.0
    ) -> None:
        """Add targets `[n, heads]` where they are `present`, each as `weight` observations.

        A value that is absurd beside what was seen before counts as one that is merely odd:
        what is kept never fades, and one of them would stand for all.
        """
        known = ~self._is_binary() & (self.total[0] >= _USUAL)
        mean, odd = self.mean(), np.where(known, _ODD * self.spread(), np.inf)
        values = np.clip(targets, mean - odd, mean + odd)
        values = np.where(present, weight * values, 0.0)
        counted = weight * present.astype(float)
        self.add(rows, values, counted)
        squares = np.where(present, values**2 / weight, 0.0)
        self.total += [counted.sum(axis=0), values.sum(axis=0), squares.sum(axis=0)]

    def mean(self) -> Floats:
        """Overall mean per head; of a binary one a rate, kept off 0 and 1."""
        n, total, _ = self.total
        mean = np.where(n > 0, total / np.maximum(n, 1.0), 0.0)
        rate = (total + 0.5) / (n + 1.0)
        return np.where(self._is_binary(), rate, mean)

    def _is_binary(self) -> NDArray[np.bool_]:
        return np.arange(self.total.shape[1]) < self.binary

    def spread(self) -> Floats:
        """Overall standard deviation per head, 1 where none is known; binary heads: 1."""
        n, total, squares = self.total
        variance = squares / np.maximum(n, 1.0) - (total / np.maximum(n, 1.0)) ** 2
        real = ~self._is_binary() & (n > 1) & (variance > 1e-6)
        return np.where(real, np.sqrt(np.maximum(variance, 1e-6)), 1.0)

    def shift(self) -> Floats:
        """What a head starts from: the log-odds of a rate, the mean of a value."""
        mean = self.mean()
        return np.where(self._is_binary(), _log_odds(mean), mean)

    def stats(self, rows: Rows, prior: Floats | None = None) -> Floats:
        """`[n, 2·heads]`: each mean against the overall one, shrunk; ln(1 + n) / 4.

        A rate is given as a difference of log-odds, a value in standard deviations.

        Args:
            rows: `[n]`.
            prior: `[n, heads]` what the means are drawn to; the overall ones by default.
        """
        mean = self.mean()
        rate = self.shrunk(rows, mean if prior is None else prior)
        odds = _log_odds(rate) - np.where(self._is_binary(), _log_odds(mean), mean)
        value = (rate - mean) / self.spread()
        first = np.where(self._is_binary(), odds, value)
        return np.concatenate([first, np.log1p(self.n[rows]) / 4.0], axis=1)


def _log_odds(rate: Floats) -> Floats:
    p = np.clip(rate, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))
