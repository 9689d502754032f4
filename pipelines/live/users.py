"""Live features: a shard of users, their waiting events and what is remembered of them."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.batches import decode, encode
from pipelines.columns import as_int64
from pipelines.config import FeatureConfig
from pipelines.live.journal import Entry
from pipelines.live.ticks import by_tick
from pipelines.memory import Memory, go_on
from pipelines.pieces import join
from pipelines.rows import FeatureRows

__all__ = ["Users"]

_EVENTS, _MEMORY, _FIRED = 0, 1, 2
_SIGNED = struct.Struct(">q")
_PIECE_ROWS = 50_000
"""Remembered events in one entry: a few megabytes, well below what a state value may weigh."""


@dataclass
class Users:
    """A shard of users.

    Attributes:
        config: windows, history, retention, lateness.
        frontier: newest tick that has fired; epoch milliseconds.
    """

    config: FeatureConfig
    frontier: int = 0
    _waiting: dict[int, list[bytes]] = field(default_factory=dict)
    _chunks: dict[int, Memory] = field(default_factory=dict)
    _where: dict[str, tuple[int, int]] = field(default_factory=dict)
    _revisions: dict[int, int] = field(default_factory=dict)
    _next: int = 0
    _swept: int = 0

    def wait(self, events: pa.RecordBatch) -> Iterator[tuple[int, Entry]]:
        """Take in events; (tick, what to record) for each window."""
        for tick, part in by_tick(events, self.config.window.size_ms):
            data = encode(part)
            self._waiting.setdefault(tick, []).append(data)
            yield tick, Entry(_EVENTS, _SIGNED.pack(tick) + data)

    def fire(self, tick: int) -> tuple[FeatureRows | None, int, list[Entry]]:
        """(Rows of what is due at `tick`, repeats that were left out, what to record).

        Rows of a window that had fired before are revisions.
        """
        upto = max(tick, self.frontier)
        due = sorted(number for number in self._waiting if number <= upto)
        if not due:
            return None, 0, []
        batches = [decode(data) for number in due for data in self._waiting.pop(number)]
        events = join(batches)
        rows, memory, repeats = go_on(self._recall(events), events, self.config)
        rows = self._revised(rows)
        self.frontier = upto
        self._keep(memory)
        entries = [Entry(_MEMORY, memory.to_bytes()), Entry(_FIRED, self._fired())]
        self._forget()
        return rows, repeats, entries

    # -- what is remembered ------------------------------------------------------

    def _recall(self, events: pa.RecordBatch) -> Memory:
        """The memory of the users in these events."""
        column = events.column("user_id")
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        used = np.unique(column.indices.to_numpy())
        places: dict[int, list[int]] = {}
        for user in column.dictionary.take(pa.array(used)).to_pylist():
            if user in self._where:
                chunk, place = self._where[user]
                places.setdefault(chunk, []).append(place)
        parts = [self._chunks[chunk].take(np.array(users)) for chunk, users in places.items()]
        return Memory.concat(parts)

    def _keep(self, memory: Memory) -> None:
        number, self._next = self._next, self._next + 1
        self._chunks[number] = memory
        for place, user in enumerate(memory.facts.column("user_id").to_pylist()):
            self._where[user] = (number, place)

    def _forget(self) -> None:
        """Drop users who were silent for longer than retention, and memories that were replaced."""
        held = sum(chunk.facts.num_rows for chunk in self._chunks.values())
        stale = held > 2 * len(self._where) + 1_000
        due = self.config.retention and self.frontier - self._swept > self.config.retention // 8
        if not (stale or due):
            return
        self._swept = self.frontier
        whole = self._whole()
        self._chunks, self._where = {}, {}
        if whole.facts.num_rows:
            for part in whole.parts(_PIECE_ROWS):
                self._keep(part)

    def _whole(self) -> Memory:
        """The memory of all users who are not forgotten, newest first of each."""
        oldest = self.frontier - self.config.retention if self.config.retention else None
        parts = []
        for number, chunk in self._chunks.items():
            users = chunk.facts.column("user_id").to_pylist()
            kept = np.array(
                [self._where[user] == (number, place) for place, user in enumerate(users)], bool
            )
            if oldest is not None:
                kept &= chunk.facts.column("last_time").to_numpy() >= oldest
            parts.append(chunk.take(np.flatnonzero(kept)))
        return Memory.concat(parts)

    # -- revisions -----------------------------------------------------------------

    def _revised(self, rows: FeatureRows) -> FeatureRows:
        """Number the rows of windows that had fired; forget windows that nothing can revise."""
        ends = as_int64(rows.rows.column("window_end"))
        late = ends <= self.frontier
        oldest = self.frontier - self.config.allowed_lateness
        self._revisions = {end: n for end, n in self._revisions.items() if end >= oldest}
        if not late.any():
            return rows
        revision = np.zeros(len(ends), np.int32)
        for end in np.unique(ends[late]).tolist():
            self._revisions[end] = self._revisions.get(end, 0) + 1
            revision[ends == end] = self._revisions[end]
        at = rows.rows.schema.get_field_index("revision")
        named = rows.rows.schema.field(at)
        return FeatureRows(rows.rows.set_column(at, named, pa.array(revision)), rows.timeline)

    # -- the journal ---------------------------------------------------------------

    def _fired(self) -> bytes:
        flat = [number for pair in sorted(self._revisions.items()) for number in pair]
        return struct.pack(f">{1 + len(flat)}q", self.frontier, *flat)

    def load(self, entry: Entry) -> None:
        """See `Mirror`."""
        if entry.kind == _EVENTS:
            tick = _SIGNED.unpack(entry.data[:8])[0]
            self._waiting.setdefault(tick, []).append(entry.data[8:])
        elif entry.kind == _MEMORY:
            self._keep(Memory.from_bytes(entry.data))
        else:
            self.frontier, *flat = struct.unpack(f">{len(entry.data) // 8}q", entry.data)
            self._revisions = dict(zip(flat[::2], flat[1::2], strict=True))
            for tick in [tick for tick in self._waiting if tick <= self.frontier]:
                del self._waiting[tick]
            self._forget()

    def dump(self) -> Iterable[Entry]:
        """See `Mirror`."""
        whole = self._whole()
        if whole.facts.num_rows:
            for part in whole.parts(_PIECE_ROWS):
                yield Entry(_MEMORY, part.to_bytes())
        yield Entry(_FIRED, self._fired())
        for tick, parts in sorted(self._waiting.items()):
            for data in parts:
                yield Entry(_EVENTS, _SIGNED.pack(tick) + data)

    def weight(self) -> int:
        """See `Mirror`."""
        waiting = sum(len(data) for parts in self._waiting.values() for data in parts)
        remembered = sum(
            chunk.events.nbytes + chunk.facts.nbytes for chunk in self._chunks.values()
        )
        held = sum(chunk.facts.num_rows for chunk in self._chunks.values())
        return waiting + remembered * len(self._where) // max(held, 1)
