"""Ids to table rows, without collisions: admission, expiry, recycling, growth.

Row 0 is "unknown" and is never given away. Everything is a function of the
calls made, in their order: no clock, no randomness, no Python `hash()`.
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.row_arrays import NEVER, grown

__all__ = ["IdMap"]

Rows = NDArray[np.int32]


class IdMap:
    """A bounded two-way map between string ids and the rows of a table.

    Args:
        limit: most ids held at once; beyond it new ids stay unknown (row 0)
            until `expire` or `make_room` has freed rows. Of those at most `limit`
            are noted: one that finds room later was seen once before.
        start: rows allocated at first; they double as needed.
    """

    def __init__(self, *, limit: int, start: int = 1_024) -> None:
        if limit < 1 or start < 2:
            raise ValueError(f"limit {limit} must be at least 1, start {start} at least 2")
        self.limit = limit
        self._row_of: dict[str, int] = {}
        self._waiting: dict[str, None] = {}  # found no room; the longest waiting first
        self._free: list[int] = []  # descending: the lowest row is taken first
        self._top = 1  # rows from here on were never used
        size = min(start, limit + 1)
        self.names: list[str | None] = [None] * size
        self.last_seen = np.full(size, NEVER, np.int64)
        self.count = np.zeros(size, np.int64)

    def __len__(self) -> int:
        """Ids that have a row."""
        return len(self._row_of)

    def __contains__(self, name: object) -> bool:
        """Whether the id has a row."""
        return name in self._row_of

    @property
    def capacity(self) -> int:
        """Rows allocated, row 0 included: what a table must have."""
        return len(self.names)

    @property
    def top(self) -> int:
        """One more than the highest row ever used: scans end here."""
        return self._top

    def used(self) -> Rows:
        """The rows in use, ascending, `[n]` int32."""
        return np.flatnonzero(self.last_seen[: self._top] > NEVER).astype(np.int32)

    def lookup(self, names: Sequence[str]) -> Rows:
        """Rows of `names`, `[n]` int32; 0 where the id has none."""
        return np.fromiter(map(self._row_of.get, names, repeat(0)), np.int32, len(names))

    def admit(
        self, names: Sequence[str], times: NDArray[np.int64], counts: NDArray[np.int64]
    ) -> Rows:
        """Count sightings and give rows to new ids.

        Args:
            names: distinct ids.
            times: `[n]` newest sighting of each, epoch ms.
            counts: `[n]` sightings of each, at least 1.

        Returns:
            `[n]` int32 rows; 0 for an id that found no room.
        """
        rows = self.lookup(names)
        for position in np.flatnonzero(rows == 0).tolist():
            rows[position] = self._arrive(names[position])
        self.count[rows] += counts
        np.maximum.at(self.last_seen, rows, times)
        self.last_seen[0], self.count[0] = NEVER, 0
        return rows

    def _arrive(self, name: str) -> int:
        waited = name in self._waiting
        self._waiting.pop(name, None)
        if len(self._row_of) >= self.limit:
            self._waiting[name] = None
            if len(self._waiting) > self.limit:  # the longest waiting loses its place
                del self._waiting[next(iter(self._waiting))]
            return 0
        row = self._free.pop() if self._free else self._fresh()
        self._row_of[name] = row
        self.names[row] = name
        self.count[row] = int(waited)
        return row

    def _fresh(self) -> int:
        if self._top == self.capacity:
            size = min(2 * self.capacity, self.limit + 1)
            self.names.extend([None] * (size - self.capacity))
            self.last_seen = grown(self.last_seen, size, NEVER)
            self.count = grown(self.count, size)
        self._top += 1
        return self._top - 1

    def expire(self, before_ms: int) -> list[tuple[str, int]]:
        """Free ids not seen since `before_ms` (epoch ms); their names and rows, rows ascending."""
        seen = self.last_seen[: self._top]
        return self._release(np.flatnonzero((seen > NEVER) & (seen < before_ms)))

    def make_room(self, share: float = 1 / 16) -> list[tuple[str, int]]:
        """When less than a quarter of `share` of the limit is free, free `share` of it.

        The longest silent ids go; of equals, the lower row.

        Returns:
            names and rows that were freed, rows ascending.
        """
        room = self.limit - len(self)
        wanted = max(1, int(self.limit * share))
        if 4 * room >= wanted:
            return []
        used, seen = self.used(), self.last_seen[: self._top]
        surplus = wanted - room
        edge = np.partition(seen[used], surplus - 1)[surplus - 1]
        older, level = used[seen[used] < edge], used[seen[used] == edge]
        return self._release(np.sort(np.concatenate([older, level[: surplus - len(older)]])))

    def _release(self, rows: NDArray[np.integer]) -> list[tuple[str, int]]:
        gone = []
        for row in rows.tolist():
            name = self.names[row]
            if name is not None:
                gone.append((name, row))
                del self._row_of[name]
                self.names[row] = None
        self.last_seen[rows] = NEVER
        self.count[rows] = 0
        if gone:
            self._free = sorted({*self._free, *rows.tolist()}, reverse=True)
        return gone

    def forget(self, name: str) -> int:
        """Free the row of one id; returns it, or 0 when it had none."""
        self._waiting.pop(name, None)
        row = self._row_of.get(name, 0)
        if row:
            self._release(np.array([row]))
        return row

    def to_table(self) -> pa.Table:
        """Everything that `from_table` needs, in a canonical order.

        Columns: row (int32; -1 for an id that waits), id, last_seen (int64), count (int64).
        """
        used = self.used()
        waiting = len(self._waiting)
        rows = np.concatenate([used, np.full(waiting, -1, np.int32)])
        names = [*(self.names[row] for row in used.tolist()), *self._waiting]
        seen = np.concatenate([self.last_seen[used], np.zeros(waiting, np.int64)])
        counts = np.concatenate([self.count[used], np.ones(waiting, np.int64)])
        table = pa.table(
            {
                "row": pa.array(rows, pa.int32()),
                "id": pa.array(names, pa.string()),
                "last_seen": pa.array(seen, pa.int64()),
                "count": pa.array(counts, pa.int64()),
            }
        )
        shape = {"capacity": str(self.capacity), "top": str(self._top)}
        return table.replace_schema_metadata(shape)

    @classmethod
    def from_table(cls, table: pa.Table, *, limit: int) -> "IdMap":
        """The map that `to_table` wrote, with the limits of the job file."""
        shape = table.schema.metadata
        made = cls(limit=limit, start=max(2, int(shape[b"capacity"])))
        made._top = int(shape[b"top"])
        rows = table["row"].to_numpy()
        names = table["id"].to_pylist()
        counts = table["count"].to_numpy()
        held = rows >= 0
        made._row_of = {names[i]: int(rows[i]) for i in np.flatnonzero(held)}
        made._waiting = {names[i]: None for i in np.flatnonzero(~held)}
        for name, row in made._row_of.items():
            made.names[row] = name
        made.last_seen[rows[held]] = table["last_seen"].to_numpy()[held]
        made.count[rows[held]] = counts[held]
        unused = set(range(1, made._top)) - set(made._row_of.values())
        made._free = sorted(unused, reverse=True)
        return made
