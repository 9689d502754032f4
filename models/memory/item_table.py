"""What is kept of all items by their row, beside their ids, and what the network reads of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.memory.predecessors import Predecessors
from models.row_arrays import NEVER, Column, RowArrays, grown
from models.sparse_rows import row_numbers

__all__ = ["ItemContents", "ItemTable"]

Inputs = dict[str, Any]
Rows = NDArray[np.integer]


class ItemTable(RowArrays):
    """What is kept of each item, by row; row 0 is none.

    Args:
        config: widths.
        text_width: of the fixed vectors of items' texts; 0 for none.
        size: rows at first.
    """

    known = Column(np.bool_)  # the candidates; set by `add_known` alone
    words = Column(np.int32, "words")  # rows of the word table, 0 for none
    texts = Column(np.float32, "text")  # computed once an item
    likeness = Column(np.float32, "likeness")  # by words, fixed
    lengths = Column(np.int8)  # half octave of the duration; 0: unknown
    published_at = Column(np.int64, fill=NEVER)  # when a delta last held it
    vectors = Column(np.float32, "dim")  # v, as last computed

    def __init__(self, config: ModelConfig, text_width: int, size: int) -> None:
        super().__init__(
            size,
            words=config.content_columns,
            text=text_width,
            likeness=config.likeness,
            dim=config.dim,
        )
        self._known_rows = np.zeros(1_024, np.int32)  # `known` as rows, ascending, then room
        self._known_count = 0

    def known_rows(self) -> NDArray[np.int32]:
        """Rows of known items, ascending, `[n]` int32; valid until the next is known."""
        return self._known_rows[: self._known_count]

    def add_known(self, rows: Rows) -> None:
        """Item rows that are candidates from now on: new ids cost little, recycled rows a copy."""
        new = np.unique(rows[~self.known[rows]]).astype(np.int32)
        self.known[new] = True
        held, count = self.known_rows(), self._known_count + len(new)
        if count > len(self._known_rows):
            self._known_rows = grown(self._known_rows, 2 * count)
        if len(held) and len(new) and new[0] < held[-1]:
            at = np.searchsorted(held, new)
            self._known_rows[:count] = np.insert(held, at, new)
        else:
            self._known_rows[len(held) : count] = new
        self._known_count = count

    def reset(self, rows: Rows) -> None:
        """Forget rows that were recycled: they are no candidates any more."""
        super().reset(rows)
        left = np.flatnonzero(self.known).astype(np.int32)
        self._known_rows[: len(left)], self._known_count = left, len(left)

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `arrays` gave."""
        super().load(arrays)
        self._known_rows = np.flatnonzero(self.known).astype(np.int32)
        self._known_count = len(self._known_rows)


@dataclass(frozen=True)
class ItemContents:
    """What is known of all items by their row, beside their ids.

    Attributes:
        words: `[items, width]` int32 rows of the word table, 0 for none.
        texts: `[items, width]` float32 fixed text vectors.
        likeness: `[items, likeness]` float32 (see `models.training.item_text_similarity`).
        predecessors: what came before each; None where it is of no interest.
        counts: `[items]` rows of each so far; None where all have earned a vector of their own.
        sightings: rows that earn it.
    """

    words: NDArray[np.int32]
    texts: NDArray[np.float32]
    likeness: NDArray[np.float32]
    predecessors: Predecessors | None = None
    counts: Rows | None = None
    sightings: int = 1

    def own(self, rows: Rows) -> NDArray[np.float32]:
        """`[n]`: 1 for an item that has a vector of its own, else 0."""
        if self.counts is None:
            return np.ones(len(rows), np.float32)
        return (self.counts[rows] >= self.sightings).astype(np.float32)

    def of(self, rows: Rows) -> Inputs:
        """Words (row, owner) `[2, t]`, scale `[n]` and text `[n, width]` of `n` items."""
        words, owner, scale = row_numbers(self.words[rows])
        return {
            "words": np.stack([words, owner]),
            "scale": scale,
            "text": self.texts[rows],
        }

    def fixed(self, rows: Rows) -> NDArray[np.float32]:
        """`[n, fixed]` of past items: what they are like by words, signs that stand for them."""
        signs = [] if self.predecessors is None else [self.predecessors.signs(rows)]
        return np.concatenate([self.likeness[rows], *signs], axis=1)
