"""What a sink has to do."""

from typing import Protocol

from models.lineage import Publication

__all__ = ["Sink"]


class Sink(Protocol):
    """Receives every accepted version, in order, on the worker that trains.

    A sink is pickled to that worker: it opens its connections when first
    called, and holds none before.
    """

    def publish(self, publication: Publication) -> None:
        """Make a version's vectors visible; return once they are.

        Called before the version is committed, and again with the same version
        after a crash in between: a version that is not newer than what the sink
        holds changes nothing. An error ends the run; the same command tries again.
        """
