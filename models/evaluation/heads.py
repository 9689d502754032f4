"""How well the ranking heads predict what they are for, beside running means.

AUC, accuracy (at a chance of one half), logloss, calibration error and RMSE (the root of
the Brier score) of click, like and purchase; RMSE, mean absolute error and rank
correlation of dwell, in ln(1 + seconds), and of rating, in the log's own units.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import DRAWS, block_starts, draw, interval
from models.evaluation.figures import calibration_error, logloss, spearman, weighted_auc
from models.evaluation.means import MEANS
from models.serving import BINARY_HEADS, HEADS

__all__ = ["HeadTally"]

LIMIT = 1_000_000
"""Rows of a head that are kept: its figures are those of the newest."""

FEWEST = 20
"""Rows below which a head is not reported."""

_AUC_DRAWS = DRAWS // 5
Floats = NDArray[np.float64]


@dataclass
class _Kept:
    """Rows of one head: cell, target, prediction, the means' predictions."""

    parts: list[NDArray[np.float64]]
    rows: int = 0

    def add(self, part: NDArray[np.float64]) -> None:
        self.parts.append(part)
        self.rows += len(part)
        while self.rows - len(self.parts[0]) >= LIMIT:
            self.rows -= len(self.parts.pop(0))


class HeadTally:
    """Targets and predictions of every head on a stretch of the log."""

    def __init__(self) -> None:
        self._kept = [_Kept([np.zeros((0, 3 + len(MEANS)))]) for _ in HEADS]

    def add(
        self,
        cell: int,
        targets: tuple[Floats, NDArray[np.bool_]],
        predicted: Floats,
        means: Floats,
    ) -> None:
        """Count a micro-batch's rows.

        Args:
            cell: where.
            targets: `[rows, heads]` and where they are known, as `head_targets` gives them.
            predicted: `[rows, heads]` as `score_heads` gives it (dwell in seconds).
            means: `[rows, heads, 4]` as `RunningMeans.before` gives it.
        """
        wanted, present = targets
        for head, name in enumerate(HEADS):
            held = present[:, head]
            if not held.any():
                continue
            value = predicted[held, head]
            value = np.log1p(np.maximum(value, 0.0)) if name == "dwell" else value
            where = np.full(int(held.sum()), float(cell))
            columns = [where, wanted[held, head], value, *means[held, head].T]
            self._kept[head].add(np.column_stack(columns))

    def report(self, block: int) -> dict[str, Any]:
        """By head: rows, figures of the model with intervals, and of the means.

        Args:
            block: cells that are drawn together.
        """
        out = {}
        for head, name in enumerate(HEADS):
            rows = np.concatenate(self._kept[head].parts)
            if len(rows) < FEWEST:
                continue
            told = _binary(rows, block) if head < BINARY_HEADS else _real(rows, block)
            if told:
                out[name] = {"rows": len(rows), **told}
        return out


def _binary(rows: Floats, block: int) -> dict[str, Any]:
    """A head that predicts a chance; nothing where all rows are of one class."""
    cell, y, p = rows[:, :3].T
    if y.min() == y.max():
        return {}
    model = {
        "auc": _auc(cell, y, p, block),
        "accuracy": _mean(cell, (p >= 0.5) == (y > 0.5), block),
        "logloss": _mean(cell, logloss(y, p), block),
        "calibration_error": {"value": calibration_error(y, p)},
        "rmse": _mean(cell, (y - p) ** 2, block, np.sqrt),
    }
    means = {
        name: {
            "auc": _plain_auc(y, rows[:, 3 + place]),
            "accuracy": float(np.mean((rows[:, 3 + place] >= 0.5) == (y > 0.5))),
            "logloss": float(logloss(y, np.clip(rows[:, 3 + place], 0, 1)).mean()),
            "rmse": float(np.sqrt(np.mean((y - rows[:, 3 + place]) ** 2))),
        }
        for place, name in enumerate(MEANS)
    }
    return {"share": float(y.mean()), "model": model, "baselines": means}


def _real(rows: Floats, block: int) -> dict[str, Any]:
    """A head that predicts a value."""
    cell, y, p = rows[:, :3].T
    model = {
        "rmse": _mean(cell, (y - p) ** 2, block, np.sqrt),
        "mae": _mean(cell, np.abs(y - p), block),
        "rank_correlation": {"value": spearman(y, p)},
    }
    means = {
        name: {
            "rmse": float(np.sqrt(np.mean((y - rows[:, 3 + place]) ** 2))),
            "mae": float(np.abs(y - rows[:, 3 + place]).mean()),
            "rank_correlation": spearman(y, rows[:, 3 + place]),
        }
        for place, name in enumerate(MEANS)
    }
    return {"mean": float(y.mean()), "model": model, "baselines": means}


def _mean(
    cell: Floats, values: NDArray[Any], block: int, then: Callable[[float], Any] = float
) -> dict[str, Any]:
    """Mean of a value over rows, by cell; `then` is applied to the mean and its bounds."""
    _, place = np.unique(cell, return_inverse=True)
    found = interval(np.bincount(place, values), np.bincount(place), block=block)
    return {
        "value": float(then(found.value)),
        "low": float(then(found.low)),
        "high": float(then(found.high)),
    }


def _plain_auc(y: Floats, scores: Floats) -> float:
    _, group = np.unique(scores, return_inverse=True)
    return weighted_auc(y, group, np.ones(len(y)))


def _auc(cell: Floats, y: Floats, p: Floats, block: int) -> dict[str, Any]:
    """AUC; resampled by letting a row count as often as its block was drawn."""
    _, group = np.unique(p, return_inverse=True)
    found: dict[str, Any] = {"value": weighted_auc(y, group, np.ones(len(y)))}
    cells, place = np.unique(cell, return_inverse=True)
    starts = block_starts(len(cells), block)
    if len(starts) < 2:
        return found
    of = np.searchsorted(starts, place, side="right") - 1
    drawn = [
        weighted_auc(y, group, np.bincount(chosen, minlength=len(starts))[of])
        for chosen in draw(len(starts), _AUC_DRAWS)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {**found, "low": float(low), "high": float(high)}
