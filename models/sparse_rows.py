"""Table rows of a step, sorted on the host: what the graph needs to read and to move them once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SparseRows", "distinct", "group_rows", "row_numbers", "run_starts"]

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class SparseRows:
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


def group_rows(rows: NDArray[np.integer], owner: NDArray[np.integer] | None = None) -> SparseRows:
    """Sort the entries by row; of equal rows the earlier entry comes first.

    Args:
        rows: `[t]`.
        owner: `[t]`; each entry's own position when absent.
    """
    order = np.flatnonzero(rows).astype(np.int32)
    order = order[_order(rows[order])]
    sorted_rows = rows[order].astype(np.int32)
    first = run_starts(sorted_rows)
    segment = np.cumsum(first, dtype=np.int32) - np.int32(1)
    place = np.zeros(len(rows), np.int32)
    place[order] = segment
    owners = order if owner is None else owner[order].astype(np.int32)
    return SparseRows(sorted_rows[first], place, owners, segment)


def _order(rows: NDArray[np.integer]) -> NDArray[np.integer]:
    """Stable order of numbers below 2**32, by radix sort: numpy has one for 16 bits at a time."""
    order = np.argsort(rows.astype(np.uint16), kind="stable")
    high = rows >> 16
    return order[np.argsort(high[order].astype(np.uint16), kind="stable")] if high.any() else order


def distinct(keys: NDArray[Any]) -> NDArray[Any]:
    """The different ones of `[n]` keys, ascending; numpy's own hashes them first."""
    ordered = np.sort(keys)
    return ordered[run_starts(ordered)]


def run_starts(ordered: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Where a run of equal numbers begins."""
    first = np.ones(len(ordered), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    return first


def row_numbers(tokens: NDArray[np.integer]) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Entries of a 0-padded matrix `[n, width]` of rows.

    Returns:
        `[t]` rows, `[t]` owners (ascending), and `[n]` float32, by which the sum of an
        owner's rows is scaled: their number to the power of -1/4. With -1/2 content learns too
        slowly, as a plain sum too fast.
    """
    held = tokens != 0
    count = held.sum(axis=1)
    scale = np.maximum(np.arange(tokens.shape[1] + 1), 1) ** -0.25
    owner = np.repeat(np.arange(len(tokens), dtype=np.int32), count)
    return tokens[held].astype(np.int32), owner, scale.astype(np.float32)[count]
