"""What a bounded run knows of the runs before it: the frontier, ids that were seen, users.

A completed run leaves in `store/state/<last batch>/`:

| file | |
|---|---|
| `past.json` | frontier, newest event time, revisions of windows that may yet be revised |
| `ids.arrow` | hash and time of every event within the dedupe horizon |
| `users-0003.bin` | `pipelines.features.user_state.Memory` of some users |

The next run's events are told apart by it: repeats, late ones, too late ones.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models.store import atomic_files
from pipelines.arrow.columns import Ints, as_int64
from pipelines.arrow.hashing import Hashes, hash_strings
from pipelines.arrow.ipc import decode, encode
from pipelines.config import FeatureConfig, WindowSpec
from pipelines.features.rows import FeatureRows

__all__ = [
    "BEGINNING",
    "Past",
    "Sorted",
    "advance",
    "last_end",
    "load",
    "read_ends",
    "revise",
    "save",
    "tell_apart",
    "write_ends",
    "write_ids",
]

BEGINNING = -(2**62)
"""The frontier before any run, and the newest event time before any event."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """Where the stream stood.

    Attributes:
        frontier: the last window end that has fired, epoch ms.
        newest: the newest event time, epoch ms.
        revisions: window end → revision of its latest rows, where it was revised.
        ids: `[n]` uint64 hashes of event ids, ascending; times: `[n]` ms, the last of each.
        times: see `ids`.
    """

    frontier: int = BEGINNING
    newest: int = BEGINNING
    revisions: dict[int, int] = field(default_factory=dict)
    ids: Hashes = field(default_factory=lambda: np.empty(0, np.uint64))
    times: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def last_seen(self, ids: Hashes) -> Ints:
        """`[n]` when each id was last seen, ms; BEGINNING where it was not."""
        if not len(self.ids):
            return np.full(len(ids), BEGINNING)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return np.where(self.ids[at] == ids, self.times[at], BEGINNING)


@dataclass(frozen=True)
class Sorted:
    """Events told apart.

    Attributes:
        fresh: EVENTS that become part of rows.
        too_late: EVENTS whose windows can no longer be revised.
        repeats: events whose id was seen.
        ancient: events from before the time that ids are remembered for: taken for repeats.
    """

    fresh: pa.RecordBatch
    too_late: pa.RecordBatch
    repeats: int
    ancient: int


def tell_apart(events: pa.RecordBatch, past: Past, config: FeatureConfig) -> Sorted:
    """EVENTS `[n]` of any order → which of them are new to a stream that stood at `past`."""
    nothing = events.slice(0, 0)
    if past.frontier == BEGINNING or not events.num_rows:
        return Sorted(events, nothing, 0, 0)
    time = as_int64(events.column("event_time"))
    seen = past.last_seen(hash_strings(events.column("event_id")))
    repeat = (seen != BEGINNING) & (time <= seen + config.dedupe_horizon)
    ancient = ~repeat & (time < past.frontier - config.dedupe_horizon)
    ends = last_end(time, config.window)
    late = ~repeat & ~ancient & (ends + config.allowed_lateness < past.frontier)
    return Sorted(
        events.filter(pa.array(~(repeat | ancient | late))),
        events.filter(pa.array(late)) if late.any() else nothing,
        int(repeat.sum()),
        int(ancient.sum()),
    )


def last_end(times: Ints, window: WindowSpec) -> npt.NDArray[np.int64]:
    """Event times `[n]` → end of the last window that each falls in `[n]`, both epoch ms.

    >>> last_end(np.array([59_999, 60_000]), WindowSpec.parse("sliding:10m/1m")).tolist()
    [600000, 660000]
    """
    if window.kind == "session":
        return times + window.size_ms
    return np.asarray(times // window.period_ms * window.period_ms + window.size_ms)


def revise(rows: FeatureRows, past: Past, config: FeatureConfig) -> FeatureRows:
    """Rows of windows that had fired become revisions; those of windows long gone are left out."""
    ends = as_int64(rows.rows.column("window_end"))
    if not len(ends) or ends.min() > past.frontier:
        return rows
    gone = ends + config.allowed_lateness < past.frontier
    if gone.any():  # an event may fall in a window that is gone and in one that is not
        rows = rows.take(np.flatnonzero(~gone))
        ends = ends[~gone]
    revision = np.zeros(len(ends), np.int32)
    for end in np.unique(ends[ends <= past.frontier]).tolist():
        revision[ends == end] = past.revisions.get(end, 0) + 1
    at = rows.rows.schema.get_field_index("revision")
    named = rows.rows.schema.field(at)
    return FeatureRows(rows.rows.set_column(at, named, pa.array(revision)), rows.timeline)


# -- on disk ---------------------------------------------------------------------


class _Told(msgspec.Struct, frozen=True):
    frontier: int
    newest: int
    revisions: dict[str, int]


def load(folder: Path) -> Past:
    """What `save` left; nothing where there is no such folder."""
    if not folder.is_dir():
        return Past()
    told = msgspec.json.decode((folder / "past.json").read_bytes(), type=_Told)
    ids = decode((folder / "ids.arrow").read_bytes())
    return Past(
        frontier=told.frontier,
        newest=told.newest,
        revisions={int(end): number for end, number in told.revisions.items()},
        ids=ids.column("id").to_numpy(),
        times=ids.column("time").to_numpy(),
    )


def save(folder: Path, past: Past) -> None:
    """Write `past.json` and `ids.arrow` to a folder that is not yet in its place."""
    told = _Told(past.frontier, past.newest, {str(end): n for end, n in past.revisions.items()})
    atomic_files.write_bytes(folder / "past.json", msgspec.json.encode(told))
    atomic_files.write_bytes(folder / "ids.arrow", _ids_bytes(past.ids, past.times))


def write_ids(path: Path, ids: Hashes, times: Ints) -> None:
    """Leave the ids that a shard has seen, for `advance`."""
    atomic_files.write_bytes(path, _ids_bytes(ids, times))


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
    past: Past, ends: dict[int, int], pieces: Iterable[Path], config: FeatureConfig
) -> Past:
    """Where the stream stands after a run.

    Args:
        past: where it stood.
        ends: window end → highest revision of its rows, of all rows of the run.
        pieces: what `write_ids` left.
        config: how long ids and revisions are kept.
    """
    batches = [decode(path.read_bytes()) for path in sorted(pieces)]
    ids = np.concatenate([past.ids, *(b.column("id").to_numpy() for b in batches)])
    times = np.concatenate([past.times, *(b.column("time").to_numpy() for b in batches)])
    newest = int(times.max(initial=past.newest))
    frontier = max([past.frontier, *ends])
    kept = times >= frontier - config.dedupe_horizon
    ids, times = ids[kept], times[kept]
    order = np.lexsort((times, ids))
    ids, times = ids[order], times[order]
    last = np.append(ids[1:] != ids[:-1], True)[: len(ids)]
    revised = past.revisions | {end: number for end, number in ends.items() if number}
    oldest = frontier - config.allowed_lateness
    return Past(
        frontier=frontier,
        newest=newest,
        revisions={end: n for end, n in sorted(revised.items()) if end >= oldest},
        ids=ids[last],
        times=times[last],
    )


def _ids_bytes(ids: Hashes, times: Ints) -> bytes:
    return encode(pa.record_batch({"id": pa.array(ids), "time": pa.array(times)}))
