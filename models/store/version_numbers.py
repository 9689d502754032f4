"""Versions and micro-batches: how their numbers belong together after a full retrain.

A retrained version takes a number of its own, the one after the newest: sinks take only
what is newer. From then on versions are numbered higher than the micro-batches that they
are trained on, by one for each retrain; micro-batches are numbered as if nothing had been.
"""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import datetime

from msgspec import structs

from models.store.manifest import Manifest
from models.store.store import Store

__all__ = ["Line", "accepted", "settle", "trained"]


@dataclass(frozen=True)
class Line:
    """The versions since the last full retrain, or since the beginning."""

    shift: int = 0
    """A version's number less its micro-batch's."""
    root: int = 0
    """The retrained version; 0: there was none."""

    @classmethod
    def of(cls, store: Store) -> "Line":
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


def trained(store: Store) -> int:
    """The newest micro-batch that a version was made of; 0 for none."""
    known = store.versions()
    return store.manifest(known[-1]).batch if known else 0


def accepted(store: Store, version: int) -> Manifest | None:
    """The newest version up to this one that the gate let through."""
    manifest = store.manifest(version) if version else None
    while manifest and not manifest.gate.served:
        manifest = store.manifest(manifest.parent) if manifest.parent else None
    return manifest


def settle(store: Store, now: datetime) -> None:
    """Finish or undo what an interrupted retrain left; call it with the lock held.

    A retrained version that is on record but was not announced becomes the served one and
    its settings the store's. Files of versions that are not on record go: the next version
    with that number may be another one. Where CURRENT is lost, or names a version that is
    not there, the newest accepted one is served again.
    """
    known = store.versions()
    newest = store.manifest(known[-1]) if known else None
    if newest and newest.retrain_of is not None and newest.published_at is None:
        _announce(store, newest, now)
    served = store.current()
    if served is None or not store.has(served):
        last = accepted(store, known[-1] if known else 0)
        if last:
            store.serve(last.version)
    store.drop_after(known[-1] if known else 0)


def _announce(store: Store, retrained: Manifest, now: datetime) -> None:
    """CURRENT, then the settings, then the time: killed in between, all of it is done once more."""
    store.serve(retrained.version)
    meta = store.meta()
    if retrained.model is not None and meta["config"].get("model") != retrained.model:
        store.put_meta({**meta, "config": {**meta["config"], "model": retrained.model}})
    store.put_manifests([structs.replace(retrained, published_at=now)])
