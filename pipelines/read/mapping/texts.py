"""Columns of any type as text, and which of their values are null."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["as_text", "hashed", "is_text", "nulled", "put"]

_HEX = np.frombuffer("".join(f"{n:02x}" for n in range(256)).encode(), np.uint8).reshape(256, 2)


def is_text(kind: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of text."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def put(array: pa.Array) -> pa.Array:
    """The array without its dictionary."""
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def as_text(array: pa.Array) -> pa.Array:
    """Any column → string; lists and structs as JSON; bytes that are not UTF-8 become null."""
    array = put(array)
    kind = array.type
    if kind == pa.string():
        return array
    if pa.types.is_null(kind):
        return array.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _decoded(array)
    if pa.types.is_nested(kind):
        import json

        texts = [None if one is None else json.dumps(one, default=str) for one in array.to_pylist()]
        return pa.array(texts, pa.string())
    return array.cast(pa.string())


def _decoded(array: pa.Array) -> pa.Array:
    try:
        return array.cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([_text(one) for one in array.to_pylist()], pa.string())


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def nulled(array: pa.Array, words: Sequence[str]) -> pa.Array:
    """The column with null where one of the words stands; numbers by what they are: -1 is -1.0."""
    array = put(array)
    if not words or pa.types.is_null(array.type):
        return array
    if is_text(array.type):
        hit = pc.is_in(array, value_set=pa.array(words, array.type))
    elif pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        numbers = [number for word in words if (number := _number(word)) is not None]
        if not numbers:
            return array
        hit = pc.is_in(array.cast(pa.float64(), safe=False), value_set=pa.array(numbers))
    else:
        return array
    return pc.if_else(hit, pa.scalar(None, array.type), array)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def hashed(texts: pa.StringArray) -> pa.StringArray:
    """`[n]` texts without nulls → 32 letters of 0-9a-f each, the same on every machine."""
    from pipelines.arrow.hashing import hash_strings

    halves = np.stack([hash_strings(texts, 1), hash_strings(texts, 2)], axis=1)
    letters = _HEX[halves.astype(">u8").view(np.uint8).reshape(-1)].reshape(-1)
    offsets = np.arange(len(texts) + 1, dtype=np.int32) * 32
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(letters))]
    return pa.Array.from_buffers(pa.string(), len(texts), buffers)
