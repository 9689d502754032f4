"""What the lists look like beside being right: how much is shown, how varied, how known.

coverage@k
    items that were in any list, over items that were candidates (Ge et al., RecSys 2010)
diversity@k
    1 − mean cosine of a list's pairs, by the model's own item vectors (`figures.spread`)
category_diversity@k
    the same by the catalogue's categories, one dimension each, the 512 commonest of them;
    not reported where the catalogue has none for most items
novelty@k
    mean bits of surprise of what is listed (`figures.novelty`)

Means over lists have intervals; coverage, which grows with the lists that are counted, has none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.bootstrap import interval
from models.evaluation.metric_definitions import novelty, spread
from models.evaluation.metric_sums import TimeCells

__all__ = ["Categories", "ListMetrics", "RecommendedLists"]

_COMMONEST = 512
Ints = NDArray[np.integer]


class Categories:
    """Items' categories as vectors `[items, categories]` of 0 and 1.

    Args:
        items: an `ITEMS` table, or None.
    """

    def __init__(self, items: pa.Table | None) -> None:
        self._of: dict[str, list[int]] = {}
        counts: dict[str, int] = {}
        if items is not None and "categories" in items.column_names:
            ids, lists = items["item_id"].to_pylist(), items["categories"].to_pylist()
            for names in lists:
                for name in set(names or ()):
                    counts[name] = counts.get(name, 0) + 1
            kept = sorted(counts, key=lambda name: (-counts[name], name))[:_COMMONEST]
            place = {name: i for i, name in enumerate(kept)}
            for item, names in zip(ids, lists, strict=True):
                self._of[item] = [place[name] for name in set(names or ()) if name in place]
        most = 2 * sum(map(bool, self._of.values())) >= len(self._of)
        self.width = min(len(counts), _COMMONEST) if most else 0

    def of(self, names: list[str]) -> NDArray[np.float32]:
        """`[names, width]` float32; width is 0 where most items have no category."""
        out = np.zeros((len(names), self.width), np.float32)
        for row, name in enumerate(names if self.width else ()):
            out[row, self._of.get(name, [])] = 1.0
        return out


@dataclass(frozen=True)
class RecommendedLists:
    """The lists of a micro-batch, described as of when they were made.

    Attributes:
        lists: item rows, best first, one array a question.
        rows: `[n]` distinct rows in them, ascending.
        names: ids of these rows.
        vectors: `[n, dim]` of them.
        candidates: how many items could be listed.
        arrived: ids that could be listed for the first time since the last micro-batch.
    """

    lists: list[Ints]
    rows: Ints
    names: list[str]
    vectors: NDArray[np.floating]
    candidates: int
    arrived: list[str]


class ListMetrics:
    """Sums over the lists that one ranking made.

    Args:
        categories: of the catalogue.
        cells: of the log.
    """

    def __init__(self, categories: Categories, cells: TimeCells) -> None:
        self._categories, self._cells = categories, cells
        self._shown: set[str] = set()
        self._candidates: set[str] = set()
        self._sums = {
            name: np.zeros((2, len(cells)))  # sums over lists, and their number
            for name in ("diversity", "category_diversity", "novelty")
        }

    def add(self, cell: int, shown: RecommendedLists, counts: tuple[dict[str, int], int]) -> None:
        """Count the lists of a micro-batch.

        Args:
            cell: where.
            shown: the lists.
            counts: earlier positive rows by item, and of all.
        """
        by_item, total = counts
        self._candidates.update(shown.arrived)
        self._shown.update(shown.names)
        earlier = np.array([by_item.get(name, 0) for name in shown.names], np.int64)
        surprise = novelty(earlier, total, shown.candidates)
        categories = self._categories.of(shown.names)
        for size in {len(part) for part in shown.lists} - {0}:
            rows = np.array([part for part in shown.lists if len(part) == size], np.int64)
            place = np.searchsorted(shown.rows, rows)
            self._count(cell, "novelty", surprise[place].mean(axis=1))
            if size > 1:
                self._count(cell, "diversity", spread(shown.vectors[place].astype(float)))
            if size > 1 and self._categories.width:
                self._count(cell, "category_diversity", spread(categories[place]))

    def _count(self, cell: int, name: str, values: NDArray[np.floating]) -> None:
        self._sums[name][:, cell] += values.sum(), len(values)

    def report(self) -> dict[str, Any]:
        """Means over lists with their intervals, and coverage."""
        means = {
            name: interval(*sums, block=self._cells.block).to_json()
            for name, sums in self._sums.items()
            if sums[1].any()
        }
        share = len(self._shown) / len(self._candidates) if self._candidates else None
        return {"coverage": {"value": share}, "listed": len(self._shown), **means}
