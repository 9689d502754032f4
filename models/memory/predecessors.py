"""What users had had before an item: counts of pairs, sketched in a few columns.

A pair (past item, item) is a cell of a table with as many cells as there are items, squared.
Here each past item is a fixed vector of random signs, and an item is the sum of the vectors
of what its users had had before: the inner product of the two is the pair's count, but for
noise (random indexing: Kanerva et al., CogSci 2000; the count sketch of Charikar et al.,
ICALP 2002). So what follows an item is found by one inner product, from the first pair on,
where factors that are learned need many.
"""

import numpy as np
import xxhash
from numpy.typing import NDArray

from models.row_arrays import Column, RowArrays
from models.sparse_rows import group_rows

__all__ = ["Predecessors"]

_FADE = 0.5  # by which a past item counts less than the next newer one
_NEWEST = 6  # past items that are counted: older ones would count for less than a thirtieth
_PRIOR = 3.0  # events without a predecessor that an item is thought to have had, twice over: with
# few of its own, chance pairs would drown what its content says
_MOST = 2.0**20  # events that are kept: beyond, small ones would be lost beside the sum

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
_SIGNS = 2.0 * _BITS.astype(np.float32) - 1.0  # [256, 8]: of a byte
Ints = NDArray[np.integer]
Floats = NDArray[np.float32]


class Predecessors(RowArrays):
    """Sketched counts of what came before each item, by row; row 0 is none.

    Args:
        dim: columns, at most 64; 0 for none.
        items: rows at first.
    """

    sums = Column(np.float32, "dim")
    events = Column(np.float32)
    codes = Column(np.uint64)

    def __init__(self, dim: int, items: int) -> None:
        super().__init__(items if dim else 0, dim=dim)
        self.dim = dim

    def grow(self, size: int) -> None:
        """Make room for rows below `size`."""
        if self.dim:
            super().grow(size)

    def name(self, rows: Ints, ids: list[str]) -> None:
        """Tell which items the rows `[n]` are: an item's signs are a function of its id."""
        if self.dim:
            self.codes[rows] = [xxhash.xxh3_64_intdigest(one.encode()) for one in ids]

    def reset(self, rows: Ints) -> None:
        """Forget rows that were recycled; what they came before stays a part of others' sums."""
        if self.dim:
            super().reset(rows)

    def signs(self, rows: Ints) -> Floats:
        """`[n, dim]`, of length 1: the items as those that others follow; zeros for row 0."""
        if not self.dim:
            return np.zeros((len(rows), 0), np.float32)
        octets = self.codes[rows].astype("<u8").view(np.uint8).reshape(-1, 8)
        signs = _SIGNS[octets].reshape(-1, 64)[:, : self.dim]
        return signs * np.where(rows > 0, np.float32(self.dim**-0.5), np.float32(0.0))[:, None]

    def add(self, items: Ints, past: Ints, weight: float = 1.0) -> None:
        """Count events on `items` `[n]` of users with the past items `[n, length]`.

        Args:
            items: may repeat; row 0 is left out.
            past: newest last, of which six are counted; 0 where there is none.
            weight: what an event counts.
        """
        past = past[:, -_NEWEST:]
        told = (items > 0) & (past > 0).any(axis=1)
        if not self.dim or not told.any():
            return
        items, past = items[told], past[told]
        fade = _FADE ** np.arange(past.shape[1] - 1, -1, -1, dtype=np.float32)
        group = group_rows(past.ravel())
        signs = self.signs(group.unique)[group.place.reshape(past.shape)]
        np.add.at(self.sums, items, weight * np.einsum("nl,nld->nd", (past > 0) * fade, signs))
        np.add.at(self.events, items, np.float32(weight))
        full = np.unique(items[self.events[items] > _MOST])
        self.sums[full] *= 0.5
        self.events[full] *= 0.5

    def of(self, rows: Ints) -> Floats:
        """`[n, dim]`: the items as those that follow.

        The mean of an item's events, drawn to zero twice: by how far its few events tell the
        mean, and by how far they tell it better than its content does.
        """
        if not self.dim:
            return np.zeros((len(rows), 0), np.float32)
        events = self.events[rows]
        return self.sums[rows] * (events / (events + np.float32(_PRIOR)) ** 2)[:, None]
