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

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.evaluation.bootstrap import interval
from models.evaluation.figures import novelty, spread
from models.evaluation.tally import Cells

__all__ = ["Categories", "ListTally"]

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

    def of(self, names: list[str | None]) -> NDArray[np.float32]:
        """`[names, width]` float32; width is 0 where most items have no category."""
        out = np.zeros((len(names), self.width), np.float32)
        for row, name in enumerate(names):
            out[row, self._of.get(name or "", [])] = 1.0
        return out


class ListTally:
    """Sums over the lists that one ranking made.

    Args:
        categories: of the catalogue.
        cells: of the log.
    """

    def __init__(self, categories: Categories, cells: Cells) -> None:
        self._categories, self._cells = categories, cells
        self._shown: set[str] = set()
        self._candidates = 0
        self._sums = {
            name: np.zeros((2, len(cells)))  # sums over lists, and their number
            for name in ("diversity", "category_diversity", "novelty")
        }

    def add(
        self,
        cell: int,
        lists: list[Ints],
        names: list[str | None],
        vectors: NDArray[np.floating],
        counts: tuple[dict[str, int], int, int],
    ) -> None:
        """Count the lists of a micro-batch.

        Args:
            cell: where.
            lists: item rows, best first, one array a question.
            names: id of each item row.
            vectors: `[item rows, dim]`.
            counts: earlier positive rows by item, of all, and how many items are known.
        """
        by_item, total, known = counts
        self._candidates = max(self._candidates, known)
        for size in {len(part) for part in lists}:
            rows = np.array([part for part in lists if len(part) == size], np.int64)
            distinct, place = np.unique(rows, return_inverse=True)
            held = [names[row] for row in distinct.tolist()]
            self._shown.update(name for name in held if name)
            place = place.reshape(rows.shape)
            earlier = np.array([by_item.get(name or "", 0) for name in held], np.int64)
            surprise = novelty(earlier, total, known)
            self._count(cell, "novelty", surprise[place].mean(axis=1) if size else np.zeros(0))
            if size > 1:
                self._count(cell, "diversity", spread(vectors[distinct][place].astype(float)))
            if size > 1 and self._categories.width:
                self._count(cell, "category_diversity", spread(self._categories.of(held)[place]))

    def _count(self, cell: int, name: str, values: NDArray[np.floating]) -> None:
        self._sums[name][:, cell] += values.sum(), len(values)

    def report(self) -> dict[str, Any]:
        """Means over lists with their intervals, and coverage."""
        means = {
            name: interval(*sums, block=self._cells.block).to_json()
            for name, sums in self._sums.items()
            if sums[1].any()
        }
        share = len(self._shown) / self._candidates if self._candidates else None
        return {"coverage": {"value": share}, "listed": len(self._shown), **means}
