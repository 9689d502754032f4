"""From runs on files to a stream, and back: who may go on with a store.

A stream goes on from completed runs on files: it starts with what they left in
`store/state`. The other way round there is nothing to start with, for what a
stream knows of its users lies with its job. `store/state/stream.json` says since
which micro-batch a store is fed by a stream, and by which.
"""

from pathlib import Path
from typing import Any

import msgspec

from models.store import atomic_files
from models.store.store import Store
from pipelines.errors import StoreError

__all__ = ["check_files", "check_stream", "mark_stream"]


def mark_stream(store: Store, events: str) -> None:
    """Note that what is logged from now on is a stream's; the store is held by the caller.

    Args:
        store: that is fed.
        events: the stream, as it was given.
    """
    if _fed_since(store) is None:
        told = {"since": store.last_batch(), "events": events.partition("?")[0]}
        atomic_files.write_bytes(_path(store), msgspec.json.encode(told))


def check_files(store: Store) -> None:
    """Refuse a run on files where a stream has been.

    Raises:
        StoreError: it has; what to do instead.
    """
    since = _fed_since(store)
    if since is not None:
        raise StoreError(
            f"store {store.root} is fed by {_read(store)['events']} since micro-batch {since + 1}, "
            "and what users did lies with that job: put these events into the stream and go on "
            "with it, or give another --store"
        )


def check_stream(store: Store, *, resumed: bool, start_given: bool) -> None:
    """Refuse a stream that would repeat or miss what the store holds.

    Args:
        store: held by the caller.
        resumed: whether it goes on from a savepoint.
        start_given: whether it was said where the stream begins.

    Raises:
        StoreError: what to do instead.
    """
    last = store.last_batch()
    if resumed:
        return
    if _fed_since(store) is not None:
        if not start_given:
            raise StoreError(
                f"store {store.root} has {last} micro-batches of a stream already: go on from a "
                "savepoint with --savepoint_path=…, or say where to begin with ?start=latest"
            )
    elif last > store.last_state():
        raise StoreError(
            f"store {store.root} holds micro-batches up to {last} of an interrupted run on files: "
            "bring that to its end with its own --events, then go on with the stream"
        )


def _fed_since(store: Store) -> int | None:
    """The micro-batch after which a stream has logged some; None where none has."""
    since = _read(store).get("since") if _path(store).exists() else None
    return since if since is not None and store.last_batch() > since else None


def _read(store: Store) -> dict[str, Any]:
    """What `mark_stream` noted.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        return msgspec.json.decode(_path(store).read_bytes(), type=dict)
    except (OSError, msgspec.DecodeError) as error:
        raise StoreError(
            f"{_path(store)} cannot be read ({error}): restore it from a copy of the store"
        ) from None


def _path(store: Store) -> Path:
    return store.root / "state" / "stream.json"
