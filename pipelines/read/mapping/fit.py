"""Whether a mapping fits the first rows of a file, and which column, row or value does not."""

import difflib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.apply import apply
from pipelines.read.mapping.frame import Frame
from pipelines.read.mapping.paths import parse_path
from pipelines.read.mapping.spec import Source, Value
from pipelines.read.mapping.texts import as_text, nulled
from pipelines.read.parse.event_rules import excerpt

__all__ = ["columns_of", "problem"]

_REQUIRED = ("user_id", "item_id", "event_type", "event_time")


def problem(spec: Source, sample: Any) -> str | None:
    """Why a mapping does not fit; None if it does.

    Args:
        spec: the mapping.
        sample: a `pipelines.read.containers.Records` of the first rows; None: there are none.
    """
    if sample is None:
        return None
    names = columns_of(sample)
    return (
        _uneven(sample)
        or _wrong_columns(spec, names)
        or _missing(spec, names)
        or _misfits(spec, sample)
        or _wrong_values(spec, sample)
    )


def columns_of(sample: Any) -> tuple[str, ...]:
    """The columns that a file has, as its first rows show."""
    own = tuple(name for name in sample.batch.schema.names if not name.startswith("$"))
    if sample.columns:
        return tuple(dict.fromkeys([*sample.columns, *own]))
    found = dict.fromkeys(own)
    if sample.batch.num_rows and sample.payload(0)[:1] == b"{":
        nulls = {f.name for f in sample.batch.schema if pa.types.is_null(f.type)}
        found = {name: None for name in own if name not in nulls}
        for row in range(min(sample.batch.num_rows, 100)):
            try:
                found |= dict.fromkeys(msgspec.json.decode(sample.payload(row)))
            except msgspec.DecodeError:
                continue
    return tuple(found)


def _uneven(sample: Any) -> str | None:
    """The first rows are not of the dialect: more are lost than kept."""
    lost, kept = len(sample.lost), sample.batch.num_rows
    if lost <= kept:
        return None
    first = sample.lost[0]
    return f"line {first.position + 1}: {first.fault.detail} ({lost} of {lost + kept} rows so)"


def _wrong_columns(spec: Source, names: Sequence[str]) -> str | None:
    if spec.shape.count is not None and len(names) != spec.shape.count:
        return f"it has {len(names)} columns ({_told(names)}), expected {spec.shape.count}"
    lacking = [name for name in spec.shape.columns if _root(name, names) is None]
    return f"it lacks the column {lacking[0]}; it has {_told(names)}" if lacking else None


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", …" if len(names) > 20 else "")


def _root(path: str, names: Sequence[str]) -> str | None:
    if path in names or path.startswith("$"):
        return path
    root = parse_path(path)[0].name
    return root if root in names else None


def _missing(spec: Source, names: Sequence[str]) -> str | None:
    for rule in spec.rules():
        paths = [where.column for where in (*spec.where, *rule.when)]
        paths += [explode.column for explode in rule.explode]
        for name, value in rule.values().items():
            if spec.container != "json" or name in _REQUIRED:
                paths += _lacking(value, names)
        if spec.container == "json":
            paths = [path for path in paths if path in _required_paths(rule.values(), names)]
        for path in paths:
            if _root(path, names) is None:
                root = parse_path(path)[0].name or path
                near = difflib.get_close_matches(root, names, 1)
                mean = f" (did you mean {near[0]}?)" if near else ""
                return f"there is no column {root}{mean}; it has {_told(names)}"
    return None


def _required_paths(values: dict[str, Value], names: Sequence[str]) -> set[str]:
    return {path for name in _REQUIRED for path in _lacking(values[name], names)}


def _lacking(value: Value, names: Sequence[str]) -> list[str]:
    """The paths of a value whose columns are not there; of alternatives, one has to be."""
    if value.first:
        each = [_lacking(one, names) for one in value.first]
        return [] if any(not lacking for lacking in each) else each[0]
    return [path for path in value.paths() if _root(path, names) is None]


def _misfits(spec: Source, sample: Any) -> str | None:
    frame = Frame(sample.batch, spec.tree())
    for path, pattern in spec.shape.fits.items():
        texts = as_text(nulled(frame.at(path), _words(spec)))
        fine = pc.match_substring_regex(texts, pattern).fill_null(True)
        odd = np.flatnonzero(~fine.to_numpy(zero_copy_only=False))
        if len(odd):
            row, value = int(sample.positions[odd[0]]), texts[int(odd[0])].as_py()
            return f"row {row + 1}: {path} is {excerpt(value)}, expected it to fit {pattern}"
    return None


def _words(spec: Source) -> tuple[str, ...]:
    return spec.nulls if spec.nulls is not None else ("",)


def _wrong_values(spec: Source, sample: Any) -> str | None:
    """All of the first rows have the same fault, or not one has a user, an item or a time."""
    try:
        mapped = apply(spec, sample.batch)
    except ValueError as error:
        return str(error)
    if mapped.rows.num_rows == 0 and mapped.faults:
        row, fault = mapped.faults[0]
        return f"row {int(sample.positions[row]) + 1}: {fault.detail}"
    for name in _REQUIRED:
        column = mapped.rows.column(name)
        if len(column) and column.null_count == len(column):
            return f"{name}: null in each of the first {len(column)} rows"
    return None
