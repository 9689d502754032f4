"""Counts of pairs (left, right), sparse, bounded and optionally decaying."""

import numpy as np
from numpy.typing import NDArray

from models.memory.decayed_counts import MS_PER_H
from models.row_arrays import Arrays

__all__ = ["PairCounts"]


class PairCounts:
    """Weight of each pair of non-negative int32, as sorted int64 keys.

    New pairs go to a short array that is folded into the long one now and
    then, so that adding costs what is added.

    Args:
        limit: pairs kept; the lightest go first.
        half_life_h: hours in which a weight halves; None for no decay.
    """

    def __init__(self, limit: int, half_life_h: float | None = None) -> None:
        self._limit = limit
        self._half_life_h = half_life_h
        self._landmark = 0  # weights are kept as of this time (forward decay)
        self._keys = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
        self._weights = [np.zeros(0), np.zeros(0)]

    def __len__(self) -> int:
        return sum(map(len, self._keys))

    def add(
        self,
        left: NDArray[np.integer],
        right: NDArray[np.integer],
        weight: NDArray[np.float64],
        now_ms: int,
    ) -> None:
        """Add `weight` `[n]`, observed at `now_ms`, to the pairs."""
        if not len(left):
            return
        if self._half_life_h is not None:
            weight = weight * self._growth(now_ms)
        keys, inverse = np.unique(
            (left.astype(np.int64) << 32) | right.astype(np.int64), return_inverse=True
        )
        sums = np.bincount(inverse, weight, len(keys))
        for held, kept in zip(self._keys, self._weights, strict=True):
            if len(held):
                at = np.minimum(np.searchsorted(held, keys), len(held) - 1)
                same = held[at] == keys
                kept[at[same]] += sums[same]
                keys, sums = keys[~same], sums[~same]
        at = np.searchsorted(self._keys[1], keys)
        self._keys[1] = np.insert(self._keys[1], at, keys)
        self._weights[1] = np.insert(self._weights[1], at, sums)
        if len(self._keys[1]) > max(4_096, len(self._keys[0]) // 8):
            self._merge()

    def _growth(self, now_ms: int) -> float:
        """Weight of an event now as of the landmark, which moves before it overflows."""
        half_lives = (now_ms - self._landmark) / (float(self._half_life_h or 1) * MS_PER_H)
        if half_lives > 40.0:
            fade = 2.0 ** -min(half_lives, 1_000.0)
            self._weights = [kept * fade for kept in self._weights]
            self._landmark, half_lives = now_ms, 0.0
        return float(2.0**half_lives)

    def _merge(self) -> None:
        keys, weights = np.concatenate(self._keys), np.concatenate(self._weights)
        if len(keys) > self._limit:
            kept = np.lexsort((keys, -weights))[: self._limit - self._limit // 8]
            keys, weights = keys[kept], weights[kept]
        order = np.argsort(keys, kind="stable")
        self._keys = [keys[order], np.zeros(0, np.int64)]
        self._weights = [weights[order], np.zeros(0)]

    def of(self, left: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Partners of `left` and their weights as of the landmark (relative to each other)."""
        parts = []
        for keys, kept in zip(self._keys, self._weights, strict=True):
            first, last = np.searchsorted(keys, [left << 32, (left + 1) << 32])
            parts.append(((keys[first:last] & 0xFFFFFFFF).astype(np.int32), kept[first:last]))
        return (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
        )

    def of_each(
        self, lefts: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]:
        """Partners of every one of `lefts` `[n]` (may repeat).

        Returns:
            `[m]` position in `lefts`, `[m]` partner, `[m]` weight as `of` gives it; by
            position only within each of the two arrays.
        """
        wide = lefts.astype(np.int64)
        parts = []
        for keys, kept in zip(self._keys, self._weights, strict=True):
            first = np.searchsorted(keys, wide << 32)
            size = np.searchsorted(keys, (wide + 1) << 32) - first
            owner = np.repeat(np.arange(len(wide)), size)
            at = np.repeat(first - np.cumsum(size) + size, size) + np.arange(len(owner))
            parts.append((owner, (keys[at] & 0xFFFFFFFF).astype(np.int32), kept[at]))
        owner, partner, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
        return owner, partner, weight

    def drop(self, rows: NDArray[np.integer], *, left: bool, right: bool) -> None:
        """Forget the pairs in which one of `rows` stands on the side(s) named."""
        self._merge()
        keys = self._keys[0]
        gone = np.zeros(len(keys), bool)
        if left:
            gone |= np.isin(keys >> 32, rows)
        if right:
            gone |= np.isin(keys & 0xFFFFFFFF, rows)
        self._keys[0], self._weights[0] = keys[~gone], self._weights[0][~gone]

    def scale(self, now_ms: int) -> float:
        """Factor from weights as of the landmark to weights as of `now_ms`."""
        if self._half_life_h is None:
            return 1.0
        return float(2.0 ** -((now_ms - self._landmark) / (self._half_life_h * MS_PER_H)))

    def arrays(self) -> Arrays:
        """State for `load`."""
        return {
            "keys_0": self._keys[0],
            "keys_1": self._keys[1],
            "weights_0": self._weights[0],
            "weights_1": self._weights[1],
            "landmark": np.array(self._landmark, np.int64),
        }

    def load(self, arrays: Arrays) -> None:
        """Put back what `arrays` gave."""
        self._keys = [arrays["keys_0"].astype(np.int64), arrays["keys_1"].astype(np.int64)]
        self._weights = [arrays["weights_0"].astype(float), arrays["weights_1"].astype(float)]
        self._landmark = int(arrays["landmark"])
