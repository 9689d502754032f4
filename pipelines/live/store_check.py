"""Whether a worker sees the store that the job was launched on."""

import socket
from dataclasses import dataclass, field
from typing import Any

from models.store.store import Store
from pipelines.errors import StoreError

__all__ = ["StoreCheck"]

_FIXED = ("features", "batch")
"""What rows and batches follow from; the model may be retrained with another configuration."""


@dataclass(frozen=True)
class StoreCheck:
    """The store of a job, as its launcher saw it; picklable.

    Attributes:
        store: where.
        made_with: its settings of rows and batches.
    """

    store: Store
    made_with: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store) -> "StoreCheck":
        """As it is now; held by the caller."""
        return cls(store, _settings(store))

    def check(self) -> None:
        """Called by every worker that writes to the store, before its first element.

        Raises:
            StoreError: it sees nothing there, or another store.
        """
        where, here = self.store.root, socket.gethostname()
        if not (where / "meta.json").is_file():
            raise StoreError(
                f"the worker on {here} sees no store at {where}: give a --store in a folder that "
                "launcher and workers share"
            )
        if _settings(self.store) != self.made_with:
            raise StoreError(
                f"the worker on {here} sees another store at {where} than the launcher: give a "
                "--store in a folder that both share, or launch the job again"
            )


def _settings(store: Store) -> dict[str, Any]:
    config = store.meta().get("config", {})
    return {name: config.get(name) for name in _FIXED}
