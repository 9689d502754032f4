"""Live micro-batches: rows wait for their tick, and batches are cut as in a bounded run.

One key: batches are cut over all users. A batch that was logged before a crash
and comes out otherwise after it (only late events can do that) stays as logged:
the training log is the truth, and rows that it holds are not logged again.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from models.store.canonical_bytes import canonical, to_ipc
from models.store.store import Store
from pipelines.arrow.columns import as_int64
from pipelines.arrow.hashing import Hashes, hash_strings, mix
from pipelines.batches.cut import Pending, advance
from pipelines.batches.row_order import Keys, canonical_order
from pipelines.config import BatchConfig
from pipelines.errors import StoreError
from pipelines.features.rows import FeatureRows
from pipelines.live.state.journal import Entry
from pipelines.live.state.timer_grid import TimerGrid

__all__ = ["END_OF_STREAM", "Cutter", "LiveLog", "row_keys"]

_ROWS, _FIRED = 0, 1
_SIGNED = struct.Struct(">q")
_STATE = struct.Struct(">5q")

END_OF_STREAM = 2**61
"""A tick after all others: what is pending then is the last batch."""


@dataclass(frozen=True)
class LiveLog:
    """Writes batches to the training log.

    Attributes:
        store: where it is.
        config: when a batch is due, and how large it may be.
        history: past events that a logged row carries.
    """

    store: Store
    config: BatchConfig
    history: int

    def put(self, rows: FeatureRows, first: int) -> tuple[int, Hashes]:
        """Log one cut as batch `first` and on; the last number, and keys logged but not in `rows`.

        Rows of a batch that is logged already count as logged, whatever else is in it.
        """
        strangers, number = np.empty(0, np.uint64), first
        while True:
            order = canonical_order(Keys.of(rows.rows), first)  # the cut's own, in every piece
            batch = rows.take(order[: self.config.max_rows]).materialise(self.history)
            taken, more = self._put(number, canonical(batch))
            strangers = np.concatenate([strangers, more])
            left = np.isin(row_keys(rows.rows), taken, invert=True)
            if not left.any():
                return number, strangers
            rows, number = rows.take(np.flatnonzero(left)), number + 1

    def _put(self, number: int, batch: pa.RecordBatch) -> tuple[Hashes, Hashes]:
        """Log a batch; (keys of what is logged under its number, those not in the batch)."""
        keys = row_keys(batch)
        try:
            self.store.log_batches([(number, to_ipc(batch))])
        except StoreError:
            logged = row_keys(self.store.read_batch(number)[0])
            return logged, logged[np.isin(logged, keys, invert=True)]
        return keys, keys[:0]


def row_keys(rows: pa.RecordBatch) -> Hashes:
    """Feature rows `[n]` → `[n]` uint64: one number for user, item, window and revision."""
    key = mix(hash_strings(rows.column("user_id")), hash_strings(rows.column("item_id")))
    for name in ("window_start", "window_end", "revision"):
        key = mix(key, as_int64(rows.column(name)).view(np.uint64))
    return key


@dataclass
class Cutter:
    """Rows that wait for their tick, rows that wait for their batch, and where the log stands.

    Attributes:
        log: where batches go.
        grid: instants at which all rows are there whose windows have ended by then.
        number: the newest batch.
        frontier: the newest tick that has fired, epoch milliseconds.
    """

    log: LiveLog
    grid: TimerGrid
    number: int = 0
    frontier: int = 0
    _waiting: dict[int, list[bytes]] = field(default_factory=dict)
    _pending: Pending = field(default_factory=Pending)
    _pieces: list[bytes] = field(default_factory=list)
    _early: set[int] = field(default_factory=set)

    def wait(self, data: bytes) -> tuple[list[int], list[Entry]]:
        """Take in rows (`FeatureRows.to_bytes`); the ticks to wake up at, what to record."""
        rows = FeatureRows.from_bytes(data)
        ends = as_int64(rows.rows.column("window_end"))
        entries = []
        for end in np.unique(ends).tolist():
            here = ends == end
            part = rows if here.all() else rows.take(np.flatnonzero(here)).compact()
            piece = data if here.all() else part.to_bytes()
            self._waiting.setdefault(end, []).append(piece)
            entries.append(Entry(_ROWS, _SIGNED.pack(end) + piece))
        # The second is when the oldest of these rows has waited long enough.
        told = [ends, ends + self.log.config.max_wait]
        ticks = np.unique(self.grid.at_or_after(np.concatenate(told)))
        return [*ticks.tolist(), END_OF_STREAM], entries

    def fire(self, tick: int) -> tuple[int, list[Entry]]:
        """Cut what is due at `tick`; the newest batch, what to record.

        Late rows count as of now: batches that were cut stay as they are.
        """
        upto = max(tick, self.frontier)
        due = sorted(end for end in self._waiting if end <= upto)
        before = self.number
        for end in due:
            self._add(max(end, self.frontier), self._waiting.pop(end))
        overdue = self._pending.oldest_end + self.log.config.max_wait <= upto
        if self._pending.rows and overdue:
            self._cut()  # whatever comes from now on comes after
        self.frontier = upto
        if not due and self.number == before:
            return self.number, []
        return self.number, [Entry(_FIRED, self._fired())]

    def _add(self, end: int, pieces: list[bytes]) -> None:
        rows = sum(len(self._fresh(piece)) for piece in pieces)
        before, after, pending = advance(self._pending, end, rows, self.log.config)
        if before:
            self._cut()
        self._pieces += pieces
        self._pending = pending
        if after:
            self._cut()

    def _cut(self) -> None:
        pieces, self._pieces, self._pending = self._pieces, [], Pending()
        parts = [self._fresh(piece) for piece in pieces]
        rows = FeatureRows.concat(parts) if parts else None
        if self._early:
            for piece in pieces:
                self._early.difference_update(row_keys(FeatureRows.from_bytes(piece).rows).tolist())
        if rows is not None and len(rows):
            self.number, strangers = self.log.put(rows, self.number + 1)
            self._early.update(strangers.tolist())

    def _fresh(self, piece: bytes) -> FeatureRows:
        """The rows of a piece that no batch has yet."""
        rows = FeatureRows.from_bytes(piece)
        if not self._early:
            return rows
        early = np.fromiter(self._early, np.uint64, len(self._early))
        return rows.take(np.flatnonzero(np.isin(row_keys(rows.rows), early, invert=True)))

    # -- the journal -----------------------------------------------------------

    def _fired(self) -> bytes:
        numbers = (self.frontier, self.number, self._pending.oldest_end, self._pending.rows)
        early = np.fromiter(self._early, np.uint64, len(self._early))
        return _STATE.pack(*numbers, len(self._pieces)) + early.tobytes()

    def load(self, entry: Entry) -> None:
        """See `Mirror`."""
        if entry.kind == _ROWS:
            end = _SIGNED.unpack(entry.data[:8])[0]
            self._waiting.setdefault(end, []).append(entry.data[8:])
            return
        self.frontier, self.number, oldest, rows, kept = _STATE.unpack(entry.data[: _STATE.size])
        self._pending = Pending(oldest, rows)
        self._early = set(np.frombuffer(entry.data[_STATE.size :], np.uint64).tolist())
        due = sorted(end for end in self._waiting if end <= self.frontier)
        pieces = self._pieces + [piece for end in due for piece in self._waiting.pop(end)]
        self._pieces = pieces[len(pieces) - kept :]

    def dump(self) -> Iterable[Entry]:
        """See `Mirror`."""
        for piece in self._pieces:
            yield Entry(_ROWS, _SIGNED.pack(-(2**62)) + piece)
        yield Entry(_FIRED, self._fired())
        for end, pieces in sorted(self._waiting.items()):
            for piece in pieces:
                yield Entry(_ROWS, _SIGNED.pack(end) + piece)

    def weight(self) -> int:
        """See `Mirror`."""
        waiting = sum(len(piece) for pieces in self._waiting.values() for piece in pieces)
        return waiting + sum(map(len, self._pieces)) + 8 * len(self._early)
