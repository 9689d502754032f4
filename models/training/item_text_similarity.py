"""How alike items are by their words: fixed vectors whose inner product needs no learning."""

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

__all__ = ["ContentSimilarity"]

_DRAW = 1_009  # apart from the seed's other draws
_SAMPLE = 65_536  # items from which the directions are found
_ROUNDS = 4
_SPARE = 16  # directions beside the wanted ones while these are looked for
_CHUNK = 65_536

Ints = NDArray[np.integer]
Floats = NDArray[np.float32]


class ContentSimilarity:
    """Unit vectors of items by their words, weighed by how rare each is.

    Latent semantic analysis (Deerwester et al., J. ASIS 1990): an item's words, each counted
    once and weighed by ln(items / items with it) (Spärck Jones, J. Documentation 1972), seen
    along the directions in which the catalogue differs most, and brought to length 1. With as
    many directions as there are words in use, inner products are the cosines of tf-idf; with
    fewer, words that come together count as near. Unlike the words' learned vectors they stay
    as they are, however little an item was seen. The directions are those of one catalogue:
    vectors of two catalogues do not compare.

    Args:
        start: `[items + 1]` int, where each item's words begin in `words`.
        words: int rows of the words of a whole catalogue; those of one item are distinct.
        buckets: rows of words that there are; row 0 is none.
        dim: width; 0 for none.
        seed: of the first guess of the directions.
    """

    def __init__(self, start: Ints, words: Ints, *, buckets: int, dim: int, seed: int) -> None:
        items = len(start) - 1
        self._vectors = np.zeros((buckets, dim), np.float32)
        if not dim:
            start, words = np.zeros(items + 1, np.int32), words[:0]
        elif len(words) < 2**31:  # or each word would cost four bytes more
            start = start.astype(np.int32)
        ones = np.ones(len(words), np.float32)
        self._counts = scipy.sparse.csr_array((ones, words, start), shape=(items, buckets))
        if not len(words):
            return
        items_with = np.bincount(words, minlength=buckets)
        # A word of one item alone is like no other, however rare; row 0 is none.
        rarity = np.where(items_with > 1, np.log(items / np.maximum(items_with, 1)), 0.0)
        rarity[0] = 0.0
        rng = np.random.Generator(np.random.Philox(key=[seed, _DRAW]))
        sample = np.sort(rng.permutation(items)[:_SAMPLE])
        weighed = _unit(self._counts[sample] * rarity.astype(np.float32))
        # Several threads would add up in another order: the same bytes on any number of cores.
        with threadpool_limits(1):
            self._vectors = rarity.astype(np.float32)[:, None] * _directions(weighed, dim, rng)

    def of(self, rows: Ints) -> Floats:
        """`[n, dim]` of items by their row in the catalogue; zeros for one with nothing to tell."""
        out = np.zeros((len(rows), self._vectors.shape[1]), np.float32)
        for first in range(0, len(rows), _CHUNK):
            part = slice(first, first + _CHUNK)
            out[part] = self._counts[rows[part]] @ self._vectors
        return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-9)


def _unit(rows: scipy.sparse.csr_array) -> scipy.sparse.csr_array:
    """Each row brought to length 1."""
    length = np.sqrt(rows.multiply(rows).sum(axis=1))
    return scipy.sparse.csr_array(rows.multiply(1.0 / np.maximum(length, 1e-9)[:, None]))


def _directions(rows: scipy.sparse.csr_array, dim: int, rng: np.random.Generator) -> Floats:
    """The `dim` first right singular vectors of `rows`, `[columns, dim]`; zeros where none is left.

    By subspace iteration from a random start (Halko et al., SIAM Review 2011, 4.4): a fixed
    number of passes, whatever the spectrum.
    """
    out = np.zeros((rows.shape[1], dim), np.float32)
    size = min(dim + _SPARE, *rows.shape)
    held = np.linalg.qr(rows @ (rows.T @ rng.standard_normal((rows.shape[0], size))))[0]
    for _ in range(_ROUNDS - 1):
        held = np.linalg.qr(rows @ (rows.T @ held))[0]
    across = (rows.T @ held).T  # [size, columns]
    squares, turn = np.linalg.eigh(across @ across.T)
    keep = np.argsort(-squares)[:dim]
    keep = keep[squares[keep] > 1e-9 * max(squares.max(), 1e-30)]
    out[:, : len(keep)] = (turn[:, keep].T @ across).T / np.sqrt(squares[keep])
    return out
