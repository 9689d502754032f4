"""Debezium: what happened to a row of a database; the row itself is the record.

A row that was created, read in a snapshot or corrected is a record (a corrected one
repeats its event_id, so that it counts once); one that was deleted is none.
"""

from collections.abc import Mapping

from pipelines.read.kafka.wire.outcome import Dropped, Node, WireError, as_value, is_null

__all__ = ["is_change", "is_deleted", "row"]

_ROW, _NO_ROW = ("c", "r", "u"), ("t", "m")


def is_change(fields: Mapping[str, Node]) -> bool:
    """Whether these are the fields of an envelope."""
    if "op" not in fields:
        return False
    if "after" in fields or "before" in fields:
        return True
    return "source" in fields and as_value(fields["op"]) in _NO_ROW


def row(fields: Mapping[str, Node]) -> Node | Dropped:
    """An envelope → the row after the change.

    Raises:
        WireError: there is none, or the operation is unknown.
    """
    operation = as_value(fields["op"])
    if operation == "d":
        return Dropped.DELETE
    if operation in _NO_ROW:
        return Dropped.NO_ROW
    if operation not in _ROW:
        raise WireError(f"op: got {operation!r}, expected c, r, u, d, t or m")
    after = fields.get("after")
    if is_null(after):
        raise WireError(f"after: null, but op is {operation}; expected the row")
    return after


def is_deleted(fields: Mapping[str, Node]) -> bool:
    """Whether a flattened row (`__deleted`, `__op`) says that it is gone."""
    gone = as_value(fields["__deleted"]) if "__deleted" in fields else None
    return gone is True or gone == "true" or ("__op" in fields and as_value(fields["__op"]) == "d")
