"""What a run finds in its store, and what it leaves there besides versions.

The store's configuration and catalogue must fit what was logged: an
interrupted run goes on with what it began with, to the byte.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models import durable
from models.store import Store
from pipelines.config import JobConfig
from pipelines.errors import StoreError
from pipelines.schema import DEAD_REASONS

__all__ = ["held", "put_catalogue", "summary"]

_FREE = {("features", "shards")}
"""Settings that change neither rows nor versions."""


@contextmanager
def held(store: Store, config: JobConfig) -> Iterator[None]:
    """Hold the store for a run, made anew where there is none.

    A store that is made here and gets nothing committed to it is taken away again.

    Raises:
        StoreError: in use, foreign, of another format, or made with another configuration.
    """
    store.is_new()  # a foreign folder is refused before anything is written to it
    with store.lock():
        new = store.is_new()
        if not new:
            _check(store, config)
        store.clean()
        try:
            if new:
                store.create(_settings(config))
            yield
        except BaseException:
            if new:
                store.discard()
            raise


def put_catalogue(store: Store, entity: str, table: pa.Table | None) -> None:
    """Keep a copy of `items` or `users` beside the log that it is used with.

    Args:
        store: held by the caller.
        entity: `items` or `users`.
        table: the catalogue; None for the one that is there, or none.

    Raises:
        StoreError: an interrupted run began with another one.
    """
    path = store.catalogue_path(entity)
    if table is None or (path.exists() and pq.read_table(path).equals(table)):
        return
    if store.last_batch() > store.last_state():
        raise StoreError(
            f"{store.root} holds an interrupted run that began with other {entity}: "
            f"give the same --{entity} until it is done"
        )
    durable.write_file(path, lambda file: pq.write_table(table, file, compression="zstd"))


def summary(store: Store, counted: dict[str, int]) -> dict[str, Any]:
    """What a finished run did and what the store has to show for it.

    Args:
        store: held by the caller.
        counted: the job's counters.
    """
    versions = store.versions()
    newest = store.manifest(versions[-1]) if versions else None
    served, rows = store.current(), counted.get("rows", 0)
    if rows:
        message = f"{rows} rows in {counted.get('batches', 0)} steps; version {served} is served"
    else:
        message = f"nothing new in these events; version {served} is still served"
    return {
        "versions": len(versions),
        "served": served,
        "read": counted.get("read", 0),
        "valid": counted.get("valid", 0) - counted.get("duplicates", 0),
        "rows": rows,
        "dead": {
            reason: counted[f"dead_{reason}"]
            for reason in DEAD_REASONS
            if f"dead_{reason}" in counted
        },
        "duplicates": counted.get("duplicates", 0),
        "digest": newest.digest if newest else None,
        "max_event_time": newest.newest_event_time.isoformat() if newest else None,
        "message": message,
    }


def _settings(config: JobConfig) -> dict[str, Any]:
    """What must be the same in every run on a store."""
    kept: dict[str, Any] = config.model_dump(mode="json", exclude={"store"})
    for section, name in _FREE:
        del kept[section][name]
    return kept


def _check(store: Store, config: JobConfig) -> None:
    made_with = dict(_leaves(store.meta().get("config", {})))
    for name, value in _leaves(_settings(config)):
        if made_with.get(name, value) != value:
            raise StoreError(
                f"store {store.root} was made with {name} = {made_with[name]}, not {value}: "
                "give the same configuration, or another --store"
            )


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def finish(store: Store, start: int) -> None:
    """Check that an interrupted run was brought to its end, and mark the end.

    Raises:
        StoreError: the log holds batches that these events did not lead to.
    """
    last = store.last_batch()
    versions = store.versions()
    if last > max([start, *versions[-1:]]):
        raise StoreError(
            f"{store.root} holds micro-batches up to {last} of an interrupted run, and these "
            "events have nothing new: give the --events that it began with"
        )
    if last > start:
        store.put_state(last, lambda folder: (folder / "x").write_text(""))
