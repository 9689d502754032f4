"""From ranks to figures; ties cost what they cost on average.

A candidate's place is not one number when others have the same score: with
`greater` items above it and `ties` beside it, it stands with equal chance on
each of the places `greater + 1 … greater + ties + 1`. Every figure here is
the expectation over them, so that a constant score wins nothing.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "auc",
    "count_above",
    "ndcg",
    "rank_of_true",
    "recall",
    "reciprocal_rank",
    "tie_order",
    "top_columns",
]

Floats = NDArray[np.float64]


def recall(greater: ArrayLike, ties: ArrayLike, k: int) -> Floats:
    """Chance that one relevant item is among the first k, `[…]` float64.

    >>> recall([0, 19, 20], [0, 3, 0], 20).tolist()
    [1.0, 0.25, 0.0]
    """
    above, beside = np.asarray(greater, float), np.asarray(ties, float)
    return np.clip(k - above, 0.0, beside + 1.0) / (beside + 1.0)


def ndcg(greater: ArrayLike, ties: ArrayLike, k: int) -> Floats:
    """Expected NDCG@k with one relevant item: 1 / log2(1 + place), `[…]` float64.

    >>> ndcg([0, 2, 20], [0, 0, 0], 20).round(12).tolist()
    [1.0, 0.5, 0.0]
    """
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))])
    return _mean_gain(gains, greater, ties)


def reciprocal_rank(greater: ArrayLike, ties: ArrayLike, k: int) -> Floats:
    """Expected 1 / place within the first k, else 0, `[…]` float64."""
    gains = np.concatenate([[0.0], np.cumsum(1.0 / np.arange(1, k + 1))])
    return _mean_gain(gains, greater, ties)


def _mean_gain(gains: Floats, greater: ArrayLike, ties: ArrayLike) -> Floats:
    first = np.asarray(greater, np.int64)
    last = first + np.asarray(ties, np.int64) + 1
    k = len(gains) - 1
    return (gains[np.minimum(last, k)] - gains[np.minimum(first, k)]) / (last - first)


def tie_order(rows: NDArray[np.integer], number: int) -> NDArray[np.uint64]:
    """A pseudo-random order of item rows that ties are broken by, `[n]` uint64.

    A function of (row, batch number) alone (splitmix64's finaliser): it cannot know
    which item is the true one.
    """
    x = rows.astype(np.uint64) + np.uint64(number * 0x9E3779B97F4A7C15 % 2**64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def count_above(
    scores: NDArray[np.floating], true: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Items above and beside the true one, each `[rows]` int64.

    Args:
        scores: `[rows, items]`; what is left out holds -inf. NaN counts as -inf.
        true: `[rows]` column of the true item.
    """
    own = np.take_along_axis(scores, true[:, None], axis=1)
    own = np.where(np.isnan(own), -np.inf, own)
    greater, ties = _counts(scores > own), _counts(scores == own)
    # A true item at -inf is beside everything that is left out: pessimistic, as it should be.
    lost = np.isneginf(own[:, 0])
    ties[lost] += _counts(np.isnan(scores[lost]))
    return greater, np.maximum(ties - 1, 0)


def _counts(hits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """`[rows]`: how many of each row; several times as fast as a sum over an axis."""
    return np.array([np.count_nonzero(row) for row in hits], np.int64)


def rank_of_true(
    scores: NDArray[np.floating], true: NDArray[np.integer], order: NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Place of the true item from 1, ties broken by `order` `[items]`, `[rows]` int64."""
    own = np.take_along_axis(scores, true[:, None], axis=1)
    before = (scores == own) & (order[None, :] < order[true][:, None])
    return ((scores > own) | before).sum(axis=1) + 1


def top_columns(
    scores: NDArray[np.floating], order: NDArray[np.uint64], k: int
) -> NDArray[np.int64]:
    """Columns of the k highest scores, best first, ties by `order`; -inf never is one."""
    columns = np.flatnonzero(scores > -np.inf)
    values = scores[columns]
    if len(columns) > k:
        columns = columns[values >= np.partition(values, len(values) - k)[len(values) - k]]
    return columns[np.lexsort((order[columns], -scores[columns]))][:k]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve, ties counted half; nan with one class only.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    label, score = np.asarray(labels, bool), np.asarray(scores, float)
    positives, negatives = int(label.sum()), int((~label).sum())
    if not positives or not negatives:
        return float("nan")
    _, inverse, size = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(size) - (size - 1) / 2.0)[inverse]
    area = rank[label].sum() - positives * (positives + 1) / 2.0
    return float(area / (positives * negatives))
