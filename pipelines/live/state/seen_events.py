"""Live deduplication: events wait for a tick, then each id counts once.

By shards of the event_id. Whatever the order of arrival, at a tick all events
of before are there (late ones apart), and the same rule is applied to them
as in a bounded run (`pipelines.clean.duplicate_rule`); ids are remembered for the horizon.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.arrow.columns import Ints, as_int64
from pipelines.arrow.hashing import Hashes, hash_strings
from pipelines.arrow.ipc import concat, decode, encode
from pipelines.arrow.partition import join_batches
from pipelines.bounded.between_runs.run_state import BEGINNING, last_end
from pipelines.clean.duplicate_rule import (
    FINGERPRINTS,
    drop_repeats,
    fingerprints_of,
    repeated_fingerprints,
)
from pipelines.config import WindowSpec
from pipelines.live.state.journal import Entry
from pipelines.live.state.timer_grid import TimerGrid, by_tick, first_end

__all__ = ["SeenEvents", "SettledEvents"]

_EVENTS, _IDS, _FRONTIER = 0, 1, 2


@dataclass(frozen=True)
class SettledEvents:
    """What became of the events of a tick."""

    unique: pa.RecordBatch  # EVENTS
    duplicates: int
    late: int  # of the unique ones: their window had fired
    too_late: pa.RecordBatch  # EVENTS


@dataclass
class SeenEvents:
    """A shard of ids: events that wait for their tick, and ids that were seen.

    Attributes:
        window: how event time is cut.
        horizon_ms: how long an id is remembered, in event time.
        lateness_ms: how long after its window's end an event is still taken.
        frontier: newest tick that has fired; epoch milliseconds.
        before: what had been told before this stream began; epoch milliseconds.
    """

    window: WindowSpec
    horizon_ms: int
    lateness_ms: int
    frontier: int = 0
    before: int = BEGINNING
    _events: dict[int, list[bytes]] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)
    _chunks: deque[tuple[int, Hashes, Ints]] = field(default_factory=deque)

    def begin(self, before: int, ids: Hashes, times: Ints) -> None:
        """Windows up to `before` (ms) were told by runs on files, which saw these ids last at."""
        self.before = before
        self._add(ids, times)

    def wait(self, events: pa.RecordBatch) -> tuple[list[int], list[Entry]]:
        """Take in events; the ticks to wake up at, what to record."""
        ticks, entries = [], []
        for tick, part in by_tick(events, TimerGrid.of(self.window)):
            data = encode(part)
            self._events.setdefault(tick, []).append(data)
            ticks.append(tick)
            entries.append(Entry(_EVENTS, tick.to_bytes(8, "big", signed=True) + data))
        return ticks, entries

    def fire(self, tick: int) -> tuple[SettledEvents | None, list[Entry]]:
        """Settle what is due at `tick`, and what is late; what to record."""
        upto = max(tick, self.frontier)
        due = sorted(number for number in self._events if number <= upto)
        if not due:
            return None, []
        batches = [decode(data) for number in due for data in self._events.pop(number)]
        events = join_batches(batches)
        ends = last_end(as_int64(events.column("event_time")), self.window)
        told = max(self.frontier, self.before)
        hopeless = ends + self.lateness_ms < told
        too_late = events.filter(pa.array(hopeless))
        if hopeless.any():
            events = events.filter(pa.array(~hopeless))
        unique = self._unique(events)
        times = as_int64(unique.column("event_time"))
        late = first_end(times, self.window) <= told
        self.frontier = upto
        entries = [Entry(_FRONTIER, upto.to_bytes(8, "big", signed=True))]
        entries += self._remember(unique)
        duplicates = events.num_rows - unique.num_rows
        return SettledEvents(unique, duplicates, int(late.sum()), too_late), entries

    def _unique(self, events: pa.RecordBatch) -> pa.RecordBatch:
        found = fingerprints_of(events)
        ids, times = found.column("id").to_numpy(), found.column("time").to_numpy()
        kept = np.fromiter((self._seen.get(i, -1) for i in ids.tolist()), np.int64, len(ids))
        # What was given out stays given out, even if an earlier event turns up late.
        again = (kept >= 0) & (times <= kept)
        if again.any():
            left = pa.array(~again)
            events, found, kept = events.filter(left), found.filter(left), kept[~again]
        known = np.flatnonzero(kept >= 0)
        if len(known):
            memory = pa.RecordBatch.from_arrays(
                [
                    found.column("id").take(pa.array(known)),
                    pa.array(kept[known]),
                    pa.array([""] * len(known), pa.string()),  # before any user at that instant
                ],
                schema=FINGERPRINTS,
            )
            found = concat([memory, found], FINGERPRINTS)
        return drop_repeats(events, [repeated_fingerprints(found, self.horizon_ms)])

    def _remember(self, events: pa.RecordBatch) -> list[Entry]:
        times = as_int64(events.column("event_time"))
        order = np.argsort(times, kind="stable")  # of an id's instants, the last one stays
        times, ids = times[order], hash_strings(events.column("event_id"))[order]
        self._add(ids, times)
        self._forget()
        if not len(ids):
            return []
        return [Entry(_IDS, ids.tobytes() + times.tobytes())]

    def _add(self, ids: Hashes, times: Ints) -> None:
        if len(ids):
            self._seen.update(zip(ids.tolist(), times.tolist(), strict=True))
            self._chunks.append((int(times.max()), ids, times))

    def _forget(self) -> None:
        """Let go of ids that no event can repeat any more."""
        while self._chunks and self._chunks[0][0] + self.horizon_ms < self.frontier:
            _, ids, times = self._chunks.popleft()
            for number, time in zip(ids.tolist(), times.tolist(), strict=True):
                if self._seen.get(number) == time:
                    del self._seen[number]

    def load(self, entry: Entry) -> None:
        """See `Mirror`."""
        if entry.kind == _FRONTIER:
            self.frontier = int.from_bytes(entry.data, "big", signed=True)
            for tick in [tick for tick in self._events if tick <= self.frontier]:
                del self._events[tick]
            self._forget()
        elif entry.kind == _IDS:
            values = np.frombuffer(entry.data, np.uint64)
            half = len(values) // 2
            self._add(values[:half], values[half:].view(np.int64))
        else:
            tick = int.from_bytes(entry.data[:8], "big", signed=True)
            self._events.setdefault(tick, []).append(entry.data[8:])

    def dump(self) -> Iterable[Entry]:
        """See `Mirror`."""
        yield Entry(_FRONTIER, self.frontier.to_bytes(8, "big", signed=True))
        for _, ids, times in self._chunks:
            yield Entry(_IDS, ids.tobytes() + times.tobytes())
        for tick, parts in self._events.items():
            for data in parts:
                yield Entry(_EVENTS, tick.to_bytes(8, "big", signed=True) + data)

    def weight(self) -> int:
        """See `Mirror`."""
        waiting = sum(len(data) for parts in self._events.values() for data in parts)
        return waiting + 16 * sum(len(ids) for _, ids, _ in self._chunks)
