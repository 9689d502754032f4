"""Feature rows the slow way: plain loops over plain dicts, as DESIGN 3 reads.

Shares no code with the kernel. An event is a dict with the columns of
`pipelines.schema.EVENTS`, a row one with those of `FEATURES`; times are
integers, milliseconds since the epoch; a context is a list of pairs or None.

The quick way to rows for a test of something else::

    events = load_events(path)                     # list of dicts
    batch = to_batch(feature_rows(events, FeatureConfig()))
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import FeatureConfig, WindowSpec
from pipelines.schema import EVENT_TYPES, EVENTS, FEATURES

Event = dict[str, Any]
Row = dict[str, Any]


def load_events(path: Path) -> list[Event]:
    """Events of a Parquet file that is known to be valid; absent columns are None."""
    events = pq.read_table(path).to_pylist()
    for event in events:
        event["event_time"] = math.floor(event["event_time"].timestamp() * 1000 + 1e-6)
    return [{name: event.get(name) for name in EVENTS.names} for event in events]


def to_batch(rows: list[Row]) -> pa.RecordBatch:
    """`[rows]` of the schema FEATURES."""
    return pa.RecordBatch.from_pylist(rows, schema=FEATURES)


def from_batch(batch: pa.RecordBatch | pa.Table) -> list[Row]:
    """The dicts of a FEATURES batch, times as integers, in the oracle's order."""
    for i, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type):
            column = batch.column(i).cast(pa.timestamp("ms", "UTC")).cast(pa.int64())
            batch = batch.set_column(i, field.name, column)
    return sorted(batch.to_pylist(), key=row_key)


def row_key(row: Row) -> tuple[Any, ...]:
    return (row["user_id"], row["item_id"], row["window_start"], row["revision"])


def content_key(event: Event) -> tuple[Any, ...]:
    """An order over whole events; null comes before any value."""
    names = ["event_time", "user_id", "item_id", "event_type", "dwell_ms"]
    names += ["value", "session_id", "platform"]
    pairs = event["context"]
    context = pairs is not None and [(key, text is not None, text) for key, text in pairs]
    return (
        *((event[name] is not None, event[name]) for name in names),
        (pairs is not None, context),
    )


def deduplicate(events: list[Event], horizon: int) -> list[Event]:
    """Of the events that share an id: the smallest, then the first beyond its horizon, …"""
    by_id = defaultdict(list)
    for event in events:
        by_id[event["event_id"]].append(event)
    kept = []
    for same in by_id.values():
        last = None
        for event in sorted(same, key=content_key):
            if last is None or event["event_time"] - last > horizon:
                kept.append(event)
                last = event["event_time"]
    return kept


def windows_of(time: int, window: WindowSpec) -> list[tuple[int, int]]:
    """The fixed or sliding windows that hold a time."""
    start = time - time % window.period_ms
    found = []
    while start + window.size_ms > time:
        found.append((start, start + window.size_ms))
        start -= window.period_ms
    return found


def sessions_of(times: list[int], gap: int) -> dict[int, tuple[int, int]]:
    """Time → its session, for one user's ascending times."""
    runs: list[list[int]] = []
    for time in times:
        if runs and time - runs[-1][-1] < gap:
            runs[-1].append(time)
        else:
            runs.append([time])
    return {time: (run[0], run[-1] + gap) for run in runs for time in run}


def dwell_becomes_known(event: Event, following: Event, config: FeatureConfig) -> bool:
    gap = following["event_time"] - event["event_time"]
    sessions = {event["session_id"], following["session_id"]} - {None}
    return (
        event["event_type"] in {"view", "click"}
        and event["dwell_ms"] is None
        and gap <= config.session_gap
        and not (config.retention and gap > config.retention)
        and len(sessions) < 2
    )


def before_anchor(past: list[Event], anchor: Event, history: int) -> Row:
    """The columns that look back; `past`: the user's events before the anchor, in order."""
    now = anchor["event_time"]

    def since(events: Iterator[Event]) -> int | None:
        return next((now - e["event_time"] for e in events), None)

    purchases = [e for e in past if e["event_type"] == "purchase"]
    shown = (e for e in reversed(past) if e["event_type"] != "impression")
    shown = list(islice(shown, history))[::-1]
    interval = None
    if len(purchases) > 1:
        span = purchases[-1]["event_time"] - purchases[0]["event_time"]
        interval = span / (len(purchases) - 1)
    return {
        "anchor_time": now,
        "since_event_ms": since(reversed(past)),
        "since_item_ms": since(e for e in reversed(past) if e["item_id"] == anchor["item_id"]),
        "since_purchase_ms": since(reversed(purchases)),
        "purchase_interval_ms": interval,
        "history_items": [e["item_id"] for e in shown],
        "history_types": [e["event_type"] for e in shown],
        "history_age_ms": [now - e["event_time"] for e in shown],
        "platform": anchor["platform"],
        "context": anchor["context"],
    }


def summarise(events: list[Event], observed: list[int], config: FeatureConfig) -> Row:
    """The columns that count; `observed`: dwells in ms that became known in the window."""
    dwells = [e["dwell_ms"] for e in events if e["dwell_ms"] is not None] + observed
    counts = {t: sum(e["event_type"] == t for e in events) for t in EVENT_TYPES}
    ratings = [e["value"] for e in events if e["event_type"] == "rating"]
    bought = [e["value"] for e in events if e["event_type"] == "purchase"]
    weights = config.confidence.model_dump()
    confidence = 1 + weights["dwell"] * math.log(1 + sum(dwells) / 1000)
    confidence += sum(weights[t] * n for t, n in counts.items())
    return {
        **{f"n_{t}": n for t, n in counts.items()},
        "n_dwell": len(dwells),
        "dwell_ms_sum": sum(dwells),
        "dwell_ms_max": max(dwells, default=None),
        "rating": ratings[-1] if ratings else None,
        "purchase_value": float(sum(v for v in bought if v is not None)),
        "confidence": confidence,
        "revision": 0,
    }


def rows_of_user(events: list[Event], config: FeatureConfig) -> list[Row]:
    """One user's rows; `events` valid and without duplicates, in any order."""
    events = sorted(events, key=lambda e: (e["event_time"], e["event_id"].encode()))
    sessions = sessions_of([e["event_time"] for e in events], config.window.size_ms)

    def windows(time: int) -> list[tuple[int, int]]:
        if config.window.kind == "session":
            return [sessions[time]]
        return windows_of(time, config.window)

    seen = defaultdict(list)  # (item, window) → positions of its events
    observed = defaultdict(list)  # (item, window) → positions of events whose dwell is observed
    starts = []  # position of the first event since the user started (anew)
    for i, event in enumerate(events):
        gap = event["event_time"] - events[i - 1]["event_time"] if i else math.inf
        anew = not i or (config.retention and gap > config.retention)
        starts.append(i if anew else starts[-1])
        for window in windows(event["event_time"]):
            seen[event["item_id"], window].append(i)
            if i and dwell_becomes_known(events[i - 1], event, config):
                observed[events[i - 1]["item_id"], window].append(i - 1)
    rows = []
    for key in seen.keys() | observed.keys():
        anchor = seen[key][0] if seen[key] else observed[key][0]
        gaps = [events[i + 1]["event_time"] - events[i]["event_time"] for i in observed[key]]
        past = events[starts[anchor] : anchor]
        item, (start, end) = key
        rows.append(
            {"user_id": events[0]["user_id"], "item_id": item}
            | {"window_start": start, "window_end": end}
            | before_anchor(past, events[anchor], config.history)
            | summarise([events[i] for i in seen[key]], gaps, config)
        )
    return rows


def feature_rows(events: list[Event], config: FeatureConfig) -> list[Row]:
    """All rows of a log of valid events, duplicates included, sorted by `row_key`."""
    by_user = defaultdict(list)
    for event in deduplicate(events, config.dedupe_horizon):
        by_user[event["user_id"]].append(event)
    rows = [row for same in by_user.values() for row in rows_of_user(same, config)]
    return sorted(({n: row[n] for n in FEATURES.names} for row in rows), key=row_key)
