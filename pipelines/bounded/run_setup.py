"""What was asked of a run, and what every run needs of it: catalogues, training, sinks."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from models.network.text_encoder import text_encoder
from models.store.embeddings import CopyPolicy
from models.store.store import Store
from pipelines.config import JobConfig
from pipelines.publish import FileSink, StartFollowers, catch_up_sinks
from pipelines.read.catalogues import Catalogue, read_items, read_users
from pipelines.train.fine_tune import TRAINER, FineTune

__all__ = [
    "RunRequest",
    "catalogues",
    "fine_tune",
    "sinks_caught_up",
    "warn_of_strangers",
]

_log = logging.getLogger("rillet")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What `rillet run` was asked to do."""

    events: tuple[str, ...]
    items: str | None
    users: str | None
    store: Path
    config: JobConfig
    predictions: Path | None
    beam_args: tuple[str, ...]
    now_ms: int
    trainer: str = TRAINER
    sinks: tuple[str, ...] = field(default=(), repr=False)
    flush_s: float = 60.0
    monotonic: Callable[[], float] = time.monotonic


def fine_tune(request: RunRequest, store: Store) -> FineTune:
    """What training needs to know of a request."""
    overlap = request.config.features.window.overlap  # an event is in so many rows
    return FineTune(
        store=store,
        model=request.config.model.model_copy(update={"overlap": overlap}),
        keep=CopyPolicy(**request.config.store.model_dump()),
        sinks=[FileSink(store).publish],
        predictions=request.predictions,
        trainer=request.trainer,
        follow=StartFollowers(store, request.sinks),
    )


def sinks_caught_up(request: RunRequest, store: Store) -> dict[str, Any]:
    """Bring the sinks up to the store, within a limit; what to tell of them."""
    if not request.sinks:
        return {}
    return {"sinks": catch_up_sinks(store, request.sinks, request.flush_s)}


def catalogues(request: RunRequest) -> tuple[pa.Table | None, pa.Table | None]:
    """Items and users, where the request names them.

    Raises:
        RequestError: one cannot be read, or the job file's text model cannot be used: that is
            found out here, before anything is written. TensorFlow is loaded only for the latter.
    """
    text_encoder(request.config.model.text_model)
    return _read(read_items, request.items), _read(read_users, request.users)


def warn_of_strangers(store: Store, entity: str, table: pa.Table | None) -> None:
    """Say so if not one id of a catalogue is in the log: then ids are written in two ways.

    Args:
        store: its training log is looked at from the end, up to where an id is known.
        entity: `items` or `users`.
        table: the catalogue that was given.
    """
    last = store.last_batch()
    if table is None or not len(table) or not last:
        return
    key = {"items": "item_id", "users": "user_id"}[entity]
    ids, seen = table[key], None
    for number in range(last, max(last - _LOOKED_AT, 0), -1):
        seen = store.read_batch(number)[0].column(key)
        if pc.any(pc.is_in(seen, value_set=ids)).as_py():
            return
    _log.warning(
        "none of the %d %s of the catalogue is in the log: it has %s %r, the catalogue %r; write "
        "the ids alike in both",
        len(table),
        entity,
        key,
        seen[0].as_py() if seen else None,
        ids[0].as_py(),
    )


_LOOKED_AT = 20
"""Micro-batches in which an id of the catalogue is looked for."""


def _read(reader: Callable[[str], Catalogue], source: str | None) -> pa.Table | None:
    if source is None:
        return None
    found = reader(source)
    if found.skipped:
        _log.warning("%d rows of %s cannot be used: %s", found.skipped, source, found.example)
    return found.table
