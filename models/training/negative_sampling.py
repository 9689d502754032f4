"""Which items a positive competes with, and how likely each was to be drawn."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Negatives", "draw_negatives", "excluded_mask", "hottest"]


@dataclass(frozen=True)
class Negatives:
    """Distinct item rows, ascending, padded with row 0."""

    rows: NDArray[np.int32]  # [k]
    correction: NDArray[np.float32]  # [k] −ln P(included); −1e9 on padding


def draw_negatives(
    hot: NDArray[np.integer], known: NDArray[np.integer], size: int, rng: np.random.Generator
) -> Negatives:
    """The hot items for certain, the rest a uniform sample of the others.

    Costs what is drawn, however many items there are.

    Args:
        hot: rows, ascending; all among `known`, at most `size`.
        known: rows that may be drawn, ascending.
        size: how many.
        rng: decides the sample.
    """
    place = np.searchsorted(known, hot)
    room, rest = size - len(hot), len(known) - len(hot)
    if rest > room:
        # Positions among the others, then among all: past as many hot ones as lie before.
        at = np.sort(rng.choice(rest, room, replace=False, shuffle=False))
        at = at + np.searchsorted(place - np.arange(len(place)), at, side="right")
        others, share = known[at], max(room, 1) / rest
    else:
        others, share = np.delete(known, place), 1.0
    rows = np.zeros(size, np.int32)
    correction = np.full(size, -1e9, np.float32)
    joined = np.concatenate([hot, others])
    cost = np.concatenate([np.zeros(len(hot)), np.full(len(others), -np.log(share))])
    order = np.argsort(joined, kind="stable")
    rows[size - len(joined) :] = joined[order]  # padding first: rows ascend
    correction[size - len(joined) :] = cost[order]
    return Negatives(rows, correction)


def hottest(
    candidates: NDArray[np.int64], weight: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    """The `k` candidates (ascending rows) that weigh most, above next to nothing; ascending."""
    active = weight > 1e-3
    candidates, weight = candidates[active], weight[active]
    if len(candidates) > k:
        # Ties at the edge fall to the lower row, so that the choice is a function of counts.
        edge = np.partition(weight, len(weight) - k)[len(weight) - k] if k else np.inf
        above, level = candidates[weight > edge], candidates[weight == edge]
        candidates = np.concatenate([above, level[: k - len(above)]])
    return np.sort(candidates)


def excluded_mask(
    negatives: Negatives, row: NDArray[np.integer], item: NDArray[np.integer], rows: int
) -> NDArray[np.bool_]:
    """`[rows, k]` bool: True where (row, item) is among the pairs given."""
    out = np.zeros((rows, len(negatives.rows)), bool)
    at = np.minimum(np.searchsorted(negatives.rows, item), len(negatives.rows) - 1)
    hit = (negatives.rows[at] == item) & (item > 0)
    out[row[hit], at[hit]] = True
    return out
