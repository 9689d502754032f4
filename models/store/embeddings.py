"""Published vectors: writing snapshots and deltas, reading a served version, pruning.

A version's embeddings are its lineage's newest snapshot and the deltas after
it; of several rows for one (entity, id) the newest counts, and a row marked
`deleted` takes the id away.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.errors import StoreError
from models.schema import EMBEDDINGS
from models.store import atomic_files
from models.store.store import Store

__all__ = [
    "CopyPolicy",
    "embeddings_of",
    "lineage",
    "prune",
    "read_embeddings",
    "read_version",
    "write_embeddings",
]

_ATTEMPTS = 3

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class CopyPolicy:
    """How often full copies are made, in versions, and how many are kept."""

    checkpoint_every: int
    snapshot_every: int
    keep_checkpoints: int
    keep_snapshots: int


def write_embeddings(
    store: Store, files: Sequence[tuple[str, int, pa.Table | pa.RecordBatch]]
) -> None:
    """Write `snapshot`s and `delta`s (kind, version, EMBEDDINGS) as Parquet, in that order.

    `embedding` is written as fixed_size_list<float32, dim>. The same version
    again is replaced by what must be the same rows.
    """
    atomic_files.write_files(
        [
            (store.embeddings_path(kind, version), partial(_write, _fixed(rows)))
            for kind, version, rows in files
        ]
    )


def _write(table: pa.Table, file: BinaryIO) -> None:
    pq.write_table(table, file, compression="zstd", use_dictionary=["entity"])


def lineage(store: Store, version: int) -> list[int]:
    """The snapshot's version (where there is one) and the deltas' after it, ascending.

    Raises:
        StoreError: the version, or one it was trained from, is not on record.
    """
    manifest = store.manifest(version)
    base, chain = manifest.snapshot, []
    while manifest.version != base:
        if manifest.gate.served:
            chain.append(manifest.version)
        if manifest.parent is None:
            break
        manifest = store.manifest(manifest.parent)
    return ([] if base is None else [base]) + chain[::-1]


def read_embeddings(
    store: Store, version: int | None = None, *, deleted: bool = False
) -> tuple[int, pa.Table]:
    """The embeddings as of a version (the served one by default), one row per (entity, id).

    Args:
        store: where they lie; another process may be publishing meanwhile.
        version: another version than CURRENT.
        deleted: keep the tombstones.

    Returns:
        The version that was read, and its rows with the columns of EMBEDDINGS,
        in order of (entity, id).

    Raises:
        StoreError: nothing was published yet, or the version's files are gone.
    """
    return read_version(store, version, partial(embeddings_of, store, deleted=deleted))


def embeddings_of(
    store: Store, version: int, *, deleted: bool = False, after: int | None = None
) -> pa.Table:
    """As `read_embeddings`, of that version.

    Args:
        store: where they lie.
        version: which one.
        deleted: keep the tombstones.
        after: a version in its `lineage`: only what changed since.

    Raises:
        FileNotFoundError: a file of it is gone.
        StoreError: a file of it is damaged.
    """
    return _newest(_tables(store, version, after or 0), deleted=deleted)


def read_version(store: Store, version: int | None, read: Callable[[int], T]) -> tuple[int, T]:
    """What `read` finds of a version, or of the served one: again where that was pruned meanwhile.

    Args:
        store: another process may be publishing to it.
        version: None for CURRENT, which is looked up anew for each attempt.
        read: version → what is wanted of its files.

    Raises:
        StoreError: nothing was published yet, or the version's files are gone.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        chosen = store.current() if version is None else version
        if chosen is None:
            raise StoreError(
                f"store {store.root} has no served version yet: let rillet run finish one"
            )
        try:
            return chosen, read(chosen)
        except FileNotFoundError as error:
            if version is not None or attempt == _ATTEMPTS:
                raise StoreError(
                    f"version {chosen} of {store.root} can no longer be read ({error.filename} is "
                    "gone): only the newest snapshots are kept, choose a newer version"
                ) from None
    raise AssertionError("unreachable")


def prune(store: Store, keep: CopyPolicy, protected: set[int]) -> None:
    """Remove snapshots, deltas, serving folders and checkpoints that nothing needs.

    Args:
        store: held by the caller.
        keep: how many.
        protected: versions whose checkpoint stays whatever its age.
    """
    snapshots = [number for number in store.embeddings("snapshot") if store.has(number)]
    current = store.current()
    kept = set(snapshots[-keep.keep_snapshots :])
    if current is not None and (base := store.manifest(current).snapshot) is not None:
        kept.add(base)
    oldest = min(kept, default=0)
    for number in snapshots:
        if number not in kept:
            atomic_files.remove(store.embeddings_path("snapshot", number))
            atomic_files.remove(store.serving_path(number))
    for number in store.embeddings("delta"):
        if number <= oldest:
            atomic_files.remove(store.embeddings_path("delta", number))
    for number in store.checkpoints()[: -keep.keep_checkpoints]:
        if number not in protected:
            atomic_files.remove(store.checkpoint_path(number))


def _tables(store: Store, version: int, after: int) -> list[pa.Table]:
    base = store.manifest(version).snapshot
    tables = []
    for number in lineage(store, version):
        if number <= after:
            continue
        path = store.embeddings_path("snapshot" if number == base else "delta", number)
        if not path.exists():
            raise FileNotFoundError(2, "gone", str(path))
        try:
            tables.append(pq.ParquetFile(path).read().select(EMBEDDINGS.names))
        except (pa.ArrowInvalid, KeyError) as error:
            raise StoreError(f"{path} is damaged ({error}): restore it from a copy") from None
    return tables


def _newest(tables: list[pa.Table], *, deleted: bool) -> pa.Table:
    """Of the rows for each (entity, id) the one in the last table that has it."""
    rows = pa.concat_tables(tables).combine_chunks()
    keys = pc.binary_join_element_wise(rows["entity"], rows["id"], "\0").combine_chunks()
    coded = keys.dictionary_encode()
    last = np.empty(len(coded.dictionary), np.int64)
    last[coded.indices.to_numpy()] = np.arange(len(rows))  # of repeated indices the last one stays
    order = pc.sort_indices(coded.dictionary).to_numpy()
    rows = rows.take(pa.array(last[order]))
    return rows if deleted else rows.filter(pc.invert(rows["deleted"]))


def _fixed(rows: pa.Table | pa.RecordBatch) -> pa.Table:
    """`embedding` as a fixed-size list, whatever list it came as."""
    table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
    column = table["embedding"].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else None
    if column is not None and pa.types.is_fixed_size_list(column.type):
        return table
    width = len(column[0]) if column is not None and len(column) else 1
    values = column.flatten() if column is not None else pa.array([], pa.float32())
    vectors = pa.FixedSizeListArray.from_arrays(values, width)
    field = pa.field("embedding", vectors.type, nullable=False)
    return table.set_column(table.schema.get_field_index("embedding"), field, vectors)
