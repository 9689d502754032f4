"""One user's events → feature rows, event by event: shared by the peers that work so.

Events come in user order. Fixed windows of five minutes, a session gap of thirty; no
histories. Plain dicts, as a user of a per-element engine would keep them in state.
"""

import math
from typing import Any

WINDOW_MS, GAP_MS = 300_000, 1_800_000
TYPES = ("impression", "view", "click", "like", "dislike", "share", "cart", "purchase", "rating")
WEIGHTS = {
    "view": 0.1,
    "click": 0.5,
    "like": 1,
    "share": 1,
    "cart": 2,
    "purchase": 4,
    "rating": 0.5,
}

Event = dict[str, Any]


def fresh() -> dict[str, Any]:
    """What is known of a user who was never seen."""
    return {"last": None, "items": {}, "bought": 0, "first": None, "latest": None}


def anchor(known: dict[str, Any], event: Event) -> dict[str, Any]:
    """The columns that a row takes from its anchor, as of just before it."""
    now = event["event_time"]
    last, item = known["last"], known["items"].get(event["item_id"])
    interval = None
    if known["bought"] > 1:
        interval = (known["latest"] - known["first"]) / (known["bought"] - 1)
    return {
        "anchor_time": now,
        "since_event_ms": None if last is None else now - last["event_time"],
        "since_item_ms": None if item is None else now - item,
        "since_purchase_ms": None if known["latest"] is None else now - known["latest"],
        "purchase_interval_ms": interval,
        "platform": event["platform"],
        "context": event["context"],
    }


def _row(
    rows: dict[Any, Any], user: str, item: str, time: int, at: dict[str, Any]
) -> dict[str, Any]:
    start = time // WINDOW_MS * WINDOW_MS
    row = rows.get((item, start))
    if row is None:
        row = rows[item, start] = {
            "user_id": user,
            "item_id": item,
            "window_start": start,
            "window_end": start + WINDOW_MS,
            **{f"n_{kind}": 0 for kind in TYPES},
            "n_dwell": 0,
            "dwell_ms_sum": 0,
            "dwell_ms_max": None,
            "rating": None,
            "purchase_value": 0.0,
            "events": 0,
            **at,
        }
    return row


def _dwell(row: dict[str, Any], dwell: int) -> None:
    row["n_dwell"] += 1
    row["dwell_ms_sum"] += dwell
    row["dwell_ms_max"] = max(dwell, row["dwell_ms_max"] or 0)


def add(known: dict[str, Any], rows: dict[Any, Any], event: Event) -> None:
    """Work the user's next event into what is known and into the open rows."""
    now, item, kind = event["event_time"], event["item_id"], event["event_type"]
    last = known["last"]
    if last is not None and last["event_type"] in ("view", "click") and last["dwell_ms"] is None:
        gap = now - last["event_time"]
        apart = {last["session_id"], event["session_id"]} - {None}
        if gap <= GAP_MS and len(apart) < 2:
            _dwell(_row(rows, event["user_id"], last["item_id"], now, last["anchor"]), gap)
    at = anchor(known, event)
    row = _row(rows, event["user_id"], item, now, at)
    if not row["events"]:
        row.update(at)  # before, it held nothing but an observed dwell
    row["events"] += 1
    row[f"n_{kind}"] += 1
    if event["dwell_ms"] is not None:
        _dwell(row, event["dwell_ms"])
    if kind == "rating":
        row["rating"] = event["value"]
    if kind == "purchase":
        row["purchase_value"] += event["value"] or 0.0
        known["bought"] += 1
        known["latest"] = now
        if known["first"] is None:
            known["first"] = now
    known["items"][item] = now
    known["last"] = {**event, "anchor": at}


def finish(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a window that is over."""
    row = dict(row)
    del row["events"]
    row["context"] = dict(row["context"])
    row["confidence"] = (
        1
        + 0.5 * math.log(1 + row["dwell_ms_sum"] / 1000)
        + sum(weight * row[f"n_{kind}"] for kind, weight in WEIGHTS.items())
    )
    return row
