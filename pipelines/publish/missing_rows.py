"""What a sink lacks of a store's served version, read from the store's files."""

from functools import partial

import pyarrow as pa

from models.store.embeddings import embeddings_of, lineage, read_version
from models.store.manifest import Manifest
from models.store.store import Store
from pipelines.publish.sink import Shipment, SinkError, SinkState, VersionMark

__all__ = ["rows_missing_in"]


def rows_missing_in(store: Store, held: SinkState) -> Shipment | None:
    """What leads from `held` to the served version; None when there is nothing newer.

    The deltas since, where the sink holds a version that the newest snapshot's
    lineage goes through; everything else leads through a whole copy: a new
    sink, one that was away for longer than a snapshot, one that holds a version
    that was rolled back since.

    Raises:
        SinkError: the sink holds a version that this store never made.
        StoreError: the store is damaged.
    """
    current = store.current()
    if current is None or (held.served and current <= held.served.version):
        return None
    return read_version(store, None, partial(_leading_to, store, held))[1]


def _leading_to(store: Store, held: SinkState, version: int) -> Shipment:
    manifest = store.manifest(version)
    served = held.served
    ours = served is None or _descends(store, manifest, served)
    if served and not ours and _unknown(store, served):
        raise SinkError(
            f"it holds version {served.version} of another store than {store.root}: "
            "give another database or ?prefix=…, or empty it"
        )
    # Leftovers of a publication that this version does not descend from have to go, too.
    clean = held.begun is None or _descends(store, manifest, held.begun)
    since = served.version if served and ours and clean else None
    deltas = since is not None and since in lineage(store, version)
    rows = embeddings_of(store, version, deleted=True, after=since if deltas else None)
    if not ours:
        rows = _stamped(rows, version)  # newer than whatever was rolled back
    return Shipment(
        mark=VersionMark(version, manifest.digest),
        newest_event_ms=round(manifest.newest_event_time.timestamp() * 1_000),
        rows=rows,
        whole=not deltas,
        held=held,
    )


def _descends(store: Store, manifest: Manifest, mark: VersionMark) -> bool:
    """Whether a version was trained from `mark`, or is it."""
    while manifest.version > mark.version and manifest.parent:
        manifest = store.manifest(manifest.parent)
    return (manifest.version, manifest.digest) == (mark.version, mark.digest)


def _unknown(store: Store, mark: VersionMark) -> bool:
    return not store.has(mark.version) or store.manifest(mark.version).digest != mark.digest


def _stamped(rows: pa.Table, version: int) -> pa.Table:
    at = rows.schema.get_field_index("version")
    versions = pa.array([version] * len(rows), pa.int64())
    return rows.set_column(at, rows.schema.field(at), versions)
