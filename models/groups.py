"""Table rows of a step, sorted on the host: what the graph needs to read and to move them once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Group", "grouped", "row_numbers"]

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class Group:
    """Entries (row, owner) of one table: an owner's vector is a sum of rows.

    Attributes:
        unique: `[u]` distinct rows, ascending, without row 0.
        place: `[t]` of each entry's row in `unique`, in the order given; of row 0: 0.
        owner: `[m]` owners of the entries but those of row 0, sorted by row.
        segment: `[m]` place in `unique` of each of these, ascending.
    """

    unique: Ints
    place: Ints
    owner: Ints
    segment: Ints


def grouped(rows: NDArray[np.integer], owner: NDArray[np.integer] | None = None) -> Group:
    """Sort the entries by row; of equal rows the earlier entry comes first.

    Args:
        rows: `[t]`.
        owner: `[t]`; each entry's own position when absent.
    """
    at = np.flatnonzero(rows)
    keys = np.sort((rows[at].astype(np.int64) << 32) | at)
    order = (keys & 0xFFFFFFFF).astype(np.int32)
    sorted_rows = (keys >> 32).astype(np.int32)
    first = np.ones(len(keys), bool)
    first[1:] = sorted_rows[1:] != sorted_rows[:-1]
    segment = np.cumsum(first, dtype=np.int32) - 1
    place = np.zeros(len(rows), np.int32)
    place[order] = segment
    owners = order if owner is None else owner[order].astype(np.int32)
    return Group(sorted_rows[first], place, owners, segment.astype(np.int32))


def row_numbers(tokens: NDArray[np.integer]) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Entries of a 0-padded matrix `[n, width]` of rows.

    Returns:
        `[t]` rows, `[t]` owners (ascending), and `[n]` float32, by which the sum of an
        owner's rows is scaled: their number to the power of -1/4. With -1/2 content learns too
        slowly, as a plain sum too fast.
    """
    owner, column = np.nonzero(tokens)
    count = np.bincount(owner, minlength=len(tokens))
    scale = np.maximum(count, 1) ** -0.25
    return (
        tokens[owner, column].astype(np.int32),
        owner.astype(np.int32),
        scale.astype(np.float32),
    )
