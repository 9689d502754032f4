"""What is known of all items by their row, beside their ids."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.memory.transitions import Predecessors
from models.sparse_rows import row_numbers

__all__ = ["Contents"]

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Contents:
    """What is known of all items by their row, beside their ids.

    Attributes:
        words: `[items, width]` int32 rows of the word table, 0 for none.
        texts: `[items, width]` float32 fixed text vectors.
        likeness: `[items, likeness]` float32 (see `models.network.content_similarity`).
        before: what came before each; None where it is of no interest.
        counts: `[items]` rows of each so far; None where all have earned a vector of their own.
        sightings: rows that earn it.
    """

    words: NDArray[np.int32]
    texts: NDArray[np.float32]
    likeness: NDArray[np.float32]
    before: Predecessors | None = None
    counts: NDArray[np.integer] | None = None
    sightings: int = 1

    def own(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """`[n]`: 1 for an item that has a vector of its own, else 0."""
        if self.counts is None:
            return np.ones(len(rows), np.float32)
        return (self.counts[rows] >= self.sightings).astype(np.float32)

    def of(self, rows: NDArray[np.integer]) -> Inputs:
        """Words (row, owner) `[2, t]`, scale `[n]` and text `[n, width]` of `n` items."""
        words, owner, scale = row_numbers(self.words[rows])
        return {
            "words": np.stack([words, owner]),
            "scale": scale,
            "text": self.texts[rows],
        }

    def fixed(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """`[n, fixed]` of past items: what they are like by words, signs that stand for them."""
        signs = [] if self.before is None else [self.before.signs(rows)]
        return np.concatenate([self.likeness[rows], *signs], axis=1)
