"""Columns of any type as numbers: text with signs of currency, clock text, units of a dwell."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.spec import Value
from pipelines.read.mapping.texts import as_text, is_text, put

__all__ = ["MS_PER", "as_number", "expected_number"]

MS_PER = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3, "m": 60e3, "clock": 1e3}
"""Milliseconds in a unit."""

_CLOCK = r"^(?P<h>[0-9]+):(?P<m>[0-5]?[0-9]):(?P<s>[0-9.]+)$"


def as_number(array: pa.Array, value: Value) -> tuple[pa.DoubleArray, np.ndarray]:
    """`[n]` of any type → (float64 `[n]`; bool `[n]`: there was something, and it is no number)."""
    array = put(array)
    kind = array.type
    if pa.types.is_null(kind):
        return array.cast(pa.float64()), np.zeros(len(array), bool)
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8()).cast(pa.float64()), np.zeros(len(array), bool)
    if not is_text(kind) and not pa.types.is_binary(kind):
        if pa.types.is_nested(kind) or pa.types.is_temporal(kind):
            there = array.is_valid().to_numpy(zero_copy_only=False)
            return pa.nulls(len(array), pa.float64()), there
        return array.cast(pa.float64(), safe=False), np.zeros(len(array), bool)
    texts = pc.utf8_trim_whitespace(as_text(array))
    numbers = _clock(texts) if value.unit == "clock" else _parsed(_plain(texts, value))
    return numbers, _lost(array, numbers)


def _lost(array: pa.Array, numbers: pa.Array) -> np.ndarray:
    return pc.and_(array.is_valid(), numbers.is_null()).to_numpy(zero_copy_only=False)


def _plain(texts: pa.Array, value: Value) -> pa.Array:
    if value.currency:
        texts = pc.replace_substring_regex(texts, r"[\p{Sc}\p{L}\s]", "")
    if value.thousands:
        texts = pc.replace_substring(texts, value.thousands, "")
    if value.decimal != ".":
        texts = pc.replace_substring(texts, value.decimal, ".")
    return texts


def _parsed(texts: pa.Array) -> pa.Array:
    """Texts → float64; null where one is none."""
    try:
        return texts.cast(pa.float64())
    except pa.ArrowInvalid:
        good = pc.match_substring_regex(
            texts, r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
        )
        known = pc.if_else(good.fill_null(False), texts, pa.scalar(None, pa.string()))
        return pc.replace_substring_regex(known, r"^\+", "").cast(pa.float64())


def _clock(texts: pa.Array) -> pa.Array:
    """`hh:mm:ss` → seconds."""
    parts = pc.extract_regex(texts, _CLOCK)
    hours, minutes, seconds = (_parsed(pc.struct_field(parts, name)) for name in "hms")
    whole = pc.add(pc.multiply(hours, 3_600.0), pc.multiply(minutes, 60.0))
    return pc.add(whole, seconds)


def expected_number(value: Value) -> str:
    """What the message about a value that is none says was expected."""
    if value.unit == "clock":
        return "a clock time such as 00:06:00"
    return "a number" if value.currency else "a number (currency = true leaves signs out)"
