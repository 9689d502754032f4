"""What a run finds in its store, and what it leaves there besides versions.

The store's configuration and catalogue must fit what was logged: an
interrupted run goes on with what it began with, to the byte.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from models.store import atomic_files
from models.store.catalogue import read_catalogue
from models.store.manifest import utc_ms
from models.store.recovery import recover
from models.store.store import Store
from models.store.version_numbers import last_trained_batch
from pipelines.bounded.between_runs.run_state import (
    BEGINNING,
    RunState,
    advance,
    load_run_state,
    read_ends,
    save_run_state,
)
from pipelines.clean.quarantine import by_rule
from pipelines.clean.too_late import duration
from pipelines.clock import wall_clock_ms
from pipelines.config import FeatureConfig, JobConfig
from pipelines.errors import StoreError
from pipelines.metrics import skipped_records
from pipelines.schema import DEAD_REASONS

__all__ = [
    "check",
    "finish_run",
    "hold_for_run",
    "pending_path",
    "put_catalogue",
    "shuffle_path",
    "summary",
]

_FREE = {("features", "shards"), ("model", "overlap"), ("model", "text_model")}
"""Settings that change neither rows nor versions, or follow from others; of a text model its
files count, not its path."""


"""Records of a topic that are neither events nor mistakes (`pipelines.read.kafka.wire`)."""

_AFTER_PARSING = ("too_late", "quarantined")
"""Reasons for which valid events become dead letters."""


@contextmanager
def hold_for_run(
    store: Store, config: JobConfig, clock: Callable[[], int] = wall_clock_ms
) -> Iterator[None]:
    """Hold the store for a run, made anew where there is none.

    A store that is made here and gets nothing committed to it is taken away again. What
    an interrupted retrain left is finished or undone first.

    Args:
        store: where.
        config: of the run.
        clock: epoch ms.

    Raises:
        StoreError: in use, foreign, of another format, or made with another configuration.
    """
    store.is_new()  # a foreign folder is refused before anything is written to it
    with store.lock():
        new = store.is_new()
        if not new:
            recover(store, utc_ms(clock()))
            check(store, config)
        store.clean()
        try:
            if not store.last_batch():
                store.create(_recorded(config))
            yield
        except BaseException:
            atomic_files.remove(pending_path(store))
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
        StoreError: an interrupted run began with another one, or the copy is damaged and none
            is given in its place.
    """
    if table is None:
        read_catalogue(store, entity)  # damaged, it is told before anything is begun
        return
    try:
        hold_for_run = read_catalogue(store, entity)
    except StoreError:
        pass  # damaged: replaced, whatever it was
    else:
        if hold_for_run is not None and hold_for_run.equals(table):
            return
        if store.last_batch() > store.last_state():
            raise StoreError(
                f"{store.root} holds an interrupted run that began with other {entity}: "
                f"give the same --{entity} until it is done"
            )
    path = store.catalogue_path(entity)
    atomic_files.write_file(path, lambda file: pq.write_table(table, file, compression="zstd"))


def summary(store: Store, counted: dict[str, int], past: RunState) -> dict[str, Any]:
    """What a finished run did and what the store has to show for it.

    Args:
        store: held by the caller.
        counted: the job's counters; `too_late_by_ms` and `reached_ms` are told if events were.
        past: where the stream stands now.
    """
    versions = store.versions()
    newest = store.manifest(versions[-1]) if versions else None
    served, rows = store.current(), counted.get("rows", 0)
    told = (f"{rows} rows" if rows else "nothing new in these events") + _behind(counted)
    if served is None:
        message = f"{told}; there is no version to serve yet"
    else:
        message = f"{told}; version {served} is {'served' if rows else 'still served'}"
    return {
        "versions": len(versions),
        "served": served,
        **_records(counted),
        "rows": rows,
        "digest": newest.digest if newest else None,
        "max_event_time": utc_ms(past.newest).isoformat() if newest else None,
        "message": message,
    }


def _records(counted: dict[str, int]) -> dict[str, Any]:
    """What became of the records; null where a cluster has forgotten what it counted."""
    if "read" not in counted:
        return dict.fromkeys(("read", "valid", "dead", "duplicates", "unknown_values"))
    duplicates = counted.get("duplicates", 0)
    refused = sum(counted.get(f"dead_{reason}", 0) for reason in _AFTER_PARSING)
    told: dict[str, Any] = {
        "read": counted["read"],
        "valid": counted.get("valid", 0) - duplicates - refused,
        "dead": {
            reason: counted[f"dead_{reason}"]
            for reason in DEAD_REASONS
            if f"dead_{reason}" in counted
        },
        "duplicates": duplicates,
    }
    if "duplicates_differ" in counted:  # a stream does not look at that
        told["duplicates_differ"] = counted["duplicates_differ"]
    told |= {"unknown_values": counted.get("unknown_values", 0)}
    return told | by_rule(counted) | skipped_records(counted)


def _behind(counted: dict[str, int]) -> str:
    """Of events that came too late: how many, how far, behind what, and what to do."""
    late, reached = counted.get("dead_too_late", 0), counted.get("reached_ms", BEGINNING)
    if not late or reached == BEGINNING:
        return f"; {late} events came too late" if late else ""
    return (
        f"; {late} events came too late, up to {duration(counted.get('too_late_by_ms', 0))} behind "
        f"{utc_ms(reached).isoformat()}, which this store had reached: files go in in order of "
        "time, and history that was left out goes into a new store, before the rest"
    )


def _settings(config: JobConfig) -> dict[str, Any]:
    """What must be the same in every run on a store."""
    kept: dict[str, Any] = config.model_dump(mode="json", exclude={"store"})
    for section, name in _FREE:
        del kept[section][name]
    return kept


def _recorded(config: JobConfig) -> dict[str, Any]:
    """What a store remembers: `_settings`, and where the text model is for commands on it."""
    kept, path = _settings(config), config.model.text_model
    kept["model"]["text_model"] = path and str(Path(path).resolve())
    return kept


def check(store: Store, config: JobConfig, *, but: str = "") -> None:
    """Refuse a configuration that is not the one that the store was made with.

    Args:
        store: whose settings count, once there is a micro-batch.
        config: what was asked for.
        but: a section that may be another one.

    Raises:
        StoreError: names the first setting that differs.
    """
    made_with = dict(_leaves(store.meta().get("config", {})))
    if not store.last_batch():
        return  # nothing was made with it yet
    for name, value in _leaves(_settings(config)):
        if made_with.get(name, value) != value and name.partition(".")[0] != but:
            other = ", rillet retrain --config" if name.startswith("model.") else ""
            raise StoreError(
                f"store {store.root} was made with {name} = {made_with[name]}, not {value}: "
                f"give the same configuration{other}, or another --store"
            )


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def pending_path(store: Store) -> Path:
    """Where a run collects what the next one has to know (see `run_state`)."""
    return store.root / "state" / "pending"


def shuffle_path(store: Store) -> Path:
    """Where a run leaves what it groups (`pipelines.arrow.spill_files`); gone with its folder."""
    return pending_path(store) / "shuffle"


def finish_run(store: Store, config: FeatureConfig, start: int) -> RunState:
    """Check that an interrupted run was brought to its end, and mark the end.

    Args:
        store: held by the caller.
        config: how long ids and revisions are kept.
        start: the last batch of the runs before.

    Returns:
        Where the stream stands now.

    Raises:
        StoreError: the log holds batches that these events did not lead to.
    """
    last, pending = store.last_batch(), pending_path(store)
    if last > max(start, last_trained_batch(store)):
        raise StoreError(
            f"{store.root} holds micro-batches up to {last} of an interrupted run, and these "
            "events have nothing new: give the --events that it began with"
        )
    past = load_run_state(store.state_path(start))
    if last > start:
        ends = read_ends(pending / "ends.json")
        past = advance(past, ends, pending.glob("ids-*.arrow"), config)
        store.put_state(last, partial(_leave, pending, past))
    atomic_files.remove(pending)
    return past


def _leave(pending: Path, past: RunState, folder: Path) -> None:
    save_run_state(folder, past)
    for users in sorted(pending.glob("users-*.bin")):
        shutil.copyfile(users, folder / users.name)
