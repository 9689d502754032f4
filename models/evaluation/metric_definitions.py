"""Definitions of the figures that an evaluation reports; pure functions of arrays.

A feature row with at least one event that is neither impression nor dislike is one
question with one right answer: its item. The whole catalogue known by then is ranked,
what the user had is left out. Ties count as what they are worth on average
(`models.ranking_metrics`).

Per question
    recall@k   1 if the right answer is among the first k
    ndcg@k     1 / log2(1 + place) within the first k, else 0 (Järvelin and Kekäläinen,
               ACM TOIS 2002; the ideal is 1, as there is one right answer)
    mrr@k      1 / place within the first k, else 0

Per request: the questions of one user in one micro-batch, R of them, `hits` answered
    hit_rate@k 1 if any is answered
    precision@k hits / k
    f1@k       harmonic mean of precision and hits / R, which is 2·hits / (k + R)

Each question is ranked for its own moment, so a request's questions may have different
lists; where they have the same, these are the textbook's figures.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models import ranking_metrics

__all__ = [
    "REQUEST_FIGURES",
    "ROW_FIGURES",
    "calibration_bins",
    "calibration_error",
    "logloss",
    "novelty",
    "per_request",
    "per_row",
    "spearman",
    "spread",
    "weighted_auc",
    "weighted_calibration",
    "weighted_spearman",
]

ROW_FIGURES = ("recall", "ndcg", "mrr")
REQUEST_FIGURES = ("hit_rate", "precision", "f1")
BINS = 15

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


def per_row(greater: Ints, ties: Ints, known: NDArray[np.bool_], k: int) -> Floats:
    """`[3, rows, arms]` float64: `ROW_FIGURES` of each question.

    Args:
        greater: `[known rows, arms]` items above the right one.
        ties: `[known rows, arms]` items beside it.
        known: `[rows]` whether the right item was a candidate; 0 where it was not.
        k: length of the list.
    """
    out = np.zeros((len(ROW_FIGURES), len(known), greater.shape[1]))
    measures = (ranking_metrics.recall, ranking_metrics.ndcg, ranking_metrics.reciprocal_rank)
    for place, measure in enumerate(measures):
        out[place, known] = measure(greater, ties, k)
    return out


def per_request(recall: Floats, user: Ints, k: int) -> Floats:
    """`[3, requests, arms]` float64: `REQUEST_FIGURES` of each user's questions together.

    Args:
        recall: `[rows, arms]` expected recall of each question.
        user: `[rows]` whose it is.
        k: length of the list.
    """
    if not len(user):
        return np.zeros((len(REQUEST_FIGURES), 0, recall.shape[1]))
    order = np.argsort(user, kind="stable")
    starts = np.flatnonzero(np.diff(user[order], prepend=-1))
    hits = np.add.reduceat(recall[order], starts, axis=0)
    asked = np.diff(np.append(starts, len(user)))[:, None]
    missed = np.multiply.reduceat(1.0 - recall[order], starts, axis=0)
    return np.stack([1.0 - missed, hits / k, 2.0 * hits / (k + asked)])


def spread(vectors: NDArray[np.floating]) -> Floats:
    """Diversity within lists, `[lists]`: 1 − mean cosine of the pairs of a list's items.

    The complement of intra-list similarity (Ziegler et al., WWW 2005). Vectors of length 0
    resemble nothing; nan for a list with fewer than two items.

    Args:
        vectors: `[lists, k, dim]`.

    >>> spread(np.array([[[1.0, 0], [1, 0]], [[1, 0], [0, 1]]])).tolist()
    [0.0, 1.0]
    """
    size = vectors.shape[1]
    if size < 2:
        return np.full(len(vectors), np.nan)
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    unit = np.divide(vectors, length, out=np.zeros(vectors.shape), where=length > 0)
    together = (unit.sum(axis=1) ** 2).sum(axis=1) - (unit**2).sum(axis=(1, 2))
    return 1.0 - together / (size * (size - 1))


def novelty(counts: ArrayLike, total: float, items: int) -> Floats:
    """Bits of surprise of items, −log2((count + 1) / (total + items)), same shape as `counts`.

    Mean self-information (Zhou et al., PNAS 2010), with one made-up event for each item.

    Args:
        counts: earlier positive rows of the items.
        total: of all items.
        items: known.

    >>> novelty([0, 3], 4, 4).tolist()
    [3.0, 1.0]
    """
    return -np.log2((np.asarray(counts, float) + 1.0) / (total + items))


def logloss(labels: ArrayLike, chances: ArrayLike) -> Floats:
    """−ln of what was given to what happened, `[n]`; chances are kept within 1e-7 of 0 and 1."""
    y, p = np.asarray(labels, float), np.clip(np.asarray(chances, float), 1e-7, 1 - 1e-7)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p))


def calibration_bins(chances: ArrayLike, bins: int = BINS) -> Ints:
    """`[n]`: bins with as equal a number of rows as ties allow, by chance."""
    p = np.asarray(chances, float)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, p, side="left")


def weighted_calibration(
    labels: ArrayLike, chances: ArrayLike, which: Ints, weights: ArrayLike
) -> float:
    """Expected calibration error: |mean chance − share that happened|, over bins.

    Bins weigh as much as their rows (Nguyen and O'Connor, EMNLP 2015).

    Args:
        labels: `[n]` 0 or 1.
        chances: `[n]`.
        which: `[n]` bin of each row, as `calibration_bins` gives them.
        weights: `[n]`: a row counts so many times; nan where they sum to 0.
    """
    w = np.asarray(weights, float)
    if not w.sum():
        return float("nan")
    gap = np.bincount(which, w * (np.asarray(chances, float) - np.asarray(labels, float)))
    return float(np.abs(gap).sum() / w.sum())


def calibration_error(labels: ArrayLike, chances: ArrayLike, bins: int = BINS) -> float:
    """`weighted_calibration` of rows that count once each; nan without rows.

    >>> round(calibration_error([0, 1, 1, 1], [0.5, 0.5, 1.0, 1.0], bins=2), 6)
    0.0
    """
    p = np.asarray(chances, float)
    if not len(p):
        return float("nan")
    return weighted_calibration(labels, p, calibration_bins(p, bins), np.ones(len(p)))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation, ties at their mean rank; nan where either does not vary.

    >>> round(spearman([1, 2, 3, 4], [10, 20, 40, 30]), 6)
    0.8
    """
    first, second = (np.unique(np.asarray(v), return_inverse=True)[1] for v in (x, y))
    return weighted_spearman(first, second, np.ones(len(first)))


def weighted_spearman(x: Ints, y: Ints, weights: ArrayLike) -> float:
    """Rank correlation of rows that count `weights` times; nan where either does not vary.

    Args:
        x: `[n]` rank of each distinct value, from 0, ascending (`np.unique`'s inverse).
        y: `[n]` likewise.
        weights: `[n]`.
    """
    w = np.asarray(weights, float)
    if not w.sum():
        return float("nan")
    first, second = (_centred_ranks(group, w) for group in (x, y))
    spreads = (w * first**2).sum() * (w * second**2).sum()
    return float((w * first * second).sum() / np.sqrt(spreads)) if spreads else float("nan")


def _centred_ranks(group: Ints, weights: Floats) -> Floats:
    """Mean rank of each row's group, less the mean of all."""
    size = np.bincount(group, weights)
    ranks = (np.cumsum(size) - (size - 1) / 2.0)[group]
    return np.asarray(ranks - (weights * ranks).sum() / weights.sum(), float)


def weighted_auc(labels: ArrayLike, group: Ints, weights: ArrayLike) -> float:
    """Area under the ROC curve of rows that count `weights` times; nan with one class.

    Args:
        labels: `[n]` 0 or 1.
        group: `[n]` rank of each distinct score, from 0, ascending (`np.unique`'s inverse).
        weights: `[n]`.
    """
    y, w = np.asarray(labels, float), np.asarray(weights, float)
    positive, negative = np.bincount(group, w * y), np.bincount(group, w * (1 - y))
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")
