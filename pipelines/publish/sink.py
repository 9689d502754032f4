"""What a sink has to do, and what it is given."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from pipelines.errors import JobError

__all__ = ["Shipment", "Sink", "SinkError", "SinkState", "VersionMark"]


class SinkError(JobError):
    """A sink is away, refuses, or holds something else; whoever publishes tries again."""


@dataclass(frozen=True)
class VersionMark:
    """A version of a store, told from the same number in another store by its digest."""

    version: int
    digest: str


@dataclass(frozen=True)
class SinkState:
    """What a sink holds.

    Attributes:
        served: the version that readers see; None: nothing yet.
        begun: a publication that was begun and never ended, by a process that died.
        token: of that publication; 0 for none. Whoever goes on must name it.
    """

    served: VersionMark | None = None
    begun: VersionMark | None = None
    token: int = 0


@dataclass(frozen=True, kw_only=True)
class Shipment:
    """What leads a sink from what it holds to a newer version.

    Attributes:
        mark: the version that readers see afterwards.
        newest_event_ms: newest event time that it contains, epoch milliseconds.
        rows: `[n]` EMBEDDINGS, one row per (entity, id), tombstones among them.
        whole: these are all vectors there are: what is not among them is taken away.
        held: what the sink was found to hold.
    """

    mark: VersionMark
    newest_event_ms: int
    rows: pa.Table
    whole: bool
    held: SinkState


class Sink(Protocol):
    """A database that serves vectors. Used by one thread; opens its connection when asked.

    Every method gives up within a bounded time and raises SinkError; the same
    object may be asked again and then connects anew.
    """

    @property
    def shown(self) -> str:
        """Its address, without passwords."""

    def held(self) -> SinkState:
        """What it holds. Writes nothing.

        Raises:
            SinkError: it cannot be reached, or is known to refuse what we would write.
        """

    def publish(self, shipment: Shipment) -> int:
        """Take the rows in and let readers see the version; epoch milliseconds when they did.

        Readers see the version before until all rows are there, then this one,
        at once. A row that is not newer than the one that is there changes
        nothing; a version that is not newer than the served one neither.

        Raises:
            SinkError: it failed, or somebody else has begun to publish meanwhile;
                readers see the version before. Ask `held` again.
        """

    def read(self, entity: str, ids: Sequence[str]) -> tuple[int, pa.Table]:
        """The served version and the rows of those ids in it (EMBEDDINGS, no tombstones).

        Both are of one moment. Ids that are not there are left out.

        Raises:
            SinkError: it cannot be reached.
        """

    def close(self) -> None:
        """Let the connection go; the next call opens another."""
