"""How well the ranking heads predict what they are for, beside running means.

AUC, accuracy (at a chance of one half), logloss, calibration error and RMSE (the root of
the Brier score) of click, like and purchase; RMSE, mean absolute error and rank
correlation of dwell, in ln(1 + seconds), and of rating, in the log's own units. By slice,
too (`models.evaluation.slices`), but for the means.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import Interval, interval, weighted_interval
from models.evaluation.mean_baselines import MEANS
from models.evaluation.metric_definitions import (
    calibration_bins,
    logloss,
    spearman,
    weighted_auc,
    weighted_calibration,
    weighted_spearman,
)
from models.evaluation.slices import SLICES
from models.schema import BINARY_HEADS, HEADS

__all__ = ["HeadMetrics"]

LIMIT = 1_000_000
"""Rows of a head that are kept: its figures are those of the newest."""

FEWEST = 20
"""Rows below which a head is not reported."""

_SLICES = 3 + len(MEANS)  # column of a row's slices, a bit each
Floats = NDArray[np.float64]


@dataclass
class _Kept:
    """Rows of one head: cell, target, prediction, the means' predictions, slices."""

    parts: list[NDArray[np.float64]]
    rows: int = 0

    def add(self, part: NDArray[np.float64]) -> None:
        self.parts.append(part)
        self.rows += len(part)
        while self.rows - len(self.parts[0]) >= LIMIT:
            self.rows -= len(self.parts.pop(0))


class HeadMetrics:
    """Targets and predictions of every head on a stretch of the log."""

    def __init__(self) -> None:
        self._kept = [_Kept([np.zeros((0, 1 + _SLICES))]) for _ in HEADS]

    def add(
        self,
        cell: int,
        targets: tuple[Floats, NDArray[np.bool_]],
        predicted: Floats,
        means: Floats,
        slices: NDArray[np.bool_],
    ) -> None:
        """Count a micro-batch's rows.

        Args:
            cell: where.
            targets: `[rows, heads]` and where they are known, as `head_targets` gives them.
            predicted: `[rows, heads]` as `score_heads` gives it (dwell in seconds).
            means: `[rows, heads, 4]` as `RunningMeans.before` gives it.
            slices: `[slices, rows]` as `Activity.before` gives it.
        """
        wanted, present = targets
        bits = 2.0 ** np.arange(len(SLICES)) @ slices
        for head, name in enumerate(HEADS):
            held = present[:, head]
            if not held.any():
                continue
            value = predicted[held, head]
            value = np.log1p(np.maximum(value, 0.0)) if name == "dwell" else value
            where = np.full(int(held.sum()), float(cell))
            columns = [where, wanted[held, head], value, *means[held, head].T, bits[held]]
            self._kept[head].add(np.column_stack(columns))

    def report(self, block: int) -> dict[str, Any]:
        """By head: rows, figures of the model with intervals, of the means, and by slice.

        Args:
            block: cells that are drawn together.
        """
        out = {}
        for head, name in enumerate(HEADS):
            rows = np.concatenate(self._kept[head].parts)
            told = _model(rows, head, block)
            if told:
                out[name] = {
                    "rows": len(rows),
                    "share" if head < BINARY_HEADS else "mean": float(rows[:, 1].mean()),
                    "model": told,
                    "baselines": _means(rows, head),
                    "slices": _by_slice(rows, head, block),
                }
        return out


def _model(rows: Floats, head: int, block: int) -> dict[str, Any]:
    """A head's figures on some rows; nothing where these are too few, or of one class."""
    if len(rows) < FEWEST:
        return {}
    return _binary(rows, block) if head < BINARY_HEADS else _real(rows, block)


def _by_slice(rows: Floats, head: int, block: int) -> dict[str, Any]:
    """The model's figures by slice, where there are enough rows."""
    bits, out = rows[:, _SLICES].astype(np.int64), {}
    for place, name in enumerate(SLICES[1:], start=1):
        held = rows[bits >> place & 1 == 1]
        told = _model(held, head, block)
        if told:
            out[name] = {"rows": len(held), **told}
    return out


def _binary(rows: Floats, block: int) -> dict[str, Any]:
    """A head that predicts a chance; nothing where all rows are of one class."""
    cell, y, p = rows[:, :3].T
    if y.min() == y.max():
        return {}
    return {
        "auc": _auc(cell, y, p, block).to_json(),
        "accuracy": _mean(cell, (p >= 0.5) == (y > 0.5), block).to_json(),
        "logloss": _mean(cell, logloss(y, p), block).to_json(),
        "calibration_error": _calibration(cell, y, p, block).to_json(),
        "rmse": _root(_mean(cell, (y - p) ** 2, block)).to_json(),
    }


def _real(rows: Floats, block: int) -> dict[str, Any]:
    """A head that predicts a value."""
    cell, y, p = rows[:, :3].T
    return {
        "rmse": _root(_mean(cell, (y - p) ** 2, block)).to_json(),
        "mae": _mean(cell, np.abs(y - p), block).to_json(),
        "rank_correlation": _rank_correlation(cell, y, p, block).to_json(),
    }


def _means(rows: Floats, head: int) -> dict[str, dict[str, float | None]]:
    """Figures of the running means, by name; None where they cannot be told."""
    y, figures = rows[:, 1], _of_chance if head < BINARY_HEADS else _of_value
    return {
        name: {
            figure: value if math.isfinite(value) else None
            for figure, value in figures(y, rows[:, 3 + place]).items()
        }
        for place, name in enumerate(MEANS)
    }


def _of_chance(y: Floats, p: Floats) -> dict[str, float]:
    return {
        "auc": _plain_auc(y, p),
        "accuracy": float(np.mean((p >= 0.5) == (y > 0.5))),
        "logloss": float(logloss(y, np.clip(p, 0, 1)).mean()),
        "rmse": float(np.sqrt(np.mean((y - p) ** 2))),
    }


def _of_value(y: Floats, p: Floats) -> dict[str, float]:
    return {
        "rmse": float(np.sqrt(np.mean((y - p) ** 2))),
        "mae": float(np.abs(y - p).mean()),
        "rank_correlation": spearman(y, p),
    }


def _mean(cell: Floats, values: NDArray[Any], block: int) -> Interval:
    """Mean of a value over rows, by cell."""
    _, place = np.unique(cell, return_inverse=True)
    return interval(np.bincount(place, values), np.bincount(place), block=block)


def _root(found: Interval) -> Interval:
    """Its square root; the standard error by the delta method."""
    value, low, high = (math.sqrt(x) for x in (found.value, found.low, found.high))
    return Interval(value, found.se / (2 * value) if value else math.nan, low, high)


def _plain_auc(y: Floats, scores: Floats) -> float:
    _, group = np.unique(scores, return_inverse=True)
    return weighted_auc(y, group, np.ones(len(y)))


def _auc(cell: Floats, y: Floats, p: Floats, block: int) -> Interval:
    _, group = np.unique(p, return_inverse=True)
    return weighted_interval(cell, lambda weights: weighted_auc(y, group, weights), block=block)


def _calibration(cell: Floats, y: Floats, p: Floats, block: int) -> Interval:
    """Bins are those of all rows. Chance adds to the error, so its resamples are centred."""
    which = calibration_bins(p)
    found = weighted_interval(
        cell,
        lambda weights: weighted_calibration(y, p, which, weights),
        block=block,
        centred=True,
    )
    return replace(found, low=max(found.low, 0.0))


def _rank_correlation(cell: Floats, y: Floats, p: Floats, block: int) -> Interval:
    of_y, of_p = (np.unique(values, return_inverse=True)[1] for values in (y, p))
    return weighted_interval(
        cell, lambda weights: weighted_spearman(of_y, of_p, weights), block=block
    )
