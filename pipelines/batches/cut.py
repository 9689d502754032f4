"""When a micro-batch is cut: a function of event time, never of arrival (DESIGN 7).

At each window end the pending rows become a batch once there are `min_rows` of
them or the oldest has waited `max_wait` of event time.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipelines.batches.row_order import Keys, canonical_order
from pipelines.config import BatchConfig

__all__ = ["Pending", "advance", "cut", "spans"]


@dataclass(frozen=True)
class Pending:
    """Rows that wait to be cut: how many, and the first one's window end (ms)."""

    oldest_end: int = 0
    rows: int = 0


def advance(
    pending: Pending, end: int, rows: int, config: BatchConfig
) -> tuple[bool, bool, Pending]:
    """One window end after another: is a batch cut before its rows are added, and after?

    Args:
        pending: what waits from earlier window ends.
        end: the window end (epoch ms), not before an earlier call's.
        rows: rows with that window end.
        config: when a batch is due.
    """
    before = pending.rows > 0 and pending.oldest_end + config.max_wait < end
    if before or not pending.rows:
        pending = Pending(end, 0)
    pending = Pending(pending.oldest_end, pending.rows + rows)
    after = pending.rows >= config.min_rows or end >= pending.oldest_end + config.max_wait
    return before, after, Pending() if after else pending


def spans(ends: NDArray[np.int64], config: BatchConfig) -> list[tuple[int, int]]:
    """Where rows sorted by window end are cut: half-open index spans, in order.

    Args:
        ends: `[rows]` int64 epoch ms, ascending.
        config: when a batch is due; at the end of the input the rest is one.
    """
    distinct, starts = np.unique(ends, return_index=True)
    counts = np.diff(np.append(starts, len(ends)))
    cuts, pending = [0], Pending()
    for end, start, rows in zip(distinct.tolist(), starts.tolist(), counts.tolist(), strict=True):
        before, after, pending = advance(pending, end, rows, config)
        if before:
            cuts.append(start)
        if after:
            cuts.append(start + rows)
    if cuts[-1] < len(ends):
        cuts.append(len(ends))
    return [(a, b) for a, b in pairwise(cuts) if a < b]


def cut(keys: Keys, config: BatchConfig, first: int) -> list[NDArray[np.int64]]:
    """Row numbers of each micro-batch, in canonical order; the first is number `first`.

    A span longer than `max_rows` gives several batches, numbered on, in the
    order that belongs to the first one's number.
    """
    by_end = np.argsort(keys.window_end, kind="stable")
    batches: list[NDArray[np.int64]] = []
    for start, stop in spans(keys.window_end[by_end], config):
        rows = by_end[start:stop]
        rows = rows[canonical_order(keys.take(rows), first + len(batches))]
        batches += [rows[at : at + config.max_rows] for at in range(0, len(rows), config.max_rows)]
    return batches
