"""Versions and micro-batches: how their numbers belong together after a full retrain.

A retrained version takes a number of its own, the one after the newest: sinks take only
what is newer. From then on versions are numbered higher than the micro-batches that they
are trained on, by one for each retrain; micro-batches are numbered as if nothing had been.
"""

from bisect import bisect_left
from dataclasses import dataclass

from models.store.manifest import Manifest
from models.store.store import Store

__all__ = ["VersionNumbers", "last_trained_batch", "newest_accepted"]


@dataclass(frozen=True)
class VersionNumbers:
    """The versions since the last full retrain, or since the beginning."""

    shift: int = 0
    """A version's number less its micro-batch's."""
    root: int = 0
    """The retrained version; 0: there was none."""

    @classmethod
    def of(cls, store: Store) -> "VersionNumbers":
        """The present one: its root is the first version with the newest one's shift."""

        def shift(version: int) -> int:
            return version - store.manifest(version).batch

        known = store.versions()
        latest = shift(known[-1]) if known else 0
        return cls(latest, known[bisect_left(known, latest, key=shift)]) if latest else cls()

    def version(self, batch: int) -> int:
        """The version that was, or will be, trained on a micro-batch."""
        return batch + self.shift

    def batch(self, version: int) -> int:
        """The newest micro-batch that a version knows of."""
        return version - self.shift


def last_trained_batch(store: Store) -> int:
    """The newest micro-batch that a version was made of; 0 for none."""
    known = store.versions()
    return store.manifest(known[-1]).batch if known else 0


def newest_accepted(store: Store, version: int) -> Manifest | None:
    """The newest version up to this one that the gate let through."""
    manifest = store.manifest(version) if version else None
    while manifest and not manifest.gate.served:
        manifest = store.manifest(manifest.parent) if manifest.parent else None
    return manifest
