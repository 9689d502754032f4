"""Live features: a shard of users, their waiting events and what is remembered of them."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.arrow.columns import as_int64
from pipelines.arrow.ipc import decode, encode
from pipelines.arrow.partition import compact_dictionaries, join_batches
from pipelines.bounded.between_runs.run_state import BEGINNING
from pipelines.clean.quarantine import SetApart, Suspicion
from pipelines.config import CleanConfig, FeatureConfig
from pipelines.features.rows import FeatureRows
from pipelines.features.user_state import UserMemory
from pipelines.live.state.journal import Entry
from pipelines.live.state.open_windows import OpenWindows, open_windows_for
from pipelines.live.state.timer_grid import TimerGrid, by_tick

__all__ = ["UserFeatures"]

_EVENTS, _MEMORY, _FIRED, _HELD = 0, 1, 2, 3
_SIGNED = struct.Struct(">q")
_PIECE_ROWS = 50_000
"""Remembered events in one entry: a few megabytes, well below what a state value may weigh."""


@dataclass
class UserFeatures:
    """A shard of users.

    Attributes:
        config: windows, history, retention, lateness.
        frontier: newest tick that has fired; epoch milliseconds.
        before: what had been told before this stream began; epoch milliseconds.
        clean: which events are quarantined.
    """

    config: FeatureConfig
    frontier: int = 0
    before: int = BEGINNING
    clean: CleanConfig = field(default_factory=CleanConfig)
    _waiting: dict[int, list[bytes]] = field(default_factory=dict)
    _chunks: dict[int, UserMemory] = field(default_factory=dict)
    _where: dict[str, tuple[int, int]] = field(default_factory=dict)
    _revisions: dict[int, int] = field(default_factory=dict)
    _ahead: list[int] = field(default_factory=list)
    _next: int = 0
    _swept: int = 0

    def __post_init__(self) -> None:
        """Nothing is held yet."""
        self._held: OpenWindows = open_windows_for(self.config)
        self._suspicion = Suspicion(self.clean, self.config.window)

    def begin(self, before: int, revisions: dict[int, int]) -> None:
        """Windows up to `before` (ms) were told by runs on files, some of them revised."""
        self.before, self._revisions = before, dict(revisions)
        self._ahead = [end for end in revisions if end > before]  # told, and not yet reached

    def remember(self, memory: UserMemory) -> None:
        """Know these users from runs on files."""
        if memory.facts.num_rows:
            self._keep(memory)

    def wait(self, events: pa.RecordBatch) -> tuple[list[int], list[Entry]]:
        """Take in events; the ticks to wake up at, what to record."""
        entries = []
        for tick, part in by_tick(events, TimerGrid.of(self.config.window)):
            data = encode(part)
            self._waiting.setdefault(tick, []).append(data)
            entries.append(Entry(_EVENTS, _SIGNED.pack(tick) + data))
        times = as_int64(events.column("event_time"))
        return self._held.ticks(times, self.frontier).tolist(), entries

    def fire(self, tick: int) -> tuple[list[FeatureRows], int, SetApart | None, list[Entry]]:
        """(Rows of what is due at `tick`, repeats, what is quarantined, what to record).

        Rows of a window that had fired before are revisions.
        """
        upto = max(tick, self.frontier)
        arrived = join_batches(map(decode, self._due(upto)))
        if not (arrived.num_rows or self._held.events.num_rows):
            return [], 0, None, []
        apart = self._suspicion.set_apart(arrived)
        told = self._held.fire(self._recall, apart.events, self.frontier, upto)
        rows = [part for part in map(self._revised, told.rows) if len(part)]
        if not (rows or arrived.num_rows or told.memory.facts.num_rows):
            return [], 0, None, []
        self.frontier = upto
        entries = []
        if told.memory.facts.num_rows:
            self._keep(told.memory)
            entries.append(Entry(_MEMORY, told.memory.to_bytes()))
        entries.append(Entry(_FIRED, self._fired()))
        self._forget()
        return rows, told.repeats + apart.repeats, apart, entries

    def _due(self, upto: int) -> list[bytes]:
        """EVENTS that are settled by `upto`, as bytes; they wait no longer."""
        due = sorted(number for number in self._waiting if number <= upto)
        return [data for number in due for data in self._waiting.pop(number)]

    def _cleared(self, due: list[bytes]) -> list[bytes]:
        """What `fire` handed on of these EVENTS, as bytes."""
        if not (self._suspicion.on and due):
            return due
        return [encode(self._suspicion.set_apart(join_batches(map(decode, due))).events)]

    # -- what is remembered ------------------------------------------------------

    def _recall(self, events: pa.RecordBatch) -> UserMemory:
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
        return UserMemory.concat(parts)

    def _keep(self, memory: UserMemory) -> None:
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

    def _whole(self) -> UserMemory:
        """The memory of all users who are not forgotten, newest first of each."""
        oldest = self._oldest()
        parts = []
        for number, chunk in self._chunks.items():
            users = chunk.facts.column("user_id").to_pylist()
            kept = np.array(
                [self._where[user] == (number, place) for place, user in enumerate(users)], bool
            )
            if oldest is not None:
                kept &= chunk.facts.column("last_time").to_numpy() >= oldest
            parts.append(chunk.take(np.flatnonzero(kept)))
        return UserMemory.concat(parts)

    def _oldest(self) -> int | None:
        """Users whose last remembered event is older (ms) start anew at whatever they do next."""
        if not self.config.retention:
            return None
        held = as_int64(self._held.events.column("event_time"))
        return int(held.min(initial=self.frontier)) - self.config.retention

    # -- revisions -----------------------------------------------------------------

    def _revised(self, rows: FeatureRows) -> FeatureRows:
        """Number the rows of windows that had fired; forget windows that nothing can revise."""
        ends = as_int64(rows.rows.column("window_end"))
        gone = ends + self.config.allowed_lateness < self.before
        if gone.any():  # an event may fall in a window that is gone and in one that is not
            rows, ends = rows.take(np.flatnonzero(~gone)), ends[~gone]
        late = ends <= max(self.frontier, self.before)
        if self._ahead:
            late |= np.isin(ends, self._ahead)
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
        elif entry.kind == _HELD:
            self._held.events = join_batches([self._held.events, decode(entry.data)])
        elif entry.kind == _MEMORY:
            self._keep(UserMemory.from_bytes(entry.data))
        else:
            self.frontier, *flat = struct.unpack(f">{len(entry.data) // 8}q", entry.data)
            self._revisions = dict(zip(flat[::2], flat[1::2], strict=True))
            self._held.skip(self._cleared(self._due(self.frontier)), self.frontier)
            self._forget()

    def dump(self) -> Iterable[Entry]:
        """See `Mirror`."""
        whole = self._whole()
        if whole.facts.num_rows:
            for part in whole.parts(_PIECE_ROWS):
                yield Entry(_MEMORY, part.to_bytes())
        held = self._held.events
        for start in range(0, held.num_rows, _PIECE_ROWS):
            yield Entry(_HELD, encode(compact_dictionaries(held.slice(start, _PIECE_ROWS))))
        # After what is held: who is forgotten hangs on the oldest event of an open window.
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
        return waiting + self._held.events.nbytes + remembered * len(self._where) // max(held, 1)
