"""The order of events within users, and which of two equal messages counts.

User order is (user, event_time, event_id by its bytes). An event that comes
again with the same id, user and instant is a repeat; of several, the smallest
by content stays, so that what stays does not depend on arrival.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.arrow.columns import Codes, Ints, as_int64, encode_column, order_by, run_starts

__all__ = ["user_order"]


def user_order(events: pa.RecordBatch, user: Codes, remembered: int = 0) -> Ints:
    """Rows of EVENTS `[n]` in user order, repeats left out.

    Args:
        events: what to put in order.
        user: `[n]` codes of user_id.
        remembered: so many rows at the beginning are memories: they come before new events
            of the same instant, as they stand.
    """
    time = as_int64(events.column("event_time"))
    since = time - time.min(initial=0) if len(time) else time
    order = order_by(user, since)  # stable: memories, which come first, stay first
    tied = ~run_starts(user[order], since[order])
    if not tied.any():
        return order
    members = np.flatnonzero(tied | np.append(tied[1:], False))
    run = np.cumsum(~tied)[members]
    new = order[members] >= remembered
    members, run = members[new], run[new]
    if not len(members):
        return order
    ids, _ = encode_column(events.column("event_id").take(pa.array(order[members])), ordered=True)
    ranked = order_by(run, ids)  # few ids are ever compared
    order[members] = order[members][ranked]
    repeated = ~run_starts(run[ranked], ids[ranked])
    if not repeated.any():
        return order
    return _without(order, members, repeated, events)


def _without(order: Ints, members: Ints, repeated: npt.NDArray[np.bool_], events: Any) -> Ints:
    """`order` without its `members` that are `repeated`; the smallest content comes first."""
    some = repeated | np.append(repeated[1:], False)
    group = np.cumsum(~repeated)[some]
    rows = order[members[some]]
    order[members[some]] = rows[_content_order(events.take(pa.array(rows)), group)]
    return np.delete(order, members[repeated])


def _content_order(events: pa.RecordBatch, group: Ints) -> Ints:
    """Rows `[n]` by group, then by the rest of their content; null comes before any value."""
    keys = [group]
    for name in ("item_id", "event_type", "dwell_ms", "value", "session_id", "platform"):
        keys.append(_rank(events.column(name)))
    order = order_by(*keys)
    tied = np.flatnonzero(~run_starts(*(key[order] for key in keys)))
    context = events.column("context")
    one, other = (context.take(pa.array(order[at])) for at in (tied - 1, tied))
    if one.equals(other):
        return order  # the usual repeat: the same to the last byte
    pairs = [
        None if row is None else [(k, v is not None, v) for k, v in row]
        for row in context.to_pylist()
    ]
    places = sorted({tuple(p) for p in pairs if p is not None})
    rank = {place: i + 1 for i, place in enumerate(places)}
    return order_by(*keys, np.array([0 if p is None else rank[tuple(p)] for p in pairs]))


def _rank(column: pa.Array) -> npt.NDArray[Any]:
    """`[n]` integers ≥ 0 in the order of the values; null is 0."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_dictionary(kind):
        return encode_column(column, ordered=True)[0] + 1
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    rank = np.unique(values, return_inverse=True)[1] + 1
    rank[column.is_null().to_numpy(zero_copy_only=False)] = 0
    return rank
