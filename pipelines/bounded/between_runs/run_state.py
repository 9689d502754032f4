"""What a bounded run knows of the runs before it: the frontier, ids that were seen, users.

A completed run leaves in `store/state/<last batch>/`:

| file | |
|---|---|
| `past.json` | frontier, newest event time, revisions of windows that may yet be revised |
| `ids.arrow` | id (hash), time, user and item of every event that may yet be repeated |
| `older.arrow` | id and time of events before that, up to 8 million: to know them again |
| `users-0003.bin` | `pipelines.features.user_state.UserMemory` of some users |

The next run's events are told apart by it: repeats, late ones, too late ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.store import atomic_files
from pipelines.arrow.columns import Ints, as_int64
from pipelines.arrow.hashing import Hashes, hash_strings
from pipelines.arrow.ipc import decode, encode
from pipelines.bounded.between_runs.frontier import reached
from pipelines.config import FeatureConfig, WindowSpec
from pipelines.features.rows import FeatureRows

__all__ = [
    "BEGINNING",
    "OLDER",
    "RunState",
    "SortedByNovelty",
    "advance",
    "as_revisions",
    "last_end",
    "load_run_state",
    "read_ends",
    "save_run_state",
    "split_by_novelty",
    "write_ends",
    "write_ids",
]

BEGINNING = -(2**62)
"""The frontier before any run, and the newest event time before any event."""


OLDER = 1 << 23
"""Ids that are remembered beyond the horizon: 128 MB. What repeats one is a duplicate however
old it is; of what is older still nobody knows, and it is refused as too late."""

Flags = npt.NDArray[np.bool_]
_NO_HASHES: Hashes = np.empty(0, np.uint64)
_NO_TIMES: Ints = np.empty(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class RunState:
    """Where the stream stood.

    Attributes:
        frontier: the last window end that the log had reached (see `frontier`),
            epoch ms.
        newest: the newest event time, epoch ms.
        revisions: window end → revision of its latest rows, where it was revised, or lies
            ahead of the frontier and has rows.
        ids: `[n]` uint64 hashes of event ids, ascending.
        times: `[n]` ms, the last of each id.
        users: `[n]` uint64 hashes, of the event at that time; 0 where that is not known, or empty.
        items: `[n]` uint64 hashes, as `users`.
        older: `[m]` uint64 hashes of ids from before those, ascending.
        older_times: `[m]` ms.
    """

    frontier: int = BEGINNING
    newest: int = BEGINNING
    revisions: dict[int, int] = field(default_factory=dict)
    ids: Hashes = field(default_factory=lambda: _NO_HASHES)
    times: Ints = field(default_factory=lambda: _NO_TIMES)
    users: Hashes = field(default_factory=lambda: _NO_HASHES)
    items: Hashes = field(default_factory=lambda: _NO_HASHES)
    older: Hashes = field(default_factory=lambda: _NO_HASHES)
    older_times: Ints = field(default_factory=lambda: _NO_TIMES)

    def last_seen(self, ids: Hashes) -> Ints:
        """`[n]` when each id was last seen, ms; BEGINNING where it was not."""
        return _looked_up(self.ids, self.times, ids)

    def others(self, events: pa.RecordBatch, ids: Hashes) -> Flags:
        """`[n]` which EVENTS differ in user, item or time from the one with their id.

        Args:
            events: each with an id that was seen.
            ids: hashes of their ids.
        """
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        differ = self.times[at] != as_int64(events.column("event_time"))
        for name, known in (("user_id", self.users), ("item_id", self.items)):
            if len(known):
                differ |= (known[at] != 0) & (known[at] != hash_strings(events.column(name)))
        return differ


def _looked_up(known: Hashes, times: Ints, ids: Hashes) -> Ints:
    if not len(known):
        return np.full(len(ids), BEGINNING)
    at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
    return np.where(known[at] == ids, times[at], BEGINNING)


@dataclass(frozen=True)
class SortedByNovelty:
    """Events told apart.

    Attributes:
        fresh: EVENTS that become part of rows.
        too_late: EVENTS whose windows can no longer be revised, of ids that nobody remembers.
        repeats: events whose id was seen.
        others: repeats that differ in user, item or time from what they repeat.
    """

    fresh: pa.RecordBatch
    too_late: pa.RecordBatch
    repeats: int
    others: int


def split_by_novelty(
    events: pa.RecordBatch, past: RunState, config: FeatureConfig
) -> SortedByNovelty:
    """EVENTS `[n]` of any order → which of them are new to a stream that stood at `past`."""
    nothing = events.slice(0, 0)
    if past.frontier == BEGINNING or not events.num_rows:
        return SortedByNovelty(events, nothing, 0, 0)
    time = as_int64(events.column("event_time"))
    ids = hash_strings(events.column("event_id"))
    seen = past.last_seen(ids)
    repeat = (seen != BEGINNING) & (time <= seen + config.dedupe_horizon)
    again = events.filter(pa.array(repeat))
    others = int(past.others(again, ids[repeat]).sum()) if again.num_rows else 0
    late = ~repeat & (last_end(time, config.window) + config.allowed_lateness < past.frontier)
    old = np.flatnonzero(late)
    if len(old):
        before = _looked_up(past.older, past.older_times, ids[old])
        known = old[(before != BEGINNING) & (time[old] <= before + config.dedupe_horizon)]
        others += int((time[known] != _looked_up(past.older, past.older_times, ids[known])).sum())
        repeat[known], late[known] = True, False
    return SortedByNovelty(
        events.filter(pa.array(~(repeat | late))),
        events.filter(pa.array(late)) if late.any() else nothing,
        int(repeat.sum()),
        others,
    )


def last_end(times: Ints, window: WindowSpec) -> npt.NDArray[np.int64]:
    """Event times `[n]` → end of the last window that each falls in `[n]`, both epoch ms.

    >>> last_end(np.array([59_999, 60_000]), WindowSpec.parse("sliding:10m/1m")).tolist()
    [600000, 660000]
    """
    if window.kind == "session":
        return times + window.size_ms
    return np.asarray(times // window.period_ms * window.period_ms + window.size_ms)


def as_revisions(rows: FeatureRows, past: RunState, config: FeatureConfig) -> FeatureRows:
    """Rows of windows that had fired become revisions; those of windows long gone are left out."""
    ends = as_int64(rows.rows.column("window_end"))
    ahead = [end for end in past.revisions if end > past.frontier]
    if not len(ends) or (ends.min() > past.frontier and not np.isin(ends, ahead).any()):
        return rows
    gone = ends + config.allowed_lateness < past.frontier
    if gone.any():  # an event may fall in a window that is gone and in one that is not
        rows = rows.take(np.flatnonzero(~gone))
        ends = ends[~gone]
    revision = np.zeros(len(ends), np.int32)
    told = (ends <= past.frontier) | np.isin(ends, ahead)
    for end in np.unique(ends[told]).tolist():
        revision[ends == end] = past.revisions.get(end, 0) + 1
    at = rows.rows.schema.get_field_index("revision")
    named = rows.rows.schema.field(at)
    return FeatureRows(rows.rows.set_column(at, named, pa.array(revision)), rows.timeline)


# -- on disk ---------------------------------------------------------------------


class _Told(msgspec.Struct, frozen=True):
    frontier: int
    newest: int
    revisions: dict[str, int]


def load_run_state(folder: Path) -> RunState:
    """What `save_run_state` left; nothing where there is no such folder."""
    if not folder.is_dir():
        return RunState()
    told = msgspec.json.decode((folder / "past.json").read_bytes(), type=_Told)
    ids = _read_ids(folder / "ids.arrow")
    older: dict[str, Any] = {}
    if (folder / "older.arrow").exists():  # mapped, not read: few runs look far back
        with pa.memory_map(str(folder / "older.arrow")) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
        older = {"older": _numbers(table["id"]), "older_times": _numbers(table["time"])}
    return RunState(
        frontier=told.frontier,
        newest=told.newest,
        revisions={int(end): number for end, number in told.revisions.items()},
        ids=ids.column("id").to_numpy(),
        times=ids.column("time").to_numpy(),
        users=ids.column("user").to_numpy(),
        items=ids.column("item").to_numpy(),
        **older,
    )


def _names(batch: pa.RecordBatch) -> list[str]:
    return list(batch.schema.names)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    return column.chunk(0).to_numpy() if column.num_chunks == 1 else column.to_numpy()


def save_run_state(folder: Path, past: RunState) -> None:
    """Write a `RunState` to a folder that is not yet in its place."""
    told = _Told(past.frontier, past.newest, {str(end): n for end, n in past.revisions.items()})
    atomic_files.write_bytes(folder / "past.json", msgspec.json.encode(told))
    ids = _ids(past.ids, past.times, past.users, past.items)
    atomic_files.write_bytes(folder / "ids.arrow", encode(ids))
    if len(past.older):
        older = pa.table({"id": past.older, "time": past.older_times})
        atomic_files.write_file(folder / "older.arrow", partial(_write_table, older))


def _write_table(table: pa.Table, file: IO[bytes]) -> None:
    with pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def write_ids(
    path: Path, ids: Hashes, times: Ints, users: Hashes = _NO_HASHES, items: Hashes = _NO_HASHES
) -> None:
    """Leave the events that a shard has seen, each `[n]` as in `RunState`, for `advance`."""
    atomic_files.write_bytes(path, encode(_ids(ids, times, users, items)))


def write_ends(path: Path, rows: pa.RecordBatch) -> None:
    """Leave the window ends of a run's rows, each with its highest revision, for `advance`."""
    table = pa.table({"end": rows.column("window_end"), "n": rows.column("revision")})
    found = table.group_by("end").aggregate([("n", "max")])
    ends = as_int64(found["end"].combine_chunks()).tolist()
    told = {str(end): n for end, n in zip(ends, found["n_max"].to_pylist(), strict=True)}
    atomic_files.write_bytes(path, msgspec.json.encode(told))


def read_ends(path: Path) -> dict[int, int]:
    """What `write_ends` left: window end (ms) → highest revision."""
    told = msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    return {int(end): number for end, number in told.items()}


def advance(
    past: RunState, ends: dict[int, int], pieces: Iterable[Path], config: FeatureConfig
) -> RunState:
    """Where the stream stands after a run.

    Args:
        past: where it stood.
        ends: window end → highest revision of its rows, of all rows of the run.
        pieces: what `write_ids` left.
        config: how long ids and revisions are kept.
    """
    before = _ids(past.ids, past.times, past.users, past.items)
    seen = pa.Table.from_batches([before, *map(_read_ids, sorted(pieces))]).combine_chunks()
    ids, times, users, items = (_numbers(seen[name]) for name in ("id", "time", "user", "item"))
    frontier = _frontier(past, ends, times, np.where(users, users, ids), config)
    kept = times >= frontier - _remembered_for(config)
    older, older_times = _older(past, ids[~kept], times[~kept])
    ids, times, users, items = ids[kept], times[kept], users[kept], items[kept]
    last = _last_of_each(ids, times)
    told = {end: number for end, number in ends.items() if number or end > frontier}
    oldest = frontier - config.allowed_lateness
    return RunState(
        frontier=frontier,
        newest=int(_numbers(seen["time"]).max(initial=past.newest)),
        revisions={end: n for end, n in sorted((past.revisions | told).items()) if end >= oldest},
        ids=ids[last],
        times=times[last],
        users=users[last],
        items=items[last],
        older=older,
        older_times=older_times,
    )


def _frontier(
    past: RunState, ends: dict[int, int], times: Ints, users: Hashes, config: FeatureConfig
) -> int:
    """The last window end that all events so far have reached; it never goes back."""
    if not len(times):
        return max([past.frontier, *ends])
    furthest = reached(times, users, config.allowed_lateness)
    if furthest == times.max():
        return max([past.frontier, *ends])
    limit = int(last_end(np.array([furthest]), config.window)[0])
    return max([past.frontier, *(end for end in ends if end <= limit)])


def _remembered_for(config: FeatureConfig) -> int:
    """How far before the frontier (ms) an event may lie and not be too late, or be a repeat."""
    return max(config.dedupe_horizon, config.allowed_lateness + config.window.size_ms)


def _older(past: RunState, ids: Hashes, times: Ints) -> tuple[Hashes, Ints]:
    """Ids that have become too old, and those that were: the newest, in order of the hashes."""
    if not len(ids):
        return past.older, past.older_times
    ids = np.concatenate([past.older, ids])
    times = np.concatenate([past.older_times, times])
    if len(ids) > OLDER:
        newest = np.argsort(times, kind="stable")[-OLDER:]
        ids, times = ids[newest], times[newest]
    last = _last_of_each(ids, times)
    return ids[last], times[last]


def _last_of_each(ids: Hashes, times: Ints) -> Ints:
    """`[m]` positions of the last time of each id, in order of the ids."""
    order = np.lexsort((times, ids))
    ends = np.append(ids[order][1:] != ids[order][:-1], True)[: len(ids)]
    return np.asarray(order[ends])


_IDS = pa.schema(
    [("id", pa.uint64()), ("time", pa.int64()), ("user", pa.uint64()), ("item", pa.uint64())]
)


def _ids(ids: Hashes, times: Ints, users: Hashes, items: Hashes) -> pa.RecordBatch:
    unknown = np.zeros(len(ids), np.uint64)
    columns = [ids, times, *(known if len(known) else unknown for known in (users, items))]
    return pa.RecordBatch.from_arrays([pa.array(column) for column in columns], schema=_IDS)


def _read_ids(path: Path) -> pa.RecordBatch:
    """What `write_ids` left; users and items are 0 where an earlier release left none."""
    found = decode(path.read_bytes())
    more = [found.column(name).to_numpy() for name in ("user", "item") if name in _names(found)]
    users, items = more or (_NO_HASHES, _NO_HASHES)
    return _ids(found.column("id").to_numpy(), found.column("time").to_numpy(), users, items)
