"""From events to observations: what became known when, and what came before.

Everything works on a whole shard at once, in *user order*: (user, event_time,
event_id by its bytes). What users did before these events comes as memories
(`pipelines.features.user_state`): past events that stand before the new ones, are looked back
at like any other, and are no observation themselves.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.arrow.columns import Codes, Ints, as_int64, encode_column, order_by, run_starts
from pipelines.config import FeatureConfig
from pipelines.features.event_order import user_order
from pipelines.schema import EVENT_TYPES

__all__ = [
    "NONE",
    "Flags",
    "Floats",
    "Observations",
    "RememberedUsers",
    "UserEvents",
    "observe",
    "read_log",
]

NONE = -1
"""Stands for null in durations and codes, which are never negative."""

IMPRESSION, VIEW, CLICK, PURCHASE = (
    EVENT_TYPES.index(name) for name in ("impression", "view", "click", "purchase")
)

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class UserEvents:
    """Events `[n]` of a shard, as columns in user order.

    Attributes:
        users, items: the distinct ids, by their bytes; `user` and `item` are codes.
        kind: index into EVENT_TYPES.
        time: ms since the epoch.
        dwell: ms or NONE. value: NaN for null. session: code or NONE.
        source: where the event stands in `platform` and `context`, which stay as they came.
        memory: the event was seen by an earlier call.
        repeats: events left out, for they came with the same id, user and instant before.
    """

    users: pa.Array
    items: pa.Array
    user: Codes
    item: Codes
    kind: npt.NDArray[np.int8]
    time: Ints
    dwell: Ints
    value: Floats
    session: Codes
    source: Ints
    memory: Flags
    platform: pa.Array
    context: pa.Array
    repeats: int


@dataclass(frozen=True, kw_only=True)
class RememberedUsers:
    """What `k` memories know beside their event; `at` gives their positions in a Log.

    Attributes:
        at: `[k]` positions of each user's last remembered event.
        since_event, since_item, since_purchase, interval: as in Observations.
        forgotten: the user's purchases that were counted and are no longer there.
    """

    at: Ints
    since_event: Ints
    since_item: Ints
    since_purchase: Ints
    interval: Floats
    forgotten: Ints


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Observations `[n]`, and what each would need to anchor a row.

    Attributes:
        log: the events.
        observed: dwell that became known at the user's next event, ms or NONE.
        since_event, since_item, since_purchase: ms back to the user's latest event before,
            or NONE.
        interval: mean ms between the user's purchases before; NaN with fewer than two.
        history_start, history_end: from where to where in `past`.
        past: `[m]` positions of the events that histories are made of.
        purchases: how many the user made before, since the user started (anew).
        life: position of the user's first event since the user started (anew).
        by_item: positions ordered by (user, item, user order).
    """

    log: UserEvents
    observed: Ints
    since_event: Ints
    since_item: Ints
    since_purchase: Ints
    interval: Floats
    history_start: Ints
    history_end: Ints
    past: Ints
    purchases: Ints
    life: Ints
    by_item: Ints


def read_log(events: pa.RecordBatch, remembered: int = 0) -> UserEvents:
    """Valid events, EVENTS `[n]`, put into user order, repeats left out.

    Args:
        events: user_id, item_id, event_type, session_id may be dictionary-encoded.
        remembered: the first so many rows are memories, already in user order.
    """
    user, users = encode_column(events.column("user_id"), ordered=True)
    item, items = encode_column(events.column("item_id"), ordered=True)
    session, _ = encode_column(events.column("session_id"))
    time = as_int64(events.column("event_time"))
    value = pc.fill_null(events.column("value"), np.nan).to_numpy(zero_copy_only=False)
    order = user_order(events, user, remembered)
    return UserEvents(
        users=users,
        items=items,
        user=user[order],
        item=item[order],
        kind=_kinds(events.column("event_type"))[order],
        time=time[order],
        dwell=as_int64(events.column("dwell_ms"), NONE)[order],
        value=value[order],
        session=session[order],
        source=order,
        memory=order < remembered,
        platform=events.column("platform"),
        context=events.column("context"),
        repeats=events.num_rows - len(order),
    )


def _kinds(column: pa.Array) -> npt.NDArray[np.int8]:
    codes, names = encode_column(column)
    lookup = pc.index_in(names, pa.array(EVENT_TYPES))
    return as_int64(lookup).astype(np.int8)[codes]


def observe(
    log: UserEvents, config: FeatureConfig, memories: RememberedUsers | None = None
) -> Observations:
    """What each event of a log makes known, and what lies before it."""
    n = len(log.user)
    position = np.arange(n)
    new_user = run_starts(log.user)
    gap = np.diff(log.time, prepend=0)
    anew = new_user | _forgotten(log, gap, config.retention, memories)
    life = np.maximum.accumulate(np.where(anew, position, 0))

    by_item = order_by(log.user, log.item)
    since_item = np.full(n, NONE)
    now, before = by_item[1:], by_item[:-1]
    same = (log.user[now] == log.user[before]) & (log.item[now] == log.item[before])
    same &= before >= life[now]
    since_item[now[same]] = log.time[now[same]] - log.time[before[same]]

    bought = log.time[log.kind == PURCHASE]
    done = _count_before(log.kind == PURCHASE)
    purchases = done - done[life]
    latest = bought[done - 1] if len(bought) else np.zeros(n, np.int64)
    first = bought[np.minimum(done[life], len(bought) - 1)] if len(bought) else latest
    forgotten = np.zeros(n, np.int64)
    if memories is not None:
        forgotten[life[memories.at]] = memories.forgotten
    purchases += forgotten[life]
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = np.where(purchases > 1, (latest - first) / (purchases - 1), np.nan)

    end = _count_before(log.kind != IMPRESSION)
    found = Observations(
        log=log,
        observed=_observed_dwell(log, gap, anew, config.session_gap, memories),
        since_event=np.where(anew, NONE, gap),
        since_item=since_item,
        since_purchase=np.where(purchases > 0, log.time - latest, NONE),
        interval=interval,
        history_start=np.maximum(end - config.history, end[life]),
        history_end=end,
        past=np.flatnonzero(log.kind != IMPRESSION),
        purchases=purchases,
        life=life,
        by_item=by_item,
    )
    if memories is not None:
        for name in ("since_event", "since_item", "since_purchase", "interval"):
            getattr(found, name)[memories.at] = getattr(memories, name)
    return found


def _count_before(flags: Flags) -> Ints:
    """`[n]` how many flags stand before each position."""
    return np.cumsum(flags, dtype=np.int64) - flags


def _forgotten(
    log: UserEvents, gap: Ints, retention: int, memories: RememberedUsers | None
) -> Flags | bool:
    """`[n]` whether the user was silent for longer than retention; memories never start anew."""
    if not retention:
        return False
    silent = gap > retention
    if memories is None:
        return silent
    last = np.full(len(log.users), NONE)
    last[log.user[memories.at]] = memories.at
    return silent & (np.arange(len(gap)) > last[log.user])


def _observed_dwell(
    log: UserEvents, gap: Ints, anew: Flags, session_gap: int, memories: RememberedUsers | None
) -> Ints:
    """`[n]` ms until the user's next event, where that is a dwell; else NONE."""
    waiting = ((log.kind == VIEW) | (log.kind == CLICK)) & (log.dwell == NONE)
    if memories is not None:
        waiting &= ~log.memory
        last = memories.at
        waiting[last] = np.isin(log.kind[last], (VIEW, CLICK)) & (log.dwell[last] == NONE)
    answers = ~anew & (gap <= session_gap) & ~log.memory  # of an event to the one before
    before, after = log.session[:-1], log.session[1:]
    agree = (before == after) | (before == NONE) | (after == NONE)
    observed = np.full(len(gap), NONE)
    known = np.flatnonzero(waiting[:-1] & answers[1:] & agree)
    observed[known] = gap[known + 1]
    return observed
