"""What an event has to be, one record at a time: the reference for the fast paths.

Faults are looked for in a fixed order (JSON, missing fields, types, values,
time), so that a record with several has one reason.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from pipelines.schema import EVENT_TYPES, EVENTS, MAX_CONTEXT_ENTRIES, MAX_DWELL_MS, MAX_ID_BYTES

__all__ = [
    "EARLIEST_MS",
    "FIELDS",
    "MAX_AHEAD_MS",
    "MAX_LINE_BYTES",
    "NOT_SET",
    "REQUIRED",
    "UNKNOWN_DWELL",
    "Event",
    "Fault",
    "check",
    "excerpt",
    "extra_fields",
    "id_problem",
    "known",
    "load_line",
    "parse_line",
    "parse_time",
    "read_line",
]

FIELDS = tuple(EVENTS.names)
REQUIRED = ("event_id", "user_id", "item_id", "event_type", "event_time")
TEXTS = ("event_id", "user_id", "item_id", "event_type", "session_id", "platform")
IDS = ("event_id", "user_id", "item_id")
_OPTIONAL = ("dwell_ms", "value", "session_id", "platform")

MAX_LINE_BYTES = 1 << 20
"""Longest line that is parsed: a hundred times the longest sensible event."""

MAX_DEPTH = 64
"""Deepest nesting of a line; said here so that it does not depend on Python's stack."""

EARLIEST_MS = 631_152_000_000
"""1990-01-01T00:00:00Z: an earlier event has a broken clock."""

MAX_AHEAD_MS = 86_400_000
"""A day: how far an event may lie ahead of the reader's clock."""

NOT_SET = "(not set)"
"""What web analytics write where there is no value."""

UNKNOWN_DWELL = -1
"""What players and pages write where nobody looked at the clock."""

_KNOWN = frozenset(FIELDS)
_TYPES = frozenset(EVENT_TYPES)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]+))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
# The closing quote is optional: a search that fails at each quote would be quadratic.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
_decode = msgspec.json.Decoder().decode


class Fault(NamedTuple):
    """Why a record is a dead letter."""

    reason: str  # one of DEAD_REASONS
    detail: str  # which field, what was received, what was expected


class Event(NamedTuple):
    """A valid record, in the order of the schema EVENTS; times in epoch milliseconds."""

    event_id: str
    user_id: str
    item_id: str
    event_type: str
    event_time: int
    dwell_ms: int | None
    value: float | None
    session_id: str | None
    platform: str | None
    context: dict[str, str] | None  # an entry that was null is left out


class _FaultError(Exception):
    """Carries a fault out of the checks of one field."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(reason, detail)


def parse_line(line: bytes, now_ms: int) -> tuple[Event, int] | Fault:
    """One JSON line → the event and how many extra fields it had, or its fault.

    Args:
        line: the bytes of the line; a line end is allowed.
        now_ms: the reader's clock, epoch milliseconds.
    """
    result = read_line(line, now_ms)
    return result if isinstance(result, Fault) else result[:2]


def read_line(line: bytes, now_ms: int) -> tuple[Event, int, int] | Fault:
    """As `parse_line`, and how many values of the event were written and are unknown."""
    if len(line) > MAX_LINE_BYTES:
        return Fault("too_large", f"line: over {MAX_LINE_BYTES} bytes, which is the limit")
    record, fault = load_line(line)
    if fault is not None:
        return fault
    result = check(record, now_ms)
    if isinstance(result, Fault):
        return result
    return result, extra_fields(record), known(record)[1]


def known(record: Mapping[str, Any]) -> tuple[Mapping[str, Any], int]:
    """A record with null where an optional value says that it is none, and how many those were.

    That is `(not set)` in any optional field, NaN in a number, a dwell of -1, and an empty
    session_id or platform. What identifies an event has to be there.

    >>> known({"dwell_ms": -1, "value": 3.5, "platform": "(not set)"})
    ({'dwell_ms': None, 'value': 3.5, 'platform': None}, 2)
    """
    unknown = {name: None for name in _OPTIONAL if _is_unknown(name, record.get(name))}
    return ({**record, **unknown} if unknown else record), len(unknown)


def _is_unknown(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return value == NOT_SET or (not value and name in TEXTS)
    if name in TEXTS or isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name == "dwell_ms" and value == UNKNOWN_DWELL:
        return True
    return isinstance(value, float) and math.isnan(value)


def extra_fields(record: Mapping[str, Any]) -> int:
    """How many fields no column is for."""
    return len(record.keys() - _KNOWN)


def load_line(line: bytes) -> tuple[dict[str, Any], Fault | None]:
    """A line → its fields, or why it is no JSON object."""
    if _too_deep(line):
        return {}, Fault("bad_json", f"line: nested deeper than {MAX_DEPTH} levels")
    try:
        record = _decode(line)
    except UnicodeDecodeError as error:
        return {}, Fault("bad_json", f"line: not UTF-8 at byte {error.start}")
    except (msgspec.DecodeError, RecursionError) as error:
        return _salvage(line, str(error))
    if not isinstance(record, dict):
        return {}, Fault("bad_json", f"line: got {excerpt(record)}, expected an object")
    return record, None


def _salvage(line: bytes, complaint: str) -> tuple[dict[str, Any], Fault | None]:
    """Read NaN, Infinity and numbers beyond float64, to blame the field and not the line."""
    constants: list[str] = []

    def constant(word: str) -> float:
        constants.append(word)
        return float(word)

    try:
        record = json.loads(line, parse_constant=constant, parse_int=_int)
        json.dumps(record, ensure_ascii=False).encode()  # lone surrogates are no text
    except (ValueError, RecursionError):
        return {}, Fault("bad_json", f"line: {complaint}")
    if not isinstance(record, dict) or not (constants or "out of range" in complaint):
        return {}, Fault("bad_json", f"line: {complaint}")
    if constants and not any(_is_odd(record.get(name)) for name in FIELDS):
        return {}, Fault("bad_value", f"line: {constants[0]} is not a JSON number")
    return record, None


def _int(digits: str) -> int | float:
    return int(digits) if len(digits) <= 400 else float(digits)


def _is_odd(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _too_deep(line: bytes) -> bool:
    if line.count(b"[") + line.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _BRACKETS.finditer(line):
        first = match.group()[0]
        if first in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def check(record: Mapping[str, Any], now_ms: int) -> Event | Fault:
    """A record's fields → the event, or the first fault.

    Args:
        record: field name → value as JSON has it; event_time RFC 3339 text or epoch milliseconds.
        now_ms: the reader's clock, epoch milliseconds.
    """
    record, _ = known(record)
    try:
        for name in REQUIRED:
            if record.get(name) is None:
                state = "null" if name in record else "missing"
                raise _FaultError("missing_field", f"{name}: {state}, but required")
        _check_types(record)
        _check_values(record)
        event_time = _check_time(record["event_time"], now_ms)
    except _FaultError as error:
        return error.fault
    dwell, value, context = record.get("dwell_ms"), record.get("value"), record.get("context")
    return Event(
        record["event_id"],
        record["user_id"],
        record["item_id"],
        record["event_type"],
        event_time,
        None if dwell is None else int(dwell),
        None if value is None else float(value),
        record.get("session_id"),
        record.get("platform"),
        None if context is None else {k: v for k, v in context.items() if v is not None},
    )


def _check_types(record: Mapping[str, Any]) -> None:
    for name in TEXTS:
        value = record.get(name)
        if value is not None and not isinstance(value, str):
            raise _FaultError("bad_type", f"{name}: got {excerpt(value)}, expected text")
    time = record["event_time"]
    if isinstance(time, bool) or not isinstance(time, str | int):
        raise _FaultError(
            "bad_type",
            f"event_time: got {excerpt(time)}, expected RFC 3339 text or integer"
            " epoch milliseconds",
        )
    for name in ("dwell_ms", "value"):
        value = record.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _FaultError("bad_type", f"{name}: got {excerpt(value)}, expected a number")
    dwell = record.get("dwell_ms")
    if isinstance(dwell, float) and math.isfinite(dwell) and dwell != int(dwell):
        raise _FaultError("bad_type", f"dwell_ms: got {dwell!r}, expected a whole number")
    context = record.get("context")
    if context is not None and not isinstance(context, dict):
        raise _FaultError(
            "bad_type", f"context: got {excerpt(context)}, expected an object of texts"
        )
    for key, value in (context or {}).items():
        if value is not None and not isinstance(value, str):
            raise _FaultError(
                "bad_type", f"context.{_cut(key)}: got {excerpt(value)}, expected text"
            )


def _check_values(record: Mapping[str, Any]) -> None:
    for name in IDS:
        problem = id_problem(record[name])
        if problem:
            raise _FaultError("bad_value", f"{name}: {problem}")
    if record["event_type"] not in _TYPES:
        raise _FaultError(
            "bad_value",
            f"event_type: got {excerpt(record['event_type'])}, expected {', '.join(EVENT_TYPES)}",
        )
    dwell = record.get("dwell_ms")
    if dwell is not None and not 0 <= dwell <= MAX_DWELL_MS:
        raise _FaultError(
            "bad_value", f"dwell_ms: got {excerpt(dwell)}, expected 0 to {MAX_DWELL_MS}"
        )
    value = record.get("value")
    if value is not None and not _is_finite(value):
        raise _FaultError("bad_value", f"value: got {excerpt(value)}, expected a finite number")
    entries = sum(text is not None for text in (record.get("context") or {}).values())
    if entries > MAX_CONTEXT_ENTRIES:
        raise _FaultError("bad_value", f"context: {entries} entries, expected at most 32")


def id_problem(value: str) -> str | None:
    """Why a text cannot be an id; None if it can."""
    size = len(value.encode())
    if size == 0:
        return f"empty, expected 1 to {MAX_ID_BYTES} bytes"
    if size > MAX_ID_BYTES:
        return f"{size} bytes, expected at most {MAX_ID_BYTES}"
    if "\0" in value:
        return f"got {excerpt(value)}, expected no NUL byte"
    return None


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:  # an integer beyond float64
        return False


def _check_time(value: str | int, now_ms: int) -> int:
    time = parse_time(value) if isinstance(value, str) else value
    if time is None:
        raise _FaultError(
            "bad_time",
            f"event_time: got {excerpt(value)}, expected RFC 3339 with an offset,"
            " such as 2025-01-31T12:00:00Z",
        )
    if time < EARLIEST_MS:
        raise _FaultError("bad_time", f"event_time: got {excerpt(value)}, expected 1990 or later")
    if time > now_ms + MAX_AHEAD_MS:
        raise _FaultError(
            "bad_time",
            f"event_time: got {excerpt(value)}, expected at most a day after {_iso(now_ms)}",
        )
    return time


def parse_time(text: str) -> int | None:
    """RFC 3339 with an offset → epoch milliseconds, finer parts floored; None: not one.

    >>> parse_time("1970-01-01T01:00:00.0019+01:00"), parse_time("1970-01-01T00:00:00")
    (1, None)
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    *parts, fraction, sign, hours, minutes = match.groups()
    try:
        year, month, day, hour, minute, second = (int(part) for part in parts)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    offset = int(hours or 0) * 60 + int(minutes or 0)
    if int(hours or 0) > 23 or int(minutes or 0) > 59:
        return None
    offset_ms = offset * 60_000 * (-1 if sign == "-" else 1)
    millis = int((fraction or "")[:3].ljust(3, "0"))
    return (moment - _EPOCH) // _MS + millis - offset_ms


def _iso(now_ms: int) -> str:
    return (_EPOCH + timedelta(milliseconds=now_ms)).isoformat(timespec="seconds")


def excerpt(value: Any) -> str:
    """A received value as a message shows it."""
    return _cut(repr(value)) if not isinstance(value, dict | list) else f"a {type(value).__name__}"


def _cut(text: str, limit: int = 80) -> str:
    """At most `limit` characters, in printable UTF-8."""
    text = text if len(text) <= limit else text[:limit] + "…"
    return text.encode("unicode_escape").decode() if not text.isprintable() else text
