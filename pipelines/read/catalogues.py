"""What is known of items and users: Parquet or JSON lines → one row per id.

Everything but the id may be missing. Columns that no field is for are kept where a
model can use them: an item's as categories `column=value` (integers, texts, booleans),
a user's as attributes, in text.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from pipelines.errors import SourceError
from pipelines.read.find_files import SourceFile, find_files, open_file
from pipelines.read.jsonl_reader import read_lines
from pipelines.read.parquet_files import open_parquet
from pipelines.read.parse.event_rules import excerpt, id_problem, load_line, parse_time
from pipelines.read.parse.parquet_rows import is_text, times
from pipelines.schema import ITEMS, TIMESTAMP, USERS

__all__ = ["Catalogue", "read_items", "read_users"]

_YEAR_10000_MS = 253_402_300_800_000


@dataclass(frozen=True)
class Catalogue:
    """A catalogue as the models take it."""

    table: pa.Table  # ITEMS or USERS, one row per id, in the order of the ids
    skipped: int  # rows that could not be used
    example: str  # why the first of them was skipped; empty if none was


class _SkipError(Exception):
    """The row cannot be used; the text says why."""


Row = dict[str, Any]


def read_items(source: str) -> Catalogue:
    """Items of a file, glob or folder; of an id that comes again, the last row counts.

    Raises:
        SourceError: as for events; or no row could be used.
    """
    return _read(source, "item_id", ITEMS, _item)


def read_users(source: str) -> Catalogue:
    """Users of a file, glob or folder; of an id that comes again, the last row counts.

    Raises:
        SourceError: as for events; or no row could be used.
    """
    return _read(source, "user_id", USERS, _user)


def _read(source: str, key: str, schema: pa.Schema, make: Callable[[Row], Row]) -> Catalogue:
    rows: dict[str, Row] = {}
    skipped, example = 0, ""
    for file in find_files([source]):
        for where, raw in _rows(file, key):
            try:
                if isinstance(raw, str):
                    raise _SkipError(raw)
                row = {key: _id(raw, key)} | make(raw)
            except _SkipError as error:
                skipped += 1
                example = example or f"{file.path}, {where}: {error}"
            else:
                rows[row[key]] = row
    if skipped and not rows:
        raise SourceError(f"{source} holds no usable row ({example}); mend it or leave it out")
    table = pa.Table.from_pylist([rows[name] for name in sorted(rows)], schema)
    return Catalogue(table, skipped, example)


def _rows(file: SourceFile, key: str) -> Iterator[tuple[str, Row | str]]:
    """(position, the row or why it is none) of one file."""
    with open_file(file.path) as opened:
        if file.kind == "parquet":
            yield from _parquet_rows(file, opened, key)
            return
        lines = read_lines(opened, file.path, gzipped=file.gzip, start=0, end=None)
        for batch in lines:
            for line, position in zip(*(column.to_pylist() for column in batch), strict=True):
                row, fault = load_line(line)
                yield f"byte {position}", fault.detail if fault else row


def _parquet_rows(file: SourceFile, opened: BinaryIO, key: str) -> Iterator[tuple[str, Row]]:
    if file.size == 0:
        raise SourceError(f"{file.path} is empty (0 bytes), not Parquet; write it again")
    parquet = open_parquet(file.path, opened)
    schema = parquet.schema_arrow
    if key not in schema.names:
        raise SourceError(
            f"{file.path} lacks the column {key}; it has {', '.join(schema.names[:20])}:"
            " rename or add it"
        )
    for name, good, want in _EXPECTED:
        if name in schema.names and not _is(schema.field(name).type, good):
            raise SourceError(
                f"{file.path}: column {name} is {schema.field(name).type}, expected {want}; cast it"
            )
    number = 0
    try:
        for batch in parquet.iter_batches(use_threads=False):
            columns = {
                field.name: _python(batch.column(i))
                for i, field in enumerate(batch.schema)
                if key == "user_id" or field.name in ITEMS.names or _is(field.type, _category)
            }
            for values in zip(*columns.values(), strict=True):
                yield f"row {number}", dict(zip(columns, values, strict=True))
                number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{file.path} is damaged ({error}); fetch or write it again") from None


def _text(kind: pa.DataType) -> bool:
    return is_text(kind)


def _list(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return is_list and _is(kind.value_type, _text)


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_int64(kind) or _text(kind)


def _category(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_boolean(kind) or _text(kind)


def _object(kind: pa.DataType) -> bool:
    return pa.types.is_map(kind) or pa.types.is_struct(kind)


_EXPECTED: list[tuple[str, Callable[[pa.DataType], bool], str]] = [
    ("item_id", _text, "text"),
    ("user_id", _text, "text"),
    ("title", _text, "text"),
    ("text", _text, "text"),
    ("categories", _list, "a list of texts"),
    ("duration_ms", _number, "a number"),
    ("published_at", _time, "a timestamp, int64 epoch milliseconds or RFC 3339 text"),
    ("attributes", _object, "a map or struct"),
]


def _is(kind: pa.DataType, good: Callable[[pa.DataType], bool]) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_null(kind) or good(kind)


def _python(column: pa.Array) -> list[Any]:
    """A column's values as JSON would have them; timestamps in epoch milliseconds."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind):
        millis, there = times(column)
        return [int(t) if known else None for t, known in zip(millis, there, strict=True)]
    if pa.types.is_temporal(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    elif pa.types.is_map(kind):
        return [None if entries is None else dict(entries) for entries in column.to_pylist()]
    return column.to_pylist()


def _id(row: Row, key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise _SkipError(f"{key}: got {excerpt(value)}, expected text")
    problem = id_problem(value)
    if problem:
        raise _SkipError(f"{key}: {problem}")
    return value


def _item(row: Row) -> Row:
    duration, published = row.get("duration_ms"), row.get("published_at")
    return {
        "title": _maybe(row, "title", str),
        "text": _maybe(row, "text", str),
        "categories": _categories(row),
        "duration_ms": None if duration is None else _millis("duration_ms", duration),
        "published_at": None if published is None else pa.scalar(_moment(published), TIMESTAMP),
    }


def _maybe(row: Row, name: str, kind: type) -> Any:
    value = row.get(name)
    if value is not None and not isinstance(value, kind):
        raise _SkipError(f"{name}: got {excerpt(value)}, expected {kind.__name__}")
    return value


def _millis(name: str, value: Any) -> int:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1
    if not 0 <= number < 2**53 or number != int(number):
        raise _SkipError(f"{name}: got {excerpt(value)}, expected a whole number from 0")
    return int(number)


def _moment(value: Any) -> int:
    moment = parse_time(value) if isinstance(value, str) else value
    if not isinstance(moment, int) or isinstance(moment, bool) or abs(moment) > _YEAR_10000_MS:
        raise _SkipError(f"published_at: got {excerpt(value)}, expected RFC 3339 or epoch ms")
    return moment


def _categories(row: Row) -> list[str] | None:
    own = _maybe(row, "categories", list)
    if any(name is not None and not isinstance(name, str) for name in own or ()):
        raise _SkipError("categories: expected a list of texts")
    extra = [
        f"{name}={_plain(value)}"
        for name, value in row.items()
        if name not in ITEMS.names and isinstance(value, str | int)
    ]
    if own is None and not extra:
        return None
    return list(dict.fromkeys([name for name in own or () if name is not None] + extra))


def _user(row: Row) -> Row:
    entries = _maybe(row, "attributes", dict) or {}
    extra = {name: value for name, value in row.items() if name not in USERS.names}
    texts = {name: _plain(value) for name, value in (extra | entries).items()}
    kept = [(name, text) for name, text in sorted(texts.items()) if text is not None]
    return {"attributes": kept or None}


def _plain(value: Any) -> str | None:
    """A scalar as text, `3.0` as `3` (integers with gaps are often written so); None: no scalar.

    >>> _plain(True), _plain(3.0), _plain(float("nan")), _plain([1])
    ('true', '3', None, None)
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)
    return str(value) if isinstance(value, str | int) else None
