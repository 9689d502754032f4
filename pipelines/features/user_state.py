"""What must be known of a user's past, so that the kernel can go on from there.

The kernel looks back at past events like at any other (`pipelines.features.observations`),
so the memory of a user *is* a few of their events: those that a history can
still hold, the last one on each item, the last of all, the first and the last
purchase; and beside them what the last event would need to anchor a row, whose
own past is gone.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.arrow.columns import Ints, range_indices
from pipelines.arrow.ipc import concat, decode, encode
from pipelines.arrow.partition import compact_dictionaries, join_batches, take
from pipelines.config import FeatureConfig
from pipelines.features.aggregate import aggregate
from pipelines.features.observations import (
    IMPRESSION,
    PURCHASE,
    Flags,
    Observations,
    RememberedUsers,
    observe,
    read_log,
)
from pipelines.features.rows import FeatureRows
from pipelines.schema import EVENTS

__all__ = ["FACTS", "UserMemory", "rows_and_memory", "rows_of_ended_windows", "updated_memory"]

FACTS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("events", pa.int32(), nullable=False),  # how many are remembered
        pa.field("last_time", pa.int64(), nullable=False),  # ms since the epoch
        # Of the user's last event, as in Observations:
        pa.field("since_event", pa.int64(), nullable=False),
        pa.field("since_item", pa.int64(), nullable=False),
        pa.field("since_purchase", pa.int64(), nullable=False),
        pa.field("interval", pa.float64(), nullable=False),
        pa.field("forgotten", pa.int64(), nullable=False),  # purchases no longer remembered
    ]
)
"""One row per user, in the order of their events."""


@dataclass(frozen=True)
class UserMemory:
    """The memory of some users: FACTS `[u]` and EVENTS `[k]`, user by user, in user order."""

    facts: pa.RecordBatch
    events: pa.RecordBatch

    @classmethod
    def empty(cls) -> "UserMemory":
        """Of nobody."""
        return cls(concat([], FACTS), concat([], EVENTS))

    @classmethod
    def concat(cls, parts: list["UserMemory"]) -> "UserMemory":
        """Of different users, one after another."""
        return cls(
            concat([part.facts for part in parts], FACTS),
            join_batches(part.events for part in parts),
        )

    def take(self, users: Ints) -> "UserMemory":
        """Of the users at these places in `facts`."""
        lengths = self.facts.column("events").to_numpy()
        starts = np.cumsum(lengths) - lengths
        rows = range_indices(starts[users], lengths[users])
        return UserMemory(
            compact_dictionaries(self.facts.take(pa.array(users))),
            compact_dictionaries(take(self.events, pa.array(rows))),
        )

    def parts(self, rows: int) -> Iterator["UserMemory"]:
        """The same in pieces of about so many events."""
        ends = np.cumsum(self.facts.column("events").to_numpy(), dtype=np.int64)
        cuts = np.unique(np.append(np.searchsorted(ends, np.arange(0, ends[-1], rows)), len(ends)))
        for start, stop in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
            yield self.take(np.arange(start, stop))

    def to_bytes(self) -> bytes:
        """For the journal; `from_bytes` is the inverse."""
        facts = encode(self.facts)
        return len(facts).to_bytes(8, "big") + facts + encode(self.events)

    @classmethod
    def from_bytes(cls, data: bytes) -> "UserMemory":
        """The inverse of `to_bytes`."""
        cut = 8 + int.from_bytes(data[:8], "big")
        return cls(decode(data[8:cut]), decode(data[cut:]))


def rows_and_memory(
    memory: UserMemory, events: pa.RecordBatch, config: FeatureConfig
) -> tuple[FeatureRows, UserMemory, int]:
    """New events of the users in `memory`, and of new ones → (rows, their memory, repeats)."""
    seen, together = _look(memory, events, config)
    return aggregate(seen, config), _remember(seen, together, config.history), seen.log.repeats


def rows_of_ended_windows(
    memory: UserMemory, events: pa.RecordBatch, config: FeatureConfig, ended: tuple[int, int]
) -> FeatureRows:
    """Rows of the windows that end within `ended` (see `pipelines.features.aggregate`)."""
    return aggregate(_look(memory, events, config)[0], config, ended)


def updated_memory(memory: UserMemory, events: pa.RecordBatch, config: FeatureConfig) -> UserMemory:
    """The memory of the users in `memory` and in `events`, once these have happened."""
    return _remember(*_look(memory, events, config), config.history)


def _look(
    memory: UserMemory, events: pa.RecordBatch, config: FeatureConfig
) -> tuple[Observations, pa.RecordBatch]:
    """What new events make known, and all events that this rests on."""
    known = memory.events.num_rows
    together = join_batches([memory.events, events])
    log = read_log(together, remembered=known)
    ends = np.cumsum(memory.facts.column("events").to_numpy(), dtype=np.int64)
    places = np.full(together.num_rows, -1)
    places[log.source] = np.arange(len(log.source))
    memories = RememberedUsers(
        at=places[ends - 1],
        **{name: _numbers(memory, name) for name in _CARRIED},
    )
    return observe(log, config, memories if known else None), together


_CARRIED = ("since_event", "since_item", "since_purchase", "interval", "forgotten")


def _numbers(memory: UserMemory, name: str) -> np.ndarray:
    return memory.facts.column(name).to_numpy(zero_copy_only=False)


def _remember(seen: Observations, events: pa.RecordBatch, history: int) -> UserMemory:
    log = seen.log
    if not len(log.user):
        return UserMemory.empty()
    last = np.flatnonzero(np.append(log.user[1:] != log.user[:-1], True))
    kept = _kept(seen, last, history)
    position = np.flatnonzero(kept)
    lengths = np.diff(np.searchsorted(position, last, side="right"), prepend=0)
    bought = np.cumsum(kept & (log.kind == PURCHASE))[last]
    remembered = np.diff(bought, prepend=0)
    total = seen.purchases[last] + (log.kind[last] == PURCHASE)
    facts = {
        "user_id": log.users.take(pa.array(log.user[last])),
        "events": pa.array(lengths.astype(np.int32)),
        "last_time": pa.array(log.time[last]),
        "since_event": pa.array(seen.since_event[last]),
        "since_item": pa.array(seen.since_item[last]),
        "since_purchase": pa.array(seen.since_purchase[last]),
        "interval": pa.array(seen.interval[last]),
        "forgotten": pa.array(total - remembered),
    }
    past = take(events, pa.array(log.source[position]))
    nameless = pa.array([""]).take(pa.array(np.zeros(len(position), np.int32)))
    past = past.set_column(0, EVENTS.field("event_id"), nameless)
    return UserMemory(
        pa.RecordBatch.from_arrays([facts[name] for name in FACTS.names], schema=FACTS),
        compact_dictionaries(past),
    )


def _kept(seen: Observations, last: Ints, history: int) -> Flags:
    """`[n]` which events have to be remembered; `last` is each user's last one."""
    log, n = seen.log, len(seen.log.user)
    runs = np.diff(last, prepend=-1)
    alive = np.arange(n) >= np.repeat(seen.life[last], runs)
    # One more than a history: the last event itself may yet anchor a row.
    told = np.cumsum(log.kind != IMPRESSION)
    kept = (log.kind != IMPRESSION) & (np.repeat(told[last], runs) - told <= history)
    kept[last] = True
    order = seen.by_item
    ends = np.ones(n, bool)
    ends[:-1] = (log.user[order[1:]] != log.user[order[:-1]]) | (
        log.item[order[1:]] != log.item[order[:-1]]
    )
    kept[order[ends]] = True
    bought = np.flatnonzero((log.kind == PURCHASE) & alive)
    if len(bought):
        change = log.user[bought[1:]] != log.user[bought[:-1]]
        kept[bought[np.append(True, change)]] = True
        kept[bought[np.append(change, True)]] = True
    return kept & alive
