"""Avro records → columns, many blocks abreast.

Where a record ends is known only once it is read, so that records of one block are read one
after another; but a file has many blocks, and record k of each of them can be read at once, in
numpy. Kinds of values that this does not know (arrays, maps, unions of several) are for the
library, record by record.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

__all__ = ["MIN_BLOCKS", "UnknownKindError", "columns"]

MIN_BLOCKS = 64
"""Fewer blocks abreast are read faster record by record."""

_LOGICAL = {
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("int", "date"): pa.date32(),
}
_PLAIN = {"int": pa.int32(), "long": pa.int64()}

Rows = np.ndarray  # int64: rows of the columns, one for each position
Step = Callable[[np.ndarray, Rows], np.ndarray]


class UnknownKindError(Exception):
    """The schema has a kind of value that is not read here."""


class _Kind(NamedTuple):
    """How a value is read, and what becomes of all of them."""

    step: Step  # positions `[n]` and rows `[n]` → positions after the values
    finish: Callable[[np.ndarray | None], pa.Array]  # bool `[rows]`, null where it holds → column


class _Bytes:
    """The bytes of all blocks."""

    def __init__(self, data: bytes) -> None:
        padded = np.zeros(len(data) + 8, np.uint8)
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        self.letters = padded
        self.size = len(data)

    def words(self, kind: str) -> np.ndarray:
        """The numbers that begin at each byte."""
        return np.ndarray((self.size + 1,), np.dtype(kind), self.letters, strides=(1,))

    def long(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Zigzag numbers of variable length at positions → (int64, positions after them)."""
        first = self.letters[at]
        number = (first & 0x7F).astype(np.uint64)
        after = at + 1
        left = np.flatnonzero(first >= 0x80)
        shift = 7
        while len(left):
            if shift > 63:
                raise ValueError("a number of more than ten bytes")
            letter = self.letters[after[left]]
            number[left] |= (letter & np.uint8(0x7F)).astype(np.uint64) << np.uint64(shift)
            after[left] += 1
            left = left[letter >= 0x80]
            shift += 7
        signed = (number >> np.uint64(1)).astype(np.int64) ^ -(number & np.uint64(1)).astype(
            np.int64
        )
        return signed, after


def columns(
    schema: Mapping[str, Any], blocks: Sequence[bytes], counts: Sequence[int], wanted: Sequence[str]
) -> pa.RecordBatch:
    """Blocks of records → the wanted fields as columns, in the order of the file.

    Args:
        schema: of the records.
        blocks: bytes of each block, unpacked.
        counts: how many records each has.
        wanted: fields to return; all are read.

    Raises:
        UnknownKindError: the schema is not one for this.
        ValueError: a block does not end where its last record does.
    """
    total = int(sum(counts))
    data = _Bytes(b"".join(blocks))
    fields = [(field["name"], _kind(field["type"], data, total)) for field in schema["fields"]]
    sizes = np.array([len(block) for block in blocks], np.int64)
    ends = np.cumsum(sizes)
    numbers = np.array(counts, np.int64)
    order = np.argsort(-numbers, kind="stable")  # those that have a record k stand in front
    at, left = (ends - sizes)[order], numbers[order]
    bases = (np.cumsum(numbers) - numbers)[order]
    try:
        for k in range(int(left[0]) if len(left) else 0):
            abreast = int(np.searchsorted(-left, -k))
            here, rows = at[:abreast], bases[:abreast] + k
            for _, kind in fields:
                here = kind.step(here, rows)
            at[:abreast] = here
    except IndexError:
        raise ValueError("a record goes beyond the end of its block") from None
    if not np.array_equal(at, ends[order]):
        raise ValueError("a block does not end with its last record")
    kept = [(name, kind.finish(None)) for name, kind in fields if name in wanted]
    return pa.RecordBatch.from_arrays([array for _, array in kept], [name for name, _ in kept])


def _kind(schema: Any, data: _Bytes, total: int) -> _Kind:
    if isinstance(schema, list):
        return _optional(schema, data, total)
    name = schema if isinstance(schema, str) else schema["type"]
    logical = None if isinstance(schema, str) else schema.get("logicalType")
    if logical is not None and (name, logical) not in _LOGICAL:
        raise UnknownKindError
    if name in _PLAIN:
        return _whole(_LOGICAL.get((name, logical or ""), _PLAIN[name]), data, total)
    if name in {"float", "double"}:
        return _real(name, data, total)
    if name == "boolean":
        return _boolean(data, total)
    if name in {"string", "bytes"}:
        return _text(name, data, total)
    if name == "record" and not isinstance(schema, str):
        return _record(schema, data, total)
    raise UnknownKindError


def _optional(schemas: Sequence[Any], data: _Bytes, total: int) -> _Kind:
    """A union of null and one kind."""
    if len(schemas) != 2 or schemas.count("null") != 1:
        raise UnknownKindError
    nothing = schemas.index("null")
    inner = _kind(schemas[1 - nothing], data, total)
    null = np.zeros(total, bool)

    def step(at: np.ndarray, rows: Rows) -> np.ndarray:
        branch, after = data.long(at)
        if ((branch != 0) & (branch != 1)).any():
            raise ValueError("a union has no such branch")
        there = branch != nothing
        null[rows] = ~there
        if there.all():
            return inner.step(after, rows)
        if there.any():
            after[there] = inner.step(after[there], rows[there])
        return after

    def finish(mask: np.ndarray | None) -> pa.Array:
        return inner.finish(null if mask is None else null | mask)

    return _Kind(step, finish)


def _whole(kind: pa.DataType, data: _Bytes, total: int) -> _Kind:
    values = np.zeros(total, np.int64)

    def step(at: np.ndarray, rows: Rows) -> np.ndarray:
        values[rows], after = data.long(at)
        return after

    def finish(mask: np.ndarray | None) -> pa.Array:
        if kind.bit_width == 32:
            narrow = pa.array(values.astype(np.int32), mask=mask)
            return narrow.view(kind)
        return pa.array(values, mask=mask).view(kind)

    return _Kind(step, finish)


def _real(name: str, data: _Bytes, total: int) -> _Kind:
    size = 8 if name == "double" else 4
    words = data.words(f"<f{size}")
    values = np.zeros(total, words.dtype)

    def step(at: np.ndarray, rows: Rows) -> np.ndarray:
        values[rows] = words[at]
        return at + size

    return _Kind(step, lambda mask: pa.array(values, mask=mask))


def _boolean(data: _Bytes, total: int) -> _Kind:
    values = np.zeros(total, bool)

    def step(at: np.ndarray, rows: Rows) -> np.ndarray:
        values[rows] = data.letters[at] != 0
        return at + 1

    return _Kind(step, lambda mask: pa.array(values, mask=mask))


def _text(name: str, data: _Bytes, total: int) -> _Kind:
    starts, sizes = np.zeros(total, np.int64), np.zeros(total, np.int64)

    def step(at: np.ndarray, rows: Rows) -> np.ndarray:
        length, after = data.long(at)
        if (length < 0).any() or (after + length > data.size).any():
            raise ValueError("a text goes beyond the end of its block")
        starts[rows], sizes[rows] = after, length
        return after + length

    def finish(mask: np.ndarray | None) -> pa.Array:
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        if offsets[-1] >= 1 << 31:
            raise ValueError("the texts of a batch are over 2 GiB")
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], sizes)
        valid = None if mask is None else pa.array(~mask).buffers()[1]
        texts = pa.py_buffer(data.letters[places])
        spans = pa.py_buffer(offsets.astype(np.int32))
        kind = pa.string() if name == "string" else pa.binary()
        array = pa.Array.from_buffers(kind, total, [valid, spans, texts])
        array.validate(full=True)
        return array

    return _Kind(step, finish)


def _record(schema: Mapping[str, Any], data: _Bytes, total: int) -> _Kind:
    inside = [(field["name"], _kind(field["type"], data, total)) for field in schema["fields"]]

    def step(at: np.ndarray, rows: Rows) -> np.ndarray:
        for _, kind in inside:
            at = kind.step(at, rows)
        return at

    def finish(mask: np.ndarray | None) -> pa.Array:
        arrays = [kind.finish(None) for _, kind in inside]
        names = [name for name, _ in inside]
        gone = None if mask is None else pa.array(mask)
        return pa.StructArray.from_arrays(arrays, names, mask=gone)

    return _Kind(step, finish)
