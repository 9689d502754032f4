"""What a sink has to do."""

from collections.abc import Sequence
from typing import Protocol

from models.lineage import Publication

__all__ = ["Sink"]


class Sink(Protocol):
    """Receives every accepted version, in order, on the worker that trains.

    A sink is pickled to that worker: it opens its connections when first
    called, and holds none before.
    """

    def publish(self, group: Sequence[Publication]) -> None:
        """Make the vectors of consecutive versions visible; return once they are.

        A group is one version, or several while the job catches up. Called
        before they are committed, and again with the same versions after a
        crash in between: a version that is not newer than what the sink holds
        changes nothing. An error ends the run; the same command tries again.
        """
