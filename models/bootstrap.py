"""Intervals of ratios of sums, and of any figure of rows, by a bootstrap over blocks of time.

Neighbouring micro-batches resemble each other, so whole blocks of them are drawn with
replacement (Künsch, Annals of Statistics 1989; blocks do not overlap here). What is
compared is drawn together: numerator and denominator of the same blocks.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BLOCK",
    "DRAWS",
    "Interval",
    "block_starts",
    "draw",
    "interval",
    "paired_comparison",
    "paired_difference",
    "weighted_interval",
]

BLOCK = 50
"""Consecutive micro-batches that are drawn together."""

DRAWS = 500
"""Resamples behind an interval."""

_ROW_DRAWS = DRAWS // 5  # of a figure that goes through all rows each time
_FEWEST = 10  # blocks: with fewer micro-batches the blocks are shorter

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure, its standard error and the middle 95 % of its resamples."""

    value: float
    se: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Plain numbers, rounded; None where there is none."""
        return {
            name: round(value, 6) if np.isfinite(value) else None
            for name, value in asdict(self).items()
        }


def block_starts(cells: int, block: int = BLOCK) -> NDArray[np.int64]:
    """Where blocks of `cells` consecutive cells begin: of `block` cells, but at least ten blocks.

    >>> len(block_starts(1_000)), len(block_starts(30)), len(block_starts(4))
    (20, 10, 4)
    """
    size = max(1, min(block, cells // _FEWEST))
    return np.arange(0, cells, size)


def draw(blocks: int, draws: int = DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """Which blocks each resample is made of, `[draws, blocks]`."""
    return np.random.default_rng(seed).integers(0, blocks, (draws, blocks))


def interval(
    numerator: ArrayLike, denominator: ArrayLike, *, block: int = BLOCK, level: float = 0.95
) -> Interval:
    """Sum of `numerator` over sum of `denominator`, with its uncertainty.

    A mean has rows below, a ratio of two arms the other arm's sum; of their difference see
    `paired_difference`.

    Args:
        numerator: `[cells]`, in order of time.
        denominator: `[cells]`, likewise; resamples that sum to 0 are left out.
        block: cells that are drawn together, where there are enough of them.
        level: share of the resamples that lies within the bounds.

    Returns:
        nan throughout where the denominator sums to 0; nan bounds with one block.
    """
    above, below = np.asarray(numerator, float), np.asarray(denominator, float)
    if not len(below) or not below.sum():
        return Interval(*[float("nan")] * 4)
    value = float(above.sum() / below.sum())
    starts = block_starts(len(below), block)
    if len(starts) < 2:
        return Interval(value, *[float("nan")] * 3)
    sums = np.stack([np.add.reduceat(part, starts) for part in (above, below)])
    top, bottom = sums[:, draw(len(starts))].sum(axis=2)
    ratios = top[bottom != 0] / bottom[bottom != 0]
    return _around(value, ratios, level)


def paired_difference(
    mine: ArrayLike,
    theirs: ArrayLike,
    rows: ArrayLike,
    *,
    block: int = BLOCK,
    level: float = 0.95,
) -> Interval:
    """Mean of one arm less mean of the other on the same rows, resampled together.

    >>> paired_difference([3, 1, 2, 4], [1, 1, 1, 1], [2, 2, 2, 2]).value
    0.75

    Args:
        mine: `[cells]` sums of a figure over each cell's rows, in order of time.
        theirs: `[cells]` the other arm's.
        rows: `[cells]` rows that both are of.
        block: see `interval`.
        level: see `interval`.
    """
    above = np.asarray(mine, float) - np.asarray(theirs, float)
    return interval(above, rows, block=block, level=level)


def paired_comparison(
    mine: ArrayLike, theirs: ArrayLike, rows: ArrayLike, *, block: int = BLOCK
) -> dict[str, dict[str, float | None]]:
    """Two arms on the same rows, JSON-able: see `paired_difference` for what is given.

    Returns:
        `ratio` mine / theirs and `difference` mine − theirs, each with its interval.
    """
    return {
        "ratio": interval(mine, theirs, block=block).to_json(),
        "difference": paired_difference(mine, theirs, rows, block=block).to_json(),
    }


def weighted_interval(
    cell: ArrayLike,
    figure: Callable[[Floats], float],
    *,
    block: int = BLOCK,
    centred: bool = False,
    level: float = 0.95,
) -> Interval:
    """A figure of rows that is no ratio of sums: rows count as often as their block was drawn.

    Args:
        cell: `[rows]` of each row, in any order.
        figure: of the rows, by their weights `[rows]`.
        block: cells that are drawn together, where there are enough of them.
        centred: shift the resamples' mean to the figure; for one that chance alone moves up,
            as it does a sum of absolute values.
        level: share of the resamples that lies within the bounds.

    Returns:
        nan bounds with one block, or where no resample has a figure.
    """
    cells, place = np.unique(np.asarray(cell), return_inverse=True)
    value = float(figure(np.ones(len(place))))
    starts = block_starts(len(cells), block)
    if len(starts) < 2:
        return Interval(value, *[float("nan")] * 3)
    of = np.searchsorted(starts, place, side="right") - 1
    every = np.array(
        [
            figure(np.bincount(chosen, minlength=len(starts))[of].astype(float))
            for chosen in draw(len(starts), _ROW_DRAWS)
        ]
    )
    found = every[np.isfinite(every)]
    if not len(found):
        return Interval(value, *[float("nan")] * 3)
    found += value - found.mean() if centred else 0.0
    return _around(value, found, level)


def _around(value: float, drawn: Floats, level: float) -> Interval:
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(drawn.std()), float(low), float(high))
