"""Which items a positive competes with, and how likely each was to be drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Negatives", "draw", "mask"]


@dataclass(frozen=True)
class Negatives:
    """Distinct item rows, ascending, padded with row 0."""

    rows: NDArray[np.int32]  # [k]
    correction: NDArray[np.float32]  # [k] −ln P(included); −1e9 on padding


def draw(
    weight: NDArray[np.float64],
    known: NDArray[np.bool_],
    size: int,
    hot_share: float,
    rng: np.random.Generator,
) -> Negatives:
    """The hottest items for certain, the rest a uniform sample of the others.

    Args:
        weight: `[items]` recent popularity; an item is hot above 0.
        known: `[items]` which rows may be drawn.
        size: how many.
        hot_share: of `size`, for the hottest.
        rng: decides the sample.
    """
    candidates = np.flatnonzero(known)
    hot = _hottest(candidates, weight[candidates], int(size * hot_share))
    others = candidates[~np.isin(candidates, hot, assume_unique=True)]
    room = size - len(hot)
    share = 1.0
    if len(others) > room:
        share = max(room, 1) / len(others)
        others = np.sort(rng.choice(others, room, replace=False, shuffle=False))
    rows = np.zeros(size, np.int32)
    correction = np.full(size, -1e9, np.float32)
    joined = np.concatenate([hot, others])
    cost = np.concatenate([np.zeros(len(hot)), np.full(len(others), -np.log(share))])
    order = np.argsort(joined, kind="stable")
    rows[size - len(joined) :] = joined[order]  # padding first: rows ascend
    correction[size - len(joined) :] = cost[order]
    return Negatives(rows, correction)


def _hottest(
    candidates: NDArray[np.int64], weight: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    active = weight > 1e-3
    candidates, weight = candidates[active], weight[active]
    if len(candidates) > k:
        # Ties at the edge fall to the lower row, so that the choice is a function of counts.
        edge = np.partition(weight, len(weight) - k)[len(weight) - k] if k else np.inf
        above, level = candidates[weight > edge], candidates[weight == edge]
        candidates = np.concatenate([above, level[: k - len(above)]])
    return np.sort(candidates)


def mask(
    negatives: Negatives, row: NDArray[np.integer], item: NDArray[np.integer], rows: int
) -> NDArray[np.bool_]:
    """`[rows, k]` bool: True where (row, item) is among the pairs given."""
    out = np.zeros((rows, len(negatives.rows)), bool)
    at = np.minimum(np.searchsorted(negatives.rows, item), len(negatives.rows) - 1)
    hit = (negatives.rows[at] == item) & (item > 0)
    out[row[hit], at[hit]] = True
    return out
