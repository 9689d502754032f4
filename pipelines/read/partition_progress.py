"""Where a reader of a partitioned log stands, and what that says of event time.

Pure functions and values: no Kafka, no Beam but for the tracker's interface.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker

__all__ = ["Partition", "Positions", "PositionsCoder", "PositionsTracker", "watermark_ms"]


@dataclass(frozen=True)
class Partition:
    """One partition of the log.

    Attributes:
        next: offset to read next.
        end: first offset not to read; None: there is no end.
        newest_ms: newest event time read so far, epoch milliseconds; None: none yet.
    """

    next: int
    end: int | None = None
    newest_ms: int | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to read."""
        return self.end is not None and self.next >= self.end

    def read(self, upto: int, newest_ms: int | None) -> "Partition":
        """As it stands once offsets below `upto` are read, with events up to `newest_ms`."""
        times = [time for time in (self.newest_ms, newest_ms) if time is not None]
        return replace(self, next=max(self.next, upto), newest_ms=max(times, default=None))


@dataclass(frozen=True)
class Positions:
    """What one reader has to read: its partitions, by number. Beam calls it a restriction."""

    partitions: Mapping[int, Partition]
    endless: bool = False
    """Whether partitions may still be added."""
    readers: int = 1
    """Among how many readers partitions are dealt out; stays as it was in a savepoint."""

    @property
    def done(self) -> bool:
        """Whether nothing is left to read, now or later."""
        return not self.endless and all(part.done for part in self.partitions.values())

    def stopped(self) -> "Positions":
        """The part that is read already: ends where it stands."""
        ended = {n: replace(part, end=part.next) for n, part in self.partitions.items()}
        return Positions(ended, readers=self.readers)

    def encode(self) -> bytes:
        """JSON; also what a savepoint holds."""
        parts = {n: [p.next, p.end, p.newest_ms] for n, p in sorted(self.partitions.items())}
        told = {"partitions": parts, "endless": self.endless, "readers": self.readers}
        return json.dumps(told).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Positions":
        """The inverse of `encode`."""
        found = json.loads(data)
        parts = {int(n): Partition(*fields) for n, fields in found["partitions"].items()}
        return cls(parts, found["endless"], found["readers"])


class PositionsCoder(Coder):
    """Beam's coder for `Positions`."""

    def encode(self, value: Positions) -> bytes:
        """Positions → bytes."""
        return value.encode()

    def decode(self, encoded: bytes) -> Positions:
        """Bytes → positions."""
        return Positions.decode(encoded)

    def is_deterministic(self) -> bool:
        """Equal positions have equal bytes."""
        return True


class PositionsTracker(RestrictionTracker):
    """Claims positions as they are read; can be stopped, never cut in the middle.

    A log without an end has no middle: only `try_split(0)`, a checkpoint, is
    answered. Any other split would lose track of what was read.
    """

    def __init__(self, positions: Positions) -> None:
        self._positions = positions
        self._stopped = False

    def current_restriction(self) -> Positions:
        """Where the reader stands."""
        return self._positions

    def current_progress(self) -> RestrictionProgress:
        """Unknown of an endless log; said as half done."""
        return RestrictionProgress(fraction=1.0 if self._finished else 0.5)

    @property
    def _finished(self) -> bool:
        return self._stopped or self._positions.done

    def try_claim(self, position: Positions) -> bool:
        """Move on to `position`; False once the reader was stopped."""
        if self._stopped:
            return False
        self._positions = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Positions, Positions] | None:
        """Stop here (fraction 0): (what is read, what is left)."""
        if fraction_of_remainder != 0 or self._finished:
            return None
        left = self._positions
        self._positions = left.stopped()
        self._stopped = True
        return self._positions, left

    def check_done(self) -> bool:
        """Whether everything was read or handed back.

        Raises:
            ValueError: something is left that nobody would read.
        """
        if not self._finished:
            raise ValueError(f"the reader left before its end: {self._positions}")
        return True

    def is_bounded(self) -> bool:
        """A drain stops it where it stands."""
        return False


def watermark_ms(
    partitions: Mapping[int, Partition],
    idle: Iterable[int],
    *,
    now_ms: int,
    disorder_ms: int,
    idle_ms: int,
) -> int | None:
    """Event time that no later event is expected to be behind; None while unknown.

    A partition says its newest event time less the disorder. An idle one, read to
    its end and silent since `idle_ms`, says at least now − disorder − idle. The
    slowest partition decides. A partition read to its given end says nothing.

    Args:
        partitions: of one reader.
        idle: numbers of those that are idle.
        now_ms: the clock, epoch milliseconds.
        disorder_ms: how far behind the newest an event of its partition may lie.
        idle_ms: how long a partition has to be silent to be idle.
    """
    quiet, said = set(idle), []
    for number, part in partitions.items():
        if part.done:
            continue
        times = [part.newest_ms - disorder_ms] if part.newest_ms is not None else []
        if number in quiet:
            times.append(now_ms - disorder_ms - idle_ms)
        if not times:
            return None
        said.append(max(times))
    return min(said, default=None)
