"""One column of an event from the columns of a record: what `[source]` says of it, done."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.check_mapping import named
from pipelines.read.mapping.frame import Frame
from pipelines.read.mapping.numbers import MS_PER, as_number, expected_number
from pipelines.read.mapping.spec import Value, Where, template_parts
from pipelines.read.mapping.texts import as_text, hashed, is_text, nulled
from pipelines.read.mapping.times import as_time, expected_time

__all__ = ["Column", "column_of", "holds"]

_NONE = pa.scalar(None, pa.string())


@dataclass(frozen=True)
class Column:
    """A column of events, `[entries]`.

    Attributes:
        array: the values.
        bad: bool; there was something that cannot be read.
        raw: what was there, for the message.
        reason: of DEAD_REASONS, of those that are bad.
        expected: what was expected of them.
        skip: bool; no event is meant.
        nulled: how many values out of `min` and `max` became null.
    """

    array: pa.Array
    bad: np.ndarray
    raw: pa.Array
    reason: str = "bad_type"
    expected: str = ""
    skip: np.ndarray | None = None
    nulled: int = 0


def holds(where: Where, frame: Frame, nulls: tuple[str, ...]) -> np.ndarray:
    """Bool `[entries]`: whether the condition does."""
    array = nulled(frame.at(where.column), nulls)
    texts = as_text(array)
    mask = np.ones(len(frame), bool)
    if where.is_ is not None:
        mask &= _np(pc.is_in(texts, value_set=pa.array(where.is_, pa.string())))
    if where.not_ is not None:
        mask &= ~_np(pc.is_in(texts, value_set=pa.array(where.not_, pa.string())))
    if where.fits is not None:
        mask &= _np(pc.match_substring_regex(texts, where.fits).fill_null(False))
    if where.null is not None:
        mask &= _np(texts.is_null()) == where.null
    return mask


def _np(array: pa.Array) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def raw_of(value: Value, frame: Frame, nulls: tuple[str, ...]) -> pa.Array:
    """What the value names, `[entries]`, of any type; words for null are null."""
    nulls = nulls if value.nulls is None else value.nulls
    if value.constant is not None:
        return pa.repeat(pa.scalar(value.constant), len(frame))
    if value.template is not None:
        array = _templated(value.template, frame, nulls)
    elif value.hash:
        array = _hash(value.hash, frame, nulls)
    elif value.first:
        array = _first([raw_of(one, frame, nulls) for one in value.first])
    else:
        array = nulled(frame.at(value.column or ""), nulls)
    if value.regex is not None:
        found = pc.extract_regex(as_text(array), named(value.regex))
        array = nulled(pc.struct_field(found, "taken"), nulls)
    return array


def _first(parts: list[pa.Array]) -> pa.Array:
    kinds = {part.type for part in parts if not pa.types.is_null(part.type)}
    if len(kinds) > 1:
        parts = [as_text(part) for part in parts]
    elif kinds:
        parts = [part.cast(next(iter(kinds))) for part in parts]
    return pc.coalesce(*parts)


def _templated(template: str, frame: Frame, nulls: tuple[str, ...]) -> pa.Array:
    pieces: list[pa.Array | pa.Scalar] = []
    for before, path in template_parts(template):
        if before:
            pieces.append(pa.scalar(before))
        if path:
            pieces.append(as_text(nulled(frame.at(path), nulls)))
    return pc.binary_join_element_wise(*pieces, pa.scalar(""))


def _hash(values: tuple[Value, ...], frame: Frame, nulls: tuple[str, ...]) -> pa.Array:
    parts = [as_text(raw_of(value, frame, nulls)).fill_null("\0") for value in values]
    if len(parts) == 1:
        return hashed(parts[0])
    return hashed(pc.binary_join_element_wise(*parts, pa.scalar("\x1f")))


def column_of(name: str, value: Value, frame: Frame, nulls: tuple[str, ...]) -> Column:
    """A column of the events.

    Args:
        name: of the column.
        value: what `[source]` says of it.
        frame: the records or entries.
        nulls: the source's words for null.

    Raises:
        ValueError: the columns are of types that the mapping cannot mean.
    """
    make = _MAKERS.get(name, _identifier)
    return _missing(make(value, frame, nulls), value)


def _missing(column: Column, value: Value) -> Column:
    if value.missing == "refuse":
        return column
    gone = _np(column.array.is_null()) & ~column.bad
    skip = gone if column.skip is None else column.skip | gone
    return Column(**{**vars(column), "skip": skip})


def _identifier(value: Value, frame: Frame, nulls: tuple[str, ...]) -> Column:
    raw = raw_of(value, frame, nulls)
    array, bad = _as_id(raw, whole=value.whole)
    if value.map is not None:
        array, skip, refused = _mapped(array, value)
        want = "one of " + ", ".join(value.map)
        return Column(array, bad | refused, raw, "bad_value", want, skip)
    want = "text or a whole number (whole = true takes 1.0 for 1)"
    return Column(array, bad, raw, "bad_type", want)


def _as_id(raw: pa.Array, *, whole: bool) -> tuple[pa.Array, np.ndarray]:
    none = np.zeros(len(raw), bool)
    kind = raw.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        if not whole and not (pa.types.is_decimal(kind) and kind.scale == 0):
            return pa.nulls(len(raw), pa.string()), _np(raw.is_valid())
        numbers = raw.cast(pa.float64())
        fine = pc.and_(pc.equal(pc.floor(numbers), numbers), pc.less(pc.abs(numbers), 2.0**53))
        good = _np(fine.fill_null(False))
        texts = pc.if_else(pa.array(good), numbers, pa.scalar(None, pa.float64()))
        return texts.cast(pa.int64()).cast(pa.string()), _np(raw.is_valid()) & ~good
    texts = as_text(raw)
    if whole and is_text(kind):
        texts = pc.replace_substring_regex(texts, r"^(-?[0-9]+)\.0+$", r"\1")
    bad = _np(pc.and_(raw.is_valid(), texts.is_null())) if pa.types.is_binary(kind) else none
    return texts, bad


def _mapped(texts: pa.Array, value: Value) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Words by `map` → (their meaning, bool: to be skipped, bool: refused)."""
    listed = value.map or {}
    keys, looked = list(listed), texts
    if value.fold_case:
        keys, looked = [key.lower() for key in keys], pc.utf8_lower(texts)
    places = pc.index_in(looked, value_set=pa.array(keys, pa.string()))
    meant = pa.array(list(listed.values()), pa.string()).take(places)
    unlisted = _np(pc.and_(texts.is_valid(), places.is_null()))
    none = np.zeros(len(texts), bool)
    if value.unlisted == "keep":
        return pc.coalesce(meant, texts), none, none
    return meant, *((unlisted, none) if value.unlisted == "skip" else (none, unlisted))


def _time(value: Value, frame: Frame, nulls: tuple[str, ...]) -> Column:
    if value.first:
        parts = [_time(_inheriting(one, value), frame, nulls) for one in value.first]
        array = pc.coalesce(*(part.array for part in parts))
        bad = np.logical_or.reduce([part.bad for part in parts]) & _np(array.is_null())
        raw = _first([as_text(part.raw) for part in parts])
        return Column(array, bad, raw, "bad_time", expected_time(value))
    raw = raw_of(value, frame, nulls)
    try:
        array, bad = as_time(raw, value)
    except ValueError as error:
        raise ValueError(f"event_time: {value.column or 'the column'} {error}") from None
    return Column(array, bad, raw, "bad_time", expected_time(value))


def _inheriting(inner: Value, outer: Value) -> Value:
    given = {name: getattr(outer, name) for name in ("unit", "format", "zone")}
    own = {name: getattr(inner, name) for name in inner.model_fields_set}
    if "unit" in own or "format" in own:
        given = {"zone": outer.zone}
    return inner.model_copy(update={**given, **own})


def _number(value: Value, frame: Frame, nulls: tuple[str, ...]) -> Column:
    raw = raw_of(value, frame, nulls)
    numbers, bad = as_number(raw, value)
    if value.times is not None:
        other, odd = as_number(raw_of(value.times, frame, nulls), value.times)
        numbers = pc.multiply(numbers, other.fill_null(1.0))
        bad = bad | odd
    numbers, lost = _within(numbers, value)
    return Column(numbers, bad, raw, "bad_type", expected_number(value), nulled=lost)


def _within(numbers: pa.Array, value: Value) -> tuple[pa.Array, int]:
    keep = pa.repeat(pa.scalar(True), len(numbers))
    if value.min is not None:
        keep = pc.and_(keep, pc.greater_equal(numbers, value.min).fill_null(True))
    if value.max is not None:
        keep = pc.and_(keep, pc.less_equal(numbers, value.max).fill_null(True))
    lost = len(numbers) - (pc.sum(keep).as_py() or 0)
    return (pc.if_else(keep, numbers, pa.scalar(None, pa.float64())) if lost else numbers), lost


def _dwell(value: Value, frame: Frame, nulls: tuple[str, ...]) -> Column:
    column = _number(value, frame, nulls)
    millis = pc.multiply(column.array, MS_PER[value.unit or "ms"])
    return Column(**{**vars(column), "array": pc.round(millis)})


_MAKERS: dict[str, Callable[[Value, Frame, tuple[str, ...]], Column]] = {
    "event_time": _time,
    "dwell_ms": _dwell,
    "value": _number,
}
