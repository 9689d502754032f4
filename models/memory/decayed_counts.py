"""What a stream says of an item or a user so far: decayed counts, running means.

Decay is forward (Cormode et al., ICDE 2009): an event at t adds 2**((t - L)/h)
to a sum kept as of a landmark L, so nothing is touched but what an event is
about; L moves before the sums overflow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecayedCounts", "ItemStream", "RunningStats", "grown"]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]
_MS_PER_H = 3_600_000.0
_USUAL, _ODD = 100.0, 10.0  # from so many observations on: standard deviations that count in full
_FLOOR = 0.02  # events: below it a decayed count is as good as none
_NEVER = np.iinfo(np.int64).min


def grown(array: NDArray[Any], size: int, fill: float = 0) -> NDArray[Any]:
    """`array` with its first axis padded to `size` rows of `fill`."""
    if len(array) >= size:
        return array
    extra = np.full((size - len(array), *array.shape[1:]), fill, array.dtype)
    return np.concatenate([array, extra])


class DecayedCounts:
    """Counts per row at several half-lives; `inf` for no decay.

    Args:
        half_lives_h: hours.
        size: rows at first.
    """

    def __init__(self, half_lives_h: Sequence[float], size: int) -> None:
        self.half_lives_h = np.asarray(half_lives_h, float)
        self.sums = np.zeros((size, len(half_lives_h)))
        self.landmarks = np.zeros(len(half_lives_h))  # epoch ms

    def _age(self, now_ms: Any) -> Floats:
        since = np.asarray(now_ms, float)[..., None] - self.landmarks
        return np.asarray(since / (self.half_lives_h * _MS_PER_H))

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


class ItemStream:
    """Stream features F of items (names: `ModelConfig.stream_features`).

    Args:
        half_lives_h: hours, of the decayed counts.
        size: rows at first.
    """

    def __init__(self, half_lives_h: Sequence[float], size: int) -> None:
        self.counts = DecayedCounts((*half_lives_h, np.inf), size)
        self.dislikes = np.zeros(size)
        self.first = np.full(size, _NEVER, np.int64)  # published, or first seen; epoch ms
        self.last = np.full(size, _NEVER, np.int64)

    def grow(self, size: int) -> None:
        """Make room for rows below `size`."""
        self.counts.sums = grown(self.counts.sums, size)
        self.dislikes = grown(self.dislikes, size)
        self.first = grown(self.first, size, _NEVER)
        self.last = grown(self.last, size, _NEVER)

    def reset(self, rows: Rows) -> None:
        """Forget rows that were recycled."""
        self.counts.sums[rows] = 0.0
        self.dislikes[rows] = 0.0
        self.first[rows] = self.last[rows] = _NEVER

    def update(self, rows: Rows, wanted: Floats, disliked: Floats, times: Rows) -> None:
        """Count a micro-batch: `wanted` and `disliked` weights `[n]` of `rows` at `times`."""
        self.counts.add(rows, wanted, times)
        np.add.at(self.dislikes, rows, disliked)
        np.maximum.at(self.last, rows, times)
        new = self.first[rows] == _NEVER
        order = np.argsort(-times[new], kind="stable")  # the earliest is written last
        self.first[rows[new][order]] = times[new][order]

    def seen(self, rows: Rows | slice = slice(None)) -> Floats:
        """Wanted events of items so far, `[n]`, without decay."""
        return self.counts.sums[rows, -1]

    def features(self, now_ms: int, rows: Rows | slice = slice(None)) -> NDArray[np.float32]:
        """F as of `now_ms`, `[n, features]` float32, always finite."""
        counts = self.counts.at(now_ms, rows)
        ever = counts[:, -1]
        dislikes = self.dislikes[rows]
        return np.column_stack(
            [
                np.log(counts + _FLOOR),
                _elapsed(self.first[rows], now_ms, 0.0),
                _elapsed(self.last[rows], now_ms, 100_000.0),
                np.log((dislikes + 0.5) / (ever + dislikes + 2.5)) + np.log(5.0),
            ]
        ).astype(np.float32)


def _elapsed(since: NDArray[np.int64], now_ms: int, never_h: float) -> Floats:
    """ln(1 + hours) / 4; `never_h` hours where nothing happened yet."""
    hours = np.where(since == _NEVER, never_h, np.maximum(now_ms - since, 0) / _MS_PER_H)
    return np.log1p(hours) / 4.0


class RunningStats:
    """Running means of the ranking heads' targets, per row and over all.

    Columns are heads: first the binary ones, then those with a real value.

    Args:
        binary: number of binary heads.
        real: number of heads with a real value.
        size: rows at first.
    """

    SHRINK = 5.0  # observations that the overall mean is worth

    def __init__(self, binary: int, real: int, size: int) -> None:
        self.binary = binary
        self.sums = np.zeros((size, binary + real))
        self.n = np.zeros((size, binary + real))
        self.total = np.zeros((3, binary + real))  # n, sum, sum of squares

    def grow(self, size: int) -> None:
        """Make room for rows below `size`."""
        self.sums, self.n = grown(self.sums, size), grown(self.n, size)

    def reset(self, rows: Rows) -> None:
        """Forget rows that were recycled; what they added to the whole stays."""
        self.sums[rows] = self.n[rows] = 0.0

    def update(
        self, rows: Rows, targets: Floats, present: NDArray[np.bool_], weight: float = 1.0
    ) -> None:
        """Add targets `[n, heads]` where they are `present`, each as `weight` observations.

        A value that is absurd beside what was seen before counts as one that is merely odd:
        what is kept never fades, and one of them would stand for all.
        """
        known = (np.arange(len(self.total[0])) >= self.binary) & (self.total[0] >= _USUAL)
        odd = np.where(known, _ODD * self.spread(), np.inf)
        values = np.clip(targets, self.mean() - odd, self.mean() + odd)
        values = np.where(present, weight * values, 0.0)
        counted = weight * present
        np.add.at(self.sums, rows, values)
        np.add.at(self.n, rows, counted)
        squares = np.where(present, values**2 / weight, 0.0)
        self.total += [counted.sum(axis=0), values.sum(axis=0), squares.sum(axis=0)]

    def mean(self) -> Floats:
        """Overall mean per head; of a binary one a rate, kept off 0 and 1."""
        n, total, _ = self.total
        mean = np.where(n > 0, total / np.maximum(n, 1.0), 0.0)
        rate = (total + 0.5) / (n + 1.0)
        return np.where(np.arange(len(n)) < self.binary, rate, mean)

    def spread(self) -> Floats:
        """Overall standard deviation per head, 1 where none is known; binary heads: 1."""
        n, total, squares = self.total
        variance = squares / np.maximum(n, 1.0) - (total / np.maximum(n, 1.0)) ** 2
        real = (np.arange(len(n)) >= self.binary) & (n > 1) & (variance > 1e-6)
        return np.where(real, np.sqrt(np.maximum(variance, 1e-6)), 1.0)

    def shift(self) -> Floats:
        """What a head starts from: the log-odds of a rate, the mean of a value."""
        mean = self.mean()
        p = np.clip(mean, 1e-6, 1 - 1e-6)
        return np.where(np.arange(len(mean)) < self.binary, np.log(p / (1 - p)), mean)

    def shrunk(self, rows: Rows | slice, prior: Floats | None = None) -> Floats:
        """Means `[n, heads]`, as if `SHRINK` more had been what `prior` says, or the overall one.

        Args:
            rows: `[n]`.
            prior: `[n, heads]`.
        """
        whole = self.mean() if prior is None else prior
        return (self.sums[rows] + self.SHRINK * whole) / (self.n[rows] + self.SHRINK)

    def stats(self, rows: Rows | slice, prior: Floats | None = None) -> Floats:
        """`[n, 2·heads]`: each mean against the overall one, shrunk; ln(1 + n) / 4.

        A rate is given as a difference of log-odds, a value in standard deviations.

        Args:
            rows: `[n]`.
            prior: see `shrunk`.
        """
        mean, spread = self.mean(), self.spread()
        n, rate = self.n[rows], self.shrunk(rows, prior)
        p = np.clip(rate, 1e-6, 1 - 1e-6)
        odds = np.log(p / (1 - p)) - self.shift()
        value = (rate - mean) / spread
        first = np.arange(len(mean)) < self.binary
        return np.concatenate([np.where(first, odds, value), np.log1p(n) / 4.0], axis=1)
