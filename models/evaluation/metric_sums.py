"""Sums of ranking figures over stretches of the log, by slice and by arm.

A *cell* is a micro-batch, or a few neighbours of a long log: memory is bounded whatever
its length. What is kept are sums, so any stretch of cells can be asked about later.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.bootstrap import BLOCK, Interval, interval, paired_comparison
from models.evaluation.metric_definitions import REQUEST_FIGURES, ROW_FIGURES, per_request, per_row
from models.evaluation.slices import SLICES

__all__ = ["CELLS", "MetricSums", "TimeCells", "compare_with_arm", "time_blocks"]

CELLS = 2_000
"""Most cells that a log is divided into."""

Floats = NDArray[np.float64]
Ints = NDArray[np.integer]


@dataclass(frozen=True)
class TimeCells:
    """Which cell a micro-batch is in; they are counted from 0 in the order they come."""

    batches: int

    @property
    def stride(self) -> int:
        """Micro-batches in a cell."""
        return max(1, -(-self.batches // CELLS))

    @property
    def block(self) -> int:
        """Cells that are drawn together in a bootstrap."""
        return max(1, BLOCK // self.stride)

    def __len__(self) -> int:
        return 1 + (self.batches - 1) // self.stride if self.batches else 0

    def of(self, place: int) -> int:
        """The cell of the micro-batch at this place."""
        return place // self.stride


def time_blocks(questions: ArrayLike, blocks: int) -> list[slice]:
    """Blocks of time with as equal a number of questions as cells allow, together all cells.

    >>> time_blocks([1, 1, 1, 1, 4], 2)
    [slice(0, 4, None), slice(4, 5, None)]

    Args:
        questions: `[cells]`, in order of time.
        blocks: at most so many; none where nothing was asked.
    """
    reached = np.cumsum(questions)
    if not len(reached) or not reached[-1]:
        return []
    count = min(blocks, len(reached))
    edges = np.searchsorted(reached, reached[-1] * np.arange(1, count) / count) + 1
    ends = [*edges.tolist(), len(reached)]
    return [slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True) if a < b]


class MetricSums:
    """What one ranking, or many arms of one baseline, did on each cell.

    Args:
        cells: of the log.
        arms: rankings that are counted side by side.
        k: length of the lists.
    """

    def __init__(self, cells: TimeCells, arms: int, k: int) -> None:
        self.cells, self.k = cells, k
        self.rows = np.zeros((len(cells), len(SLICES)))
        self.row_sums = np.zeros((len(ROW_FIGURES), len(cells), len(SLICES), arms))
        self.requests = np.zeros(len(cells))
        self.request_sums = np.zeros((len(REQUEST_FIGURES), len(cells), arms))

    def add(
        self,
        cell: int,
        ranks: tuple[Ints, Ints, NDArray[np.bool_]],
        user: Ints,
        slices: NDArray[np.bool_],
    ) -> None:
        """Count the questions of a micro-batch.

        Args:
            cell: where.
            ranks: `[known rows, arms]` items above the right one and beside it, and
                `[rows]` whether it was a candidate.
            user: `[rows]` whose question it is.
            slices: `[slices, rows]`.
        """
        figures = per_row(*ranks, self.k)
        self.rows[cell] += slices.sum(axis=1)
        self.row_sums[:, cell] += np.einsum("sr,fra->fsa", slices.astype(float), figures)
        together = per_request(figures[0], user, self.k)
        self.requests[cell] += together.shape[1]
        self.request_sums[:, cell] += together.sum(axis=1)

    def sums(self, figure: str, span: slice, slice_name: str = "all") -> Floats:
        """`[cells of the span, arms]` sums of a figure."""
        if figure in REQUEST_FIGURES:
            return self.request_sums[REQUEST_FIGURES.index(figure), span]
        return self.row_sums[ROW_FIGURES.index(figure), span, SLICES.index(slice_name)]

    def weights(self, figure: str, span: slice, slice_name: str = "all") -> Floats:
        """`[cells of the span]` questions, or requests, that the sums are of."""
        if figure in REQUEST_FIGURES:
            return self.requests[span]
        return self.rows[span, SLICES.index(slice_name)]

    def best(self, figure: str, span: slice, among: range, slice_name: str = "all") -> int:
        """The arm with the highest sum, in hindsight; of equals the first."""
        totals = self.sums(figure, span, slice_name).sum(axis=0)
        return among.start + int(totals[among.start : among.stop].argmax())

    def mean(self, figure: str, span: slice, arm: int = 0, slice_name: str = "all") -> Interval:
        """A figure of an arm, with its interval."""
        above = self.sums(figure, span, slice_name)[:, arm]
        return interval(above, self.weights(figure, span, slice_name), block=self.cells.block)


def compare_with_arm(
    model: MetricSums,
    other: MetricSums,
    figure: str,
    span: slice,
    arm: int = 0,
    slice_name: str = "all",
) -> dict[str, Any]:
    """The model beside an arm on the same questions, resampled together.

    Returns:
        `ratio` model / other and `difference` model − other, each with its interval.
    """
    mine = model.sums(figure, span, slice_name)[:, 0]
    theirs = other.sums(figure, span, slice_name)[:, arm]
    rows = model.weights(figure, span, slice_name)
    return paired_comparison(mine, theirs, rows, block=model.cells.block)
