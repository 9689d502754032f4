"""How alike items are by their rare words: fixed vectors whose inner product needs no learning."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Likeness"]

_DRAW = 1_009  # apart from the seed's other draws


class Likeness:
    """Unit vectors of items by their words, weighed by how rare each is.

    The sum of an item's words, each a random vector of its own times ln(items / items with
    it) (Spärck Jones, J. Documentation 1972; random indexing: Kanerva et al., CogSci 2000),
    brought to length 1: inner products are the cosines of tf-idf within some 1 / sqrt(dim).
    Unlike the words' learned vectors they stay as they are, however little an item was seen.

    Args:
        words: `[items, columns]` int rows of words of a whole catalogue, 0 for none.
        buckets: rows of words that there are.
        dim: width; 0 for none.
        seed: of the random vectors.
    """

    def __init__(self, words: NDArray[np.integer], *, buckets: int, dim: int, seed: int) -> None:
        rng = np.random.Generator(np.random.Philox(key=[seed, _DRAW]))
        self._vectors = rng.standard_normal((buckets, dim), np.float32)
        ordered = np.sort(words, axis=1)
        first = np.ones(ordered.shape, bool)
        first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        items_with = np.bincount(ordered[first], minlength=buckets)
        # A word of one item alone is like no other, however rare; row 0 is none.
        rarity = np.where(
            items_with > 1, np.log(max(len(words), 1) / np.maximum(items_with, 1)), 0.0
        )
        rarity[0] = 0.0
        self._vectors *= rarity.astype(np.float32)[:, None]

    def of(self, words: NDArray[np.integer]) -> NDArray[np.float32]:
        """`[n, dim]` of items with these words `[n, columns]`; zeros for one without any."""
        sums = np.zeros((len(words), self._vectors.shape[1]), np.float32)
        for column in words.T:  # all at once would take as much memory again for each column
            sums += self._vectors[column]
        return sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
