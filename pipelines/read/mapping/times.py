"""Columns of any type as epoch milliseconds: the unit or the format, and the zone, are stated."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.numbers import as_number
from pipelines.read.mapping.spec import Value
from pipelines.read.mapping.texts import as_text, is_text, put
from pipelines.read.parse.column_rules import parse_times
from pipelines.read.parse.event_rules import parse_time

__all__ = ["as_time", "expected_time"]

_PER_MS = {"s": 1e-3, "ms": 1.0, "us": 1e3, "ns": 1e6}
_MAGNITUDE = 1e11  # seconds below it reach the year 5138, milliseconds from it begin in 1973
_HUGE = 1e30  # of any unit: no instant, and arithmetic with it may overflow
_FARTHEST = 1e15  # milliseconds: beyond, no time
_TICKS = {"s": 1_000, "ms": 1, "us": 1_000, "ns": 1_000_000}


def as_time(array: pa.Array, value: Value) -> tuple[pa.Int64Array, np.ndarray]:
    """`[n]` of any type → (epoch milliseconds; bool `[n]`: there was something, and it is no time).

    Raises:
        ValueError: the column has a timestamp without zone, and the mapping states none.
    """
    array = put(array)
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _of_timestamps(array, value)
    if value.unit is not None:
        return _of_numbers(array, value)
    if pa.types.is_null(array.type):
        return array.cast(pa.int64()), np.zeros(len(array), bool)
    return _of_texts(array, value)


def _of_timestamps(array: pa.Array, value: Value) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_date(array.type):
        array = array.cast(pa.timestamp("ms"))
    if array.type.tz is None:
        if value.zone is None:
            raise ValueError(
                f'is {array.type} without a zone: state it, as zone = "UTC" or "Asia/Shanghai"'
            )
        array = _zoned(array, value.zone)
    kind = array.type
    ticks = array.cast(pa.int64())
    known = ticks.fill_null(0).to_numpy()
    millis = known * 1_000 if kind.unit == "s" else np.floor_divide(known, _TICKS[kind.unit])
    return pa.array(millis, mask=_gone(array)), np.zeros(len(array), bool)


def _gone(array: pa.Array) -> np.ndarray:
    return array.is_null().to_numpy(zero_copy_only=False)


def _zoned(array: pa.Array, zone: str) -> pa.Array:
    if zone == "UTC":
        return array.cast(pa.timestamp(array.type.unit, "UTC"))
    return pc.assume_timezone(array, zone, ambiguous="earliest", nonexistent="earliest")


def _of_numbers(array: pa.Array, value: Value) -> tuple[pa.Array, np.ndarray]:
    exact = _whole_numbers(array)
    if exact is not None and value.unit != "s|ms":
        return _scaled(exact, value.unit or "ms"), np.zeros(len(array), bool)
    numbers, bad = as_number(array, value)
    gone = _gone(numbers)
    known = numbers.fill_null(0).to_numpy()
    huge = ~(np.abs(known) < _HUGE)
    known = np.where(huge, 0.0, known)
    if value.unit == "s|ms":
        millis = np.where(np.abs(known) < _MAGNITUDE, known * 1e3, known)
    else:
        millis = known / _PER_MS[value.unit or "ms"]
    far = huge | ~(np.abs(millis) < _FARTHEST)
    whole = np.floor(np.where(far, 0, np.round(millis, 3))).astype(np.int64)
    return pa.array(whole, mask=gone | far), bad | (far & ~gone)


def _whole_numbers(array: pa.Array) -> pa.Array | None:
    """The column as int64, where it is one or text of one: floats would round microseconds."""
    try:
        if pa.types.is_integer(array.type) or is_text(array.type):
            return array.cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    return None


def _scaled(numbers: pa.Array, unit: str) -> pa.Array:
    known = numbers.fill_null(0).to_numpy()
    if unit == "s":
        millis = np.clip(known, -(1 << 50), 1 << 50) * 1_000
    else:
        millis = np.floor_divide(known, int(_PER_MS[unit]))
    return pa.array(millis, mask=_gone(numbers))


def _of_texts(array: pa.Array, value: Value) -> tuple[pa.Array, np.ndarray]:
    texts = pc.utf8_trim_whitespace(as_text(array))
    millis = pa.nulls(len(array), pa.int64())
    for pattern in value.format or ("iso",):
        left = pc.if_else(millis.is_null(), texts, pa.scalar(None, pa.string()))
        parse = _of_iso(left, value) if pattern == "iso" else _of_pattern(left, pattern, value)
        millis = pc.coalesce(millis, parse)
        if not millis.null_count:
            break
    bad = pc.and_(array.is_valid(), millis.is_null()).to_numpy(zero_copy_only=False)
    return millis, bad


def _of_iso(texts: pa.Array, value: Value) -> pa.Array:
    """ISO 8601 in its usual forms; a text without offset only if a zone is stated."""
    known = texts.fill_null("")
    millis, ok = parse_times(known)
    if not ok.all():
        millis, ok = millis.copy(), ok.copy()
        rows = np.flatnonzero(~ok & texts.is_valid().to_numpy(zero_copy_only=False))
        for form in (_with_offset, _without_offset):
            if len(rows):
                left = form(known.take(pa.array(rows)), value)
                found = left.is_valid().to_numpy(zero_copy_only=False)
                millis[rows[found]] = left.drop_null().to_numpy()
                ok[rows[found]] = True
                rows = rows[~found]
    return pa.array(millis, mask=~ok)


def _with_offset(texts: pa.Array, value: Value) -> pa.Array:
    """`2025-01-31 12:00:00 UTC`, `…+0000`, `…+05`, `t` and `z`, spaces for T."""
    del value
    plain = pc.replace_substring_regex(texts, r"\s*(UTC|GMT|z)$", "Z")
    plain = pc.replace_substring_regex(plain, r"([+-]\d\d)(\d\d)$", r"\1:\2")
    plain = pc.replace_substring_regex(plain, r"(:\d\d(\.\d+)?)\s*([+-]\d\d)$", r"\1\3:00")
    plain = pc.replace_substring_regex(plain, r"^(\d{4}-\d\d-\d\d)[ t]", r"\1T")
    plain = pc.replace_substring_regex(plain, r"^(\S+)\s+([+-]\d\d:\d\d)$", r"\1\2")
    return _strict(plain)


def _strict(texts: pa.Array) -> pa.Array:
    millis, ok = parse_times(texts)
    left = np.flatnonzero(~ok)
    for row, text in zip(left, texts.take(pa.array(left)).to_pylist(), strict=True):
        found = parse_time(text)
        if found is not None:
            millis[row], ok[row] = found, True
    return pa.array(millis, mask=~ok)


def _without_offset(texts: pa.Array, value: Value) -> pa.Array:
    """`2025-01-31[T12:00[:00.000]]` in the stated zone."""
    if value.zone is None:
        return pa.nulls(len(texts), pa.int64())
    plain = pc.replace_substring_regex(texts, r"^(\d{4}-\d\d-\d\d)$", r"\1T00:00:00")
    plain = pc.replace_substring_regex(plain, r"^(\d{4}-\d\d-\d\d)[ tT]+", r"\1T")
    plain = pc.replace_substring_regex(plain, r"T(\d\d:\d\d)$", r"T\1:00")
    wall = _strict(pc.binary_join_element_wise(plain, pa.scalar("Z"), pa.scalar("")))
    return _local(wall, value.zone)


def _local(wall_ms: pa.Array, zone: str) -> pa.Array:
    """Milliseconds of a wall clock → of the epoch."""
    if zone == "UTC":
        return wall_ms
    return _zoned(wall_ms.cast(pa.timestamp("ms")), zone).cast(pa.int64())


def _of_pattern(texts: pa.Array, pattern: str, value: Value) -> pa.Array:
    """By a format of strptime; `%f` at its end stands for the digits after the dot."""
    extra = pa.scalar(0, pa.int64())
    if pattern.endswith(".%f"):
        pattern = pattern.removesuffix(".%f")
        parts = pc.extract_regex(texts, r"^(?P<whole>.*)\.(?P<part>[0-9]+)$")
        texts = pc.struct_field(parts, "whole")
        digits = pc.utf8_rpad(pc.utf8_slice_codeunits(pc.struct_field(parts, "part"), 0, 3), 3, "0")
        extra = digits.cast(pa.int64())
    stamps = pc.strptime(texts, pattern, "s", error_is_null=True)
    millis = pc.multiply(stamps.cast(pa.int64()), 1_000)
    return _local(pc.add(millis, extra), value.zone or "UTC")


def expected_time(value: Value) -> str:
    """What the message about a value that is none says was expected."""
    if value.unit is not None:
        words = {"s|ms": "epoch seconds or milliseconds", "s": "epoch seconds"}
        return words.get(value.unit, f"epoch time in {value.unit}")
    told = " or ".join(value.format or ("iso",))
    zone = f" in {value.zone}" if value.zone else " with an offset (or state a zone)"
    return told.replace("iso", "ISO 8601") + zone
