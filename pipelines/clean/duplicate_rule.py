"""Prints of events, by which repeats are found: hash of the event_id, time and user.

Of the events with one id, the one with the smallest (event_time, user_id, …)
counts; the others within `dedupe_horizon` of it are duplicates, the first one
beyond counts again, and so on: a function of content, never of arrival.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipelines.arrow.columns import Ints, as_int64, encode_column, order_by, run_starts
from pipelines.arrow.hashing import Hashes, hash_strings, mix

__all__ = [
    "FINGERPRINTS",
    "LOSERS",
    "differing",
    "drop_repeats",
    "fingerprints_of",
    "keys",
    "repeated_fingerprints",
]

FINGERPRINTS = pa.schema(
    [
        pa.field("id", pa.uint64(), nullable=False),  # hash of the event_id
        pa.field("time", pa.int64(), nullable=False),  # ms since the epoch
        pa.field("user_id", pa.string(), nullable=False),
    ]
)

_MARKS = np.uint64(1 << 20)

LOSERS = pa.schema([pa.field("print", pa.uint64(), nullable=False)])
"""Keys of prints whose events are duplicates."""


def fingerprints_of(events: pa.RecordBatch) -> pa.RecordBatch:
    """EVENTS `[n]` → PRINTS `[n]`; user_id stays dictionary-encoded if it is."""
    columns = [
        pa.array(hash_strings(events.column("event_id"))),
        pa.array(as_int64(events.column("event_time"))),
        events.column("user_id"),
    ]
    return pa.RecordBatch.from_arrays(columns, names=FINGERPRINTS.names)


def keys(found: pa.RecordBatch) -> Hashes:
    """`[n]` uint64: one number for each print."""
    ids, times = found.column("id").to_numpy(), found.column("time").to_numpy()
    return mix(mix(ids, times.view(np.uint64)), hash_strings(found.column("user_id")))


def repeated_fingerprints(found: pa.RecordBatch, horizon_ms: int) -> pa.RecordBatch:
    """All PRINTS `[n]` of some ids → LOSERS: those that repeat another print."""
    several = _shared(found.column("id").to_numpy())
    found = found.take(pa.array(several))
    time = as_int64(found.column("time"))
    user, _ = encode_column(found.column("user_id"), ordered=True)
    group = np.unique(found.column("id").to_numpy(), return_inverse=True)[1]
    order = order_by(group, time - time.min(initial=0), user)
    # The same user at the same instant is the same print: one of them goes on.
    order = order[run_starts(group[order], time[order], user[order])]
    lost = order[_lose(group[order], time[order], horizon_ms)]
    lost_keys = keys(found.take(pa.array(lost)))
    return pa.RecordBatch.from_arrays([pa.array(lost_keys)], schema=LOSERS)


def _shared(ids: Hashes) -> Ints:
    """Positions of the ids that occur more than once."""
    ordered = np.sort(ids)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    marks = np.zeros(_MARKS, bool)
    marks[repeated % _MARKS] = True
    perhaps = np.flatnonzero(marks[ids % _MARKS])  # few, so that looking them up costs little
    return perhaps[np.isin(ids[perhaps], repeated)]


def _lose(group: Ints, time: Ints, horizon_ms: int) -> Ints:
    """Positions that lose, of instants `[n]` ascending within groups.

    A round settles the first instant of every group and all within its horizon.
    """
    lost, left = [np.empty(0, np.int64)], np.arange(len(group))
    while len(left):
        first = run_starts(group[left])
        since = time[left] - time[left][first][np.cumsum(first) - 1]
        lost.append(left[~first & (since <= horizon_ms)])
        left = left[since > horizon_ms]
    return np.concatenate(lost)


def drop_repeats(events: pa.RecordBatch, lost: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """EVENTS without those whose print is among the LOSERS."""
    found = [batch.column("print").to_numpy() for batch in lost]
    if not found:
        return events
    return events.filter(pa.array(~np.isin(keys(fingerprints_of(events)), np.concatenate(found))))


def differing(events: pa.RecordBatch, lost: Ints | None = None) -> int:
    """How many EVENTS `[n]` repeat another's id, user and instant, but are of another item.

    Args:
        events: what to look at.
        lost: positions of the repeats, where they are known: to look at fewer.
    """
    if lost is not None:
        time = as_int64(events.column("event_time"))
        marks = np.zeros(_MARKS, bool)
        marks[time[lost] % int(_MARKS)] = True
        events = events.filter(pa.array(marks[time % int(_MARKS)]))
    one = keys(fingerprints_of(events))
    some = _shared(one)
    items, _ = encode_column(events.column("item_id").take(pa.array(some)))
    group = np.unique(one[some], return_inverse=True)[1]
    order = order_by(group, items)
    pairs = int(run_starts(group[order], items[order]).sum())
    return pairs - int(group.max(initial=-1)) - 1
