"""A batch of Parquet rows → events and dead letters."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.arrow.ipc import concat
from pipelines.read.parse.column_rules import (
    CODED_EVENTS,
    Columns,
    assemble,
    bools_of,
    from_events,
    known,
    parse_times,
    whole_numbers,
)
from pipelines.read.parse.event_rules import FIELDS, Event, check
from pipelines.read.parse.parsed import Parsed, dead_letters
from pipelines.schema import CONTEXT

__all__ = ["column_problem", "is_text", "parse_rows", "rows_schema", "times"]

_TEXTS = ("event_id", "user_id", "item_id", "event_type", "session_id", "platform")
_NEVER = -(1 << 62)  # milliseconds: a time that is refused
_UNIT_PER_MS = {"ms": 1, "us": 1_000, "ns": 1_000_000}


def rows_schema(schema: pa.Schema, *, source: str, position: int, extra: int) -> pa.Schema:
    """A schema whose metadata say where its rows come from.

    Args:
        schema: of the rows.
        source: file, or topic/partition.
        position: of the first row, from 0.
        extra: how many more columns the source has.
    """
    return schema.with_metadata({"source": source, "position": str(position), "extra": str(extra)})


def column_problem(name: str, kind: pa.DataType) -> str | None:
    """Why no value of this type could stand in the column; None if one could."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_null(kind):
        return None
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    if name in _TEXTS:
        good, want = is_text(kind), "text"
    elif name == "event_time":
        good = pa.types.is_timestamp(kind) or kind in (pa.int64(), pa.uint64()) or is_text(kind)
        want = "a timestamp, int64 epoch milliseconds or RFC 3339 text"
    elif name == "context":
        good, want = _is_context(kind), "a map or struct of texts"
    else:
        good, want = number, "a number"
    return None if good else f"column {name} is {kind}, expected {want}; cast it"


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds text, in any of Arrow's layouts."""
    return any(
        is_kind(kind)
        for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _is_context(kind: pa.DataType) -> bool:
    if pa.types.is_map(kind):
        return is_text(kind.key_type) and (is_text(kind.item_type) or kind.item_type == pa.null())
    if pa.types.is_struct(kind):
        return all(is_text(f.type) or pa.types.is_null(f.type) for f in kind)
    return False


def parse_rows(batch: pa.RecordBatch, now_ms: int) -> Parsed:
    """Parquet rows → events, in no particular order, and dead letters.

    Args:
        batch: some of the columns of an event, with metadata of `rows_schema`.
        now_ms: the reader's clock, epoch milliseconds.

    Raises:
        ValueError: a column is of a type that `column_problem` objects to.
    """
    for field in batch.schema:
        problem = column_problem(field.name, field.type) if field.name in FIELDS else None
        if problem:
            raise ValueError(problem)
    metadata = batch.schema.metadata or {}
    columns, unknown = known(_columns(batch))
    valid, ok = assemble(columns, now_ms)
    written = int(unknown[ok].sum())
    payloads, faults, positions, events = [], [], [], []
    first = int(metadata.get(b"position", 0))
    for row in np.flatnonzero(~ok):
        record = _record(batch, columns, int(row))
        result = check(record, now_ms)
        if isinstance(result, Event):
            events.append(result)
            written += int(unknown[row])
        else:
            payloads.append(json.dumps(record, ensure_ascii=False, default=_jsonable).encode())
            faults.append(result)
            positions.append(first + int(row))
    if events:
        more, _ = assemble(from_events(events), now_ms)
        valid = concat([valid, more], CODED_EVENTS)
    source = metadata.get(b"source", b"").decode()
    dead = dead_letters(payloads, faults, positions, source=source, now_ms=now_ms)
    extra = int(metadata.get(b"extra", 0)) * valid.num_rows
    return Parsed(valid, dead, batch.num_rows, extra, written)


def _columns(batch: pa.RecordBatch) -> Columns:
    ok = np.ones(batch.num_rows, bool)
    arrays: dict[str, pa.Array] = {}

    def column(name: str) -> pa.Array:
        at = batch.schema.get_field_index(name)
        return batch.column(at) if at >= 0 else pa.nulls(batch.num_rows)

    for name in _TEXTS:
        arrays[name], sound = _text(column(name))
        ok &= sound
    millis, understood = times(column("event_time"))
    arrays["dwell_ms"], sound = _dwell(column("dwell_ms"))
    arrays["value"] = _floats(column("value"))
    arrays["context"] = _context(column("context"))
    return Columns(time_ms=millis, ok=ok & understood & sound, **arrays)


def _text(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Text of any Arrow kind → (string, or string by int32 codes; bool `[rows]`: UTF-8)."""
    fine = np.ones(len(array), bool)
    if pa.types.is_dictionary(array.type):
        words, sound = _text(array.dictionary)
        codes = array.indices.cast(pa.int32())
        if not sound.all():
            fine = np.append(sound, True)[codes.fill_null(len(sound)).to_numpy()]
        return _used(codes, words), fine
    if array.type != pa.string():
        array = array.cast(pa.string())
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        raw = array.view(pa.binary()).to_pylist()
        fine = np.array([value is None or _decodes(value) for value in raw])
        array = pa.array(
            [
                value.decode() if good and value is not None else None
                for value, good in zip(raw, fine, strict=True)
            ],
            pa.string(),
        )
    return array, fine


def _used(codes: pa.Int32Array, words: pa.StringArray) -> pa.DictionaryArray:
    """The column with those words alone that occur: a row group's go with each of its batches."""
    places = codes.drop_null().to_numpy()
    used = np.zeros(len(words), bool)
    used[places] = True
    if len(words) < 64 or used.mean() > 0.5:
        return pa.DictionaryArray.from_arrays(codes, words)
    renumbered = pa.array((np.cumsum(used) - 1).astype(np.int32))
    return pa.DictionaryArray.from_arrays(renumbered.take(codes), words.filter(pa.array(used)))


def _decodes(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def times(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Any kind of time → (epoch milliseconds, floored; bool `[rows]`: there is one)."""
    kind = array.type
    if pa.types.is_null(kind):
        return np.zeros(len(array), np.int64), np.zeros(len(array), bool)
    if pa.types.is_dictionary(kind):
        return times(array.dictionary_decode())
    if is_text(kind):
        return parse_times(_text(array)[0])
    there = bools_of(array.is_valid())
    if kind == pa.uint64():
        array = pc.min_element_wise(array, pa.scalar(2**62, pa.uint64()))
    ticks = array.cast(pa.int64()).fill_null(0).to_numpy()
    if not pa.types.is_timestamp(kind):
        return ticks, there
    if kind.unit == "s":
        far = np.abs(ticks) > 1 << 50
        return np.where(far, _NEVER, ticks) * np.where(far, 1, 1_000), there
    return np.floor_divide(ticks, _UNIT_PER_MS[kind.unit]), there


def _floats(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.float64(), safe=False)


def _dwell(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_signed_integer(array.type):
        return array.cast(pa.int64()), np.ones(len(array), bool)
    return whole_numbers(array.cast(pa.float64(), safe=False))


def _context(array: pa.Array) -> pa.Array:
    """A map or struct of texts → map<string, string>; entries without a value are left out."""
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(CONTEXT)
    if pa.types.is_map(kind) and kind.item_type != pa.null():
        array = array.cast(CONTEXT)
        if array.items.null_count == 0:
            return array
    return pa.array([_entries(value) for value in array.to_pylist()], CONTEXT)


def _entries(value: Any) -> list[tuple[str, str]] | None:
    if value is None:
        return None
    pairs = value.items() if isinstance(value, dict) else value
    return [(key, text) for key, text in pairs if text is not None]


def _record(batch: pa.RecordBatch, columns: Columns, row: int) -> dict[str, Any]:
    """One row as JSON would have it; text that is not UTF-8 stays bytes."""
    record: dict[str, Any] = {}
    for name in batch.schema.names:
        if name not in FIELDS:
            continue
        value = batch.column(name)[row]
        if name == "context":
            entries = columns.context[row].as_py()
            record[name] = None if entries is None else dict(entries)
        elif pa.types.is_timestamp(value.type):
            record[name] = int(columns.time_ms[row]) if value.is_valid else None
        else:
            record[name] = _plain(value)
    return record


def _plain(scalar: pa.Scalar) -> Any:
    if pa.types.is_dictionary(scalar.type):
        scalar = scalar.dictionary[scalar.index.as_py()] if scalar.is_valid else scalar
    try:
        value = scalar.as_py()
    except UnicodeDecodeError:
        return scalar.as_buffer().to_pybytes()
    return float(value) if isinstance(value, Decimal) else value


def _jsonable(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value)
