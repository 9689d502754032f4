"""A shard's state: entries appended to a bag, and the same as an object in this process.

State in Beam is written often and read rarely, if one can help it: a value that
is rewritten at each window costs what it weighs, each time. So a stage appends
what has changed, keeps the whole as an object (a *mirror*) in the worker's memory,
and reads the bag only when that object is not the one the state belongs to: after
a restart, a failed bundle, a move to another worker. A random token that is
written beside each change tells.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

__all__ = ["Entry", "Journal", "ShardState", "ShardStates"]

_SLACK = 1 << 20
"""Bytes of garbage that are never worth a rewrite."""


@dataclass(frozen=True)
class Entry:
    """One change: what kind (0–255) and its bytes."""

    kind: int
    data: bytes


class ShardState(Protocol):
    """A shard's state as an object."""

    def load(self, entry: Entry) -> None:
        """Take in a change that was recorded earlier; called in the order of recording."""

    def dump(self) -> Iterable[Entry]:
        """Changes that lead from nothing to this state."""

    def weight(self) -> int:
        """Bytes that `dump` would give, roughly."""


M = TypeVar("M", bound=ShardState)


class ShardStates(Generic[M]):
    """The mirrors of one stage in this process, by shard. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Any, tuple[bytes, M]] = {}

    def take(self, shard: Any, token: bytes) -> M | None:
        """The mirror that belongs to `token`; whoever takes it has it alone."""
        with self._lock:
            found = self._kept.pop(shard, None)
        return found[1] if found is not None and found[0] == token else None

    def put(self, shard: Any, token: bytes, mirror: M) -> None:
        """Keep it for the next bundle."""
        with self._lock:
            self._kept[shard] = (token, mirror)


@dataclass
class Journal(Generic[M]):
    """The state of one shard, opened for one call of a DoFn.

    Attributes:
        bag: Beam's bag of bytes: entries, each behind its number.
        note: Beam's read-modify-write cell of bytes: token, number of entries, their bytes.
    """

    bag: Any
    note: Any
    mirror: M
    _next: int
    _bytes: int

    @classmethod
    @contextmanager
    def opened(
        cls, mirrors: "ShardStates[M]", shard: Any, bag: Any, note: Any, fresh: Callable[[], M]
    ) -> Iterator["Journal[M]"]:
        """The journal of a shard; its mirror is kept for the next call if all goes well."""
        written = note.read() or b""
        token, number, size = written[:16], written[16:24], written[24:32]
        mirror = mirrors.take(shard, token) if token else None
        if mirror is None:
            mirror = fresh()
            for entry in _in_order(bag.read()):
                mirror.load(entry)
        journal = cls(bag, note, mirror, _int(number), _int(size))
        before = journal._next
        yield journal
        if journal._next == before and token:
            mirrors.put(shard, token, mirror)
            return
        journal._compact()
        token = os.urandom(16)
        note.write(token + journal._next.to_bytes(8, "big") + journal._bytes.to_bytes(8, "big"))
        mirrors.put(shard, token, mirror)

    def append(self, kind: int, data: bytes) -> None:
        """Record a change that the mirror has taken in."""
        self.bag.add(self._next.to_bytes(8, "big") + bytes([kind]) + data)
        self._next += 1
        self._bytes += len(data) + 9

    def _compact(self) -> None:
        """Write the state anew when most of the bag is history."""
        if self._bytes <= 2 * self.mirror.weight() + _SLACK:
            return
        self.bag.clear()
        self._bytes = 0
        for entry in self.mirror.dump():
            self.append(entry.kind, entry.data)


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _in_order(values: Iterable[bytes]) -> Iterator[Entry]:
    """A bag keeps no order; the numbers do."""
    for value in sorted(values, key=lambda value: value[:8]):
        yield Entry(value[8], value[9:])
