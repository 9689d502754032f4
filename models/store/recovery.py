"""What an interrupted run or retrain left in a store is finished or undone here.

Everything is written so that it can be: a version exists once its manifest does, and
CURRENT follows. So there are three things that a crash can leave: files of a version that
is not on record, a retrained version that is on record and not announced, and a CURRENT
that does not name the version it should.
"""

from datetime import datetime

from msgspec import structs

from models.store.manifest import Manifest
from models.store.store import Store
from models.store.version_numbers import newest_accepted

__all__ = ["mend_current", "recover"]


def recover(store: Store, now: datetime) -> None:
    """Finish or undo what an interrupted retrain left; call it with the lock held.

    A retrained version that is on record but was not announced becomes the served one and
    its settings the store's. Files of versions that are not on record go: the next version
    with that number may be another one. CURRENT is mended where it is lost.
    """
    known = store.versions()
    newest = store.manifest(known[-1]) if known else None
    if newest and newest.retrain_of is not None and newest.published_at is None:
        _announce(store, newest, now)
    mend_current(store)
    store.drop_after(known[-1] if known else 0)


def mend_current(store: Store, after: int | None = None) -> None:
    """Serve the newest accepted version where CURRENT is lost or was left behind.

    Lost is one that is not there, or names a version that is not on record.

    Args:
        store: held by the caller.
        after: the newest version of the runs that came to their end; of later ones the newest
            accepted is to be served. None: a CURRENT that names an earlier version was put
            back by somebody, and stays.
    """
    served, known = store.current(), store.versions()
    lost = served is None or not store.has(served)
    if not lost and after is None:
        return
    newest = newest_accepted(store, known[-1] if known else 0)
    if newest and (lost or newest.version > max(after or 0, served or 0)):
        store.serve(newest.version)


def _announce(store: Store, retrained: Manifest, now: datetime) -> None:
    """CURRENT, then the settings, then the time: killed in between, all of it is done once more."""
    store.serve(retrained.version)
    meta = store.meta()
    if retrained.model is not None and meta["config"].get("model") != retrained.model:
        store.put_meta({**meta, "config": {**meta["config"], "model": retrained.model}})
    store.put_manifests([structs.replace(retrained, published_at=now)])
