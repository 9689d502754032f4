"""A served version, read into memory: vectors, what users have had, popularity.

Needs numpy and pyarrow, no TensorFlow. `Served.load` is the only reader of the
files; everything else works on the value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.errors import StoreError
from models.network.numpy_heads import load_heads
from models.store.catalogue import read_catalogue
from models.store.embeddings import embeddings_of, read_version
from models.store.manifest import Manifest
from models.store.store import Store

__all__ = ["Catalogue", "GroupPopularity", "Served", "UserPast"]

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

_FORMAT = 1  # of the serving folder
_META = {"dim", "examples", "item_default", "user_default"}


@dataclass(frozen=True)
class UserPast:
    """What a version knows of one user; empty for a stranger."""

    seen: Rows  # rows of the serving items
    recent_items: Rows  # rows of the serving items, oldest first; -1: no longer known
    recent_types: list[str]
    recent_times: list[datetime]
    stats: Floats  # [S]


@dataclass(frozen=True)
class GroupPopularity:
    """Recent popularity in one group of users, or among all."""

    key: str
    weight: float  # decayed events behind it
    rows: Rows  # of the serving items, best first
    scores: Floats  # decayed counts


@dataclass(frozen=True)
class Catalogue:
    """What the store knows of items and users beside their feedback; may be empty."""

    items: pa.Table | None
    users: pa.Table | None

    @classmethod
    def load(cls, store: Store) -> "Catalogue":
        """The copies in the store, those columns that a query shows."""
        return cls(
            read_catalogue(store, "items", ["item_id", "title", "categories", "published_at"]),
            read_catalogue(store, "users", ["user_id", "attributes"]),
        )

    def titles(self, ids: list[str]) -> list[str | None]:
        """A title each; None where the catalogue has none."""
        if self.items is None or not ids or "title" not in self.items.column_names:
            return [None] * len(ids)
        found = pc.index_in(pa.array(ids, pa.string()), self.items["item_id"].combine_chunks())
        titles: list[str | None] = self.items["title"].take(found).to_pylist()
        return titles

    def attributes(self, user: str) -> dict[str, str]:
        """What is on record about a user; empty when nothing is."""
        if self.users is None or "attributes" not in self.users.column_names:
            return {}
        row = pc.index(self.users["user_id"], user).as_py()
        return dict(self.users["attributes"][row].as_py() or ()) if row >= 0 else {}


@dataclass(frozen=True)
class Served:
    """One version, ready to be asked; see `models.training.serving_files` for the files' format."""

    version: int
    manifest: Manifest
    meta: dict[str, Any]
    ids: pa.Array  # [n] items that have a vector
    vectors: Floats  # [n, D]
    user_ids: pa.Array
    user_vectors: Floats  # [users, D]
    items: pa.Table  # the serving folder's items
    users: pa.Table  # the serving folder's users
    popularity: pa.Table
    heads: dict[str, Floats]
    catalogue: Catalogue

    @classmethod
    def load(cls, store: Path | Store, version: int | None = None) -> "Served":
        """Read the served version (or another one whose files are still there).

        Raises:
            StoreError: no store, nothing served yet, or files gone or damaged.
        """
        store = store if isinstance(store, Store) else Store.open(store)
        return read_version(store, version, partial(cls._read, store))[1]

    @classmethod
    def _read(cls, store: Store, version: int) -> "Served":
        table = embeddings_of(store, version)
        manifest = store.manifest(version)
        folder = store.serving_path(manifest.snapshot or version)
        try:
            return cls(
                version=version,
                manifest=manifest,
                catalogue=Catalogue.load(store),
                **_vectors(table),
                **_folder(folder),
            )
        except FileNotFoundError:
            raise  # pruned while it was read
        except (OSError, KeyError, ValueError, msgspec.DecodeError) as error:
            raise StoreError(
                f"{folder} cannot be read ({error}): restore it from a copy of the store"
            ) from None

    @cached_property
    def rows(self) -> Rows:
        """`[n]` row of the serving items for each vector; -1 where it has none yet."""
        found = pc.index_in(self.ids, value_set=_array(self.items["item_id"]))
        return np.asarray(found.fill_null(-1), np.int64)

    @cached_property
    def out(self) -> NDArray[np.bool_]:
        """`[n]` whether the item was published when the version was made."""
        table = self.catalogue.items
        if table is None or "published_at" not in table.column_names:
            return np.ones(len(self.ids), bool)
        found = pc.index_in(self.ids, value_set=_array(table["item_id"]))
        times = pc.take(table["published_at"], found).cast(pa.int64())
        newest = int(self.manifest.newest_event_time.timestamp() * 1_000)
        return np.asarray(pc.fill_null(pc.less_equal(times, newest), True), bool)

    def item_stats(self, rows: Rows) -> Floats:
        """`[len(rows), S]`, the default where a row is -1."""
        default = np.asarray(self.meta["item_default"], np.float32)
        stats = _matrix(self.items["stats"], len(default))
        known = np.broadcast_to(default, (len(rows), len(default))).copy()
        known[rows >= 0] = stats[rows[rows >= 0]]
        return known

    def vector(self, user: str) -> Floats | None:
        """`[D]` of a user; None for a stranger."""
        row = pc.index(self.user_ids, user).as_py()
        return self.user_vectors[row] if row >= 0 else None

    def past(self, user: str) -> UserPast:
        """What the user did, as far as this version knows."""
        row = pc.index(self.users["user_id"], user).as_py()
        default = np.asarray(self.meta["user_default"], np.float32)
        if row < 0:
            none = np.zeros(0, np.int64)
            return UserPast(none, none, [], [], default)
        found = self.users.slice(row, 1).to_pylist()[0]
        return UserPast(
            np.asarray(found["seen"], np.int64),
            np.asarray(found["recent_items"], np.int64),
            list(found["recent_types"]),
            [datetime.fromtimestamp(t / 1_000, UTC) for t in found["recent_times"]],
            np.asarray(found["stats"], np.float32),
        )

    def popular(self, keys: Mapping[str, str]) -> list[GroupPopularity]:
        """The rows of ``popularity.parquet`` that are there, in the order of `keys`."""
        found = []
        for key in keys:
            row = pc.index(self.popularity["key"], key).as_py()
            if row >= 0:
                one = self.popularity.slice(row, 1).to_pylist()[0]
                found.append(
                    GroupPopularity(
                        key,
                        float(one["weight"]),
                        np.asarray(one["items"], np.int64),
                        np.asarray(one["scores"], np.float32),
                    )
                )
        return found


def _vectors(table: pa.Table) -> dict[str, Any]:
    """Ids and vectors of items and of users."""
    is_item = pc.equal(table["entity"], "item")
    items, users = table.filter(is_item), table.filter(pc.invert(is_item))
    width = table.schema.field("embedding").type.list_size
    return {
        "ids": _array(items["id"]),
        "vectors": _matrix(items["embedding"], width),
        "user_ids": _array(users["id"]),
        "user_vectors": _matrix(users["embedding"], width),
    }


def _folder(folder: Path) -> dict[str, Any]:
    """What lies in a serving folder."""
    meta = msgspec.json.decode((folder / "serving.json").read_bytes(), type=dict)
    if meta.get("format") != _FORMAT:
        raise StoreError(
            f"{folder} has format {meta.get('format')!r}, this Rillet reads {_FORMAT}: "
            "use the Rillet that made the store"
        )
    gone = _META - meta.keys()
    if gone:
        raise StoreError(
            f"{folder / 'serving.json'} lacks {', '.join(sorted(gone))}: run the job once more, "
            "or restore the store from a copy"
        )
    tables = {
        name: pq.ParquetFile(folder / f"{name}.parquet").read()
        for name in ("items", "users", "popularity")
    }
    return {"meta": meta, "heads": load_heads(folder), **tables}


def _array(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _matrix(column: pa.ChunkedArray, width: int) -> Floats:
    """`[rows, width]` float32 of a list column, whatever kind of list it is."""
    values = column.combine_chunks()
    values = values.flatten() if len(column) else pa.array([], pa.float32())
    return np.asarray(values, np.float32).reshape(-1, width)
