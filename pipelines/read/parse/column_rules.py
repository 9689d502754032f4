"""The rules of `pipelines.read.parse.event_rules` on whole columns.

Each function says which rows hold; why the others don't is for `rules` to say,
which looks at those rows alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.parse.event_rules import (
    EARLIEST_MS,
    MAX_AHEAD_MS,
    NOT_SET,
    UNKNOWN_DWELL,
    Event,
)
from pipelines.schema import EVENT_TYPES, EVENTS, MAX_CONTEXT_ENTRIES, MAX_DWELL_MS, MAX_ID_BYTES

__all__ = [
    "CODED_EVENTS",
    "Columns",
    "assemble",
    "bools_of",
    "from_events",
    "join",
    "known",
    "parse_times",
    "whole_numbers",
]

_TYPES = pa.array(EVENT_TYPES)
_CODED = pa.dictionary(pa.int32(), pa.string())

CODED_EVENTS = pa.schema(
    [
        f.with_type(_CODED) if f.name in {"user_id", "item_id", "event_type", "platform"} else f
        for f in EVENTS
    ]
)
"""EVENTS as it travels inside the job; the dictionary of event_type is EVENT_TYPES, in order."""

_FIRST_YEAR, _LAST_YEAR = 1989, 2399
_MONTHS = np.arange(f"{_FIRST_YEAR}-01", f"{_LAST_YEAR + 1}-02", dtype="datetime64[M]").astype(
    "datetime64[D]"
)
_MONTH_START_DAY = _MONTHS[:-1].astype(np.int64)
_MONTH_DAYS = np.diff(_MONTHS).astype(np.int64)


@dataclass(frozen=True)
class Columns:
    """Columns of possible events, all `[rows]`, and which rows are still thought valid."""

    event_id: pa.Array  # string, as the next four
    user_id: pa.Array
    item_id: pa.Array
    event_type: pa.Array
    time_ms: np.ndarray  # int64
    dwell_ms: pa.Array  # int64
    value: pa.Array  # float64
    session_id: pa.Array  # string
    platform: pa.Array  # string
    context: pa.Array  # map<string, string>
    ok: np.ndarray  # bool


def from_events(events: Sequence[Event]) -> Columns:
    """Events that are known to be valid → their columns."""
    given: dict[str, Any] = dict(zip(EVENTS.names, zip(*events, strict=True), strict=True))
    context = [None if c is None else list(c.items()) for c in given.pop("context")]
    times = np.array(given.pop("event_time"), np.int64)
    arrays = {name: pa.array(values, EVENTS.field(name).type) for name, values in given.items()}
    arrays["context"] = pa.array(context, EVENTS.field("context").type)
    return Columns(time_ms=times, ok=np.ones(len(events), bool), **arrays)


def join(first: Columns, second: Columns) -> Columns:
    """The rows of both; their columns are of the same types."""
    joined: dict[str, Any] = {}
    for name, left in vars(first).items():
        right = getattr(second, name)
        if isinstance(left, np.ndarray):
            joined[name] = np.concatenate([left, right])
        else:
            joined[name] = pa.concat_arrays([left, right])
    return Columns(**joined)


_NOTHING = pa.array(["", NOT_SET])


def known(columns: Columns) -> tuple[Columns, np.ndarray]:
    """Null where an optional value says that it is none; int `[rows]`: how many of a row did."""
    counts = np.zeros(len(columns.ok), np.int64)
    found: dict[str, pa.Array] = {}
    for name, unknown in (
        ("dwell_ms", _is_number(columns.dwell_ms, UNKNOWN_DWELL)),
        ("value", _is_number(columns.value, None)),
        ("session_id", _says_nothing(columns.session_id)),
        ("platform", _says_nothing(columns.platform)),
    ):
        if unknown is not None and unknown.any():
            column = getattr(columns, name)
            found[name] = pc.if_else(pa.array(unknown), pa.scalar(None, column.type), column)
            counts += unknown
    return replace(columns, **found) if found else columns, counts


def _is_number(column: pa.Array, number: int | None) -> np.ndarray | None:
    """Which rows hold the number; None for NaN. No array where none does."""
    if column.null_count == len(column):
        return None
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    return np.isnan(values) if number is None else values == number


def _says_nothing(column: pa.Array) -> np.ndarray | None:
    if column.null_count == len(column):
        return None
    if pa.types.is_dictionary(column.type):
        empty = np.append(bools_of(pc.is_in(column.dictionary, value_set=_NOTHING)), False)
        if not empty.any():
            return None
        return np.asarray(empty[column.indices.fill_null(len(empty) - 1).to_numpy()])
    return bools_of(pc.is_in(column, value_set=_NOTHING))


def assemble(columns: Columns, now_ms: int) -> tuple[pa.RecordBatch, np.ndarray]:
    """Columns → (events of schema CODED_EVENTS, bool `[rows]`: which rows they are).

    Columns may come dictionary-encoded or plain; a row that breaks a rule is left out.
    """
    codes = pc.index_in(_written(columns.event_type), value_set=_TYPES)
    ok = columns.ok & bools_of(codes.is_valid())
    for ids in (columns.event_id, columns.user_id, columns.item_id):
        ok &= _good_ids(ids)
    ok &= (columns.time_ms >= EARLIEST_MS) & (columns.time_ms <= now_ms + MAX_AHEAD_MS)
    ok &= _in_range(columns.dwell_ms) & _finite(columns.value) & _small(columns.context)
    arrays = [
        columns.event_id,
        columns.user_id,
        columns.item_id,
        pa.DictionaryArray.from_arrays(codes, _TYPES),
        pa.array(columns.time_ms).view(EVENTS.field("event_time").type),
        columns.dwell_ms,
        columns.value,
        columns.session_id,
        columns.platform,
        columns.context,
    ]
    if not ok.all():
        kept = pa.array(ok)
        arrays = [array.filter(kept) for array in arrays]
    arrays = [_as(array, f.type) for array, f in zip(arrays, CODED_EVENTS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=CODED_EVENTS), ok


def _as(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    return array.dictionary_encode() if kind == _CODED else array.cast(kind)


def _written(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def bools_of(array: pa.Array) -> np.ndarray:
    """A boolean column without nulls → numpy."""
    return array.to_numpy(zero_copy_only=False)


def _string_parts(array: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """A string column → (its offsets, int32 `[rows + 1]`; all its bytes, uint8), not copied."""
    _, offsets, data = array.buffers()
    first = array.offset
    spans = np.frombuffer(offsets, np.int32)[first : first + len(array) + 1]
    text = np.frombuffer(data, np.uint8) if data is not None and data.size else _NO_BYTES
    return spans, text


_NO_BYTES = np.empty(0, np.uint8)


def _good_ids(array: pa.Array) -> np.ndarray:
    """Bool `[rows]`: present, 1 to 256 bytes of UTF-8, no NUL."""
    if pa.types.is_dictionary(array.type):
        good = np.append(_good_ids(array.dictionary), False)  # the last one stands for null
        return good[array.indices.fill_null(len(good) - 1).to_numpy(zero_copy_only=False)]
    spans, text = _string_parts(array) if len(array) else (np.zeros(1, np.int32), _NO_BYTES)
    sizes = np.diff(spans)
    good = (sizes > 0) & (sizes <= MAX_ID_BYTES)
    if array.null_count:
        good &= bools_of(array.is_valid())
    if len(array) and not text[spans[0] : spans[-1]].all():
        good &= ~bools_of(pc.match_substring(array, "\0").fill_null(True))
    return good


def _in_range(dwell_ms: pa.Array) -> np.ndarray:
    if dwell_ms.null_count == len(dwell_ms):
        return np.ones(len(dwell_ms), bool)
    known = dwell_ms.fill_null(0).to_numpy()
    return (known >= 0) & (known <= MAX_DWELL_MS)


def _finite(value: pa.Array) -> np.ndarray:
    if value.null_count == len(value):
        return np.ones(len(value), bool)
    return np.isfinite(value.fill_null(0).to_numpy())


def whole_numbers(numbers: pa.DoubleArray) -> tuple[pa.Int64Array, np.ndarray]:
    """Numbers → (believable dwells, int64; bool `[rows]`: null, or a whole number among those).

    NaN becomes -1, which stays: `known` counts both.
    """
    there = bools_of(numbers.is_valid())
    values = numbers.fill_null(0.0).to_numpy()
    values = np.where(np.isnan(values), UNKNOWN_DWELL, values)
    good = (values >= 0) & (values <= MAX_DWELL_MS) & (values == np.floor(values))
    good |= values == UNKNOWN_DWELL
    return pa.array(np.where(good, values, 0).astype(np.int64), mask=~there), good


def _small(context: pa.Array) -> np.ndarray:
    """Bool `[rows]`: at most 32 entries, none of them without a key."""
    if context.null_count == len(context):
        return np.ones(len(context), bool)
    spans = np.frombuffer(context.buffers()[1], np.int32)
    spans = spans[context.offset : context.offset + len(context) + 1]
    return (np.diff(spans) <= MAX_CONTEXT_ENTRIES) | ~bools_of(context.is_valid())


def parse_times(texts: pa.StringArray) -> tuple[np.ndarray, np.ndarray]:
    """RFC 3339 texts → (epoch milliseconds, int64 `[rows]`; bool `[rows]`: understood).

    Understands `YYYY-MM-DDThh:mm:ss[.fraction](Z|±hh:mm)` from 1989 to 2399, laid out as
    most rows of its length are; rarer forms are left to `rules.parse_time`.
    """
    millis, ok = np.zeros(len(texts), np.int64), np.zeros(len(texts), bool)
    if not len(texts):
        return millis, ok
    spans, text = _string_parts(texts)
    sizes = np.diff(spans)
    shortest, longest = int(sizes.min()), int(sizes.max())
    if shortest == longest:
        lengths = [longest]
    else:
        lengths = [int(n) for n in np.flatnonzero(np.bincount(np.minimum(sizes, 64)))]
    for length in lengths:
        if not 20 <= length <= 48:
            continue
        rows = slice(None) if shortest == longest else np.flatnonzero(sizes == length)
        starts = spans[:-1][rows]
        if shortest == longest:
            grid = text[spans[0] : spans[-1]].reshape(-1, length)
        else:
            grid = text[starts[:, None] + np.arange(length, dtype=np.int32)]
        millis[rows], ok[rows] = _times_of_length(np.ascontiguousarray(grid.T))
    return millis, ok & bools_of(texts.is_valid())


def _times_of_length(grid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Characters, uint8 `[length, rows]` → (milliseconds, understood)."""
    length, zone = len(grid), 1 if grid[-1, 0] == ord("Z") else 6
    fraction = length - zone - 20  # digits after the dot; -1: no dot
    if fraction == 0 or fraction < -1:
        return np.zeros(grid.shape[1], np.int64), np.zeros(grid.shape[1], bool)
    marks = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":"}
    marks |= {19: "."} if fraction > 0 else {}
    marks |= {length - 1: "Z"} if zone == 1 else {length - 3: ":"}
    sign = length - 6 if zone == 6 else -1
    ok = np.ones(grid.shape[1], bool)
    for place, mark in marks.items():
        ok &= grid[place] == ord(mark)
    for place in range(length):
        if place not in marks and place != sign:
            ok &= (grid[place] - np.uint8(ord("0"))) <= 9  # wraps below "0"
    year, month, day = _number(grid, 0, 4), _number(grid, 5, 2), _number(grid, 8, 2)
    hour, minute, second = _number(grid, 11, 2), _number(grid, 14, 2), _number(grid, 17, 2)
    ok &= (year >= _FIRST_YEAR) & (year <= _LAST_YEAR) & (month >= 1) & (month <= 12)
    ok &= (hour < 24) & (minute < 60) & (second < 60)
    at = np.where(ok, (year - _FIRST_YEAR) * 12 + month - 1, 0)
    ok &= (day >= 1) & (day <= _MONTH_DAYS[at])
    seconds = (hour * 60 + minute) * 60 + second
    if zone == 6:
        hours, minutes = _number(grid, sign + 1, 2), _number(grid, sign + 4, 2)
        behind = grid[sign] == ord("-")
        ok &= (behind | (grid[sign] == ord("+"))) & (hours < 24) & (minutes < 60)
        seconds = seconds + np.where(behind, 60, -60) * (hours * 60 + minutes)
    millis = ((_MONTH_START_DAY[at] + day - 1) * 86_400 + seconds) * 1_000
    if fraction > 0:
        digits = min(fraction, 3)
        millis += _number(grid, 20, digits) * 10 ** (3 - digits)
    return millis, ok


def _number(grid: np.ndarray, place: int, digits: int) -> np.ndarray:
    total = np.zeros(grid.shape[1], np.int32)
    for row in grid[place : place + digits]:
        total = total * 10 + (row.astype(np.int32) - ord("0"))
    return total
