"""A mapping done to a batch: records in the source's own columns → records in ours."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.evaluate import Column, column_of, holds
from pipelines.read.mapping.frame import Frame
from pipelines.read.mapping.spec import Emit, Source, Value
from pipelines.read.mapping.texts import as_text
from pipelines.read.parse.event_rules import Fault, excerpt
from pipelines.schema import CONTEXT

__all__ = ["Mapped", "apply"]

_TYPES = {"event_time": pa.int64(), "dwell_ms": pa.float64(), "value": pa.float64()}
_OPTIONAL = ("dwell_ms", "value", "session_id", "platform")


@dataclass(frozen=True)
class Mapped:
    """What `apply` made of a batch of records.

    Every record is the origin of rows or faults, or is counted once in `skipped`.
    """

    rows: pa.RecordBatch  # columns of an event, for `pipelines.read.parse.parquet_rows.parse_rows`
    origin: np.ndarray  # int64 [rows]: the record that each is of
    faults: tuple[tuple[int, Fault], ...] = ()  # (record, why it, or a part of it, is no event)
    skipped: dict[str, int] = field(default_factory=dict)  # why → entries that are no event
    nulled: dict[str, int] = field(default_factory=dict)  # column → values that were out of bounds


def apply(spec: Source, batch: pa.RecordBatch) -> Mapped:
    """Records in the source's own columns → rows with the columns of an event.

    Pure and columnar: nothing is read, and no clock. What comes out is not validated yet: that
    an id is there and a time is believable is for `parse_rows` to say. `batch` may hold
    `$record`, `$file` and `$row` (text) for what the mapping says of those.

    Args:
        spec: one `[source]`.
        batch: records `[n]`; a column that the mapping names and the batch lacks is null.

    Raises:
        ValueError: a column is of a type that the mapping cannot mean; the message names it.
    """
    nulls = _nulls(spec)
    skipped: dict[str, int] = {}
    frame = Frame(batch, spec.tree())
    passed = np.ones(batch.num_rows, bool)
    for where in spec.where:
        passed &= holds(where, frame, nulls)
    _add(skipped, "where", int((~passed).sum()))
    frame, rules = frame.kept(passed), spec.rules()
    covered, empty = ~passed, np.zeros(batch.num_rows, bool)
    parts: list[Mapped] = []
    faults: list[tuple[int, Fault]] = []
    nulled: dict[str, int] = {}
    for rule in rules:
        entries = frame
        for explode in rule.explode:
            entries, lost = entries.exploded(explode)
            empty[lost] = True
        for where in rule.when:
            entries = entries.kept(holds(where, entries, nulls))
        covered[entries.origin] = True
        part = _events(rule, entries, nulls, several=len(rules) > 1)
        parts.append(part)
        faults += part.faults
        _merge(skipped, part.skipped)
        _merge(nulled, part.nulled)
    _add(skipped, "empty_list", int((empty & ~covered).sum()))
    _add(skipped, "when", int((~empty & ~covered).sum()))
    table = pa.Table.from_batches([part.rows for part in parts]).combine_chunks()
    rows = table.to_batches()[0] if table.num_rows else parts[0].rows
    origin = np.concatenate([part.origin for part in parts])
    return Mapped(rows, origin, tuple(faults), skipped, nulled)


def _nulls(spec: Source) -> tuple[str, ...]:
    if spec.nulls is not None:
        return spec.nulls
    return ("",) if spec.container == "csv" else ()


def _add(counts: dict[str, int], name: str, number: int) -> None:
    if number:
        counts[name] = counts.get(name, 0) + number


def _merge(counts: dict[str, int], more: dict[str, int]) -> None:
    for name, number in more.items():
        _add(counts, name, number)


def _events(rule: Emit, frame: Frame, nulls: tuple[str, ...], *, several: bool) -> Mapped:
    """The entries of one rule → rows, faults, counts."""
    values = rule.values()
    columns: dict[str, Column] = {}
    columns["event_type"] = column_of("event_type", values["event_type"], frame, nulls)
    frame = frame.with_own("$event_type", as_text(columns["event_type"].array))
    values.setdefault("event_id", _identity(rule, several=several))
    for name, value in values.items():
        if name not in columns:
            columns[name] = column_of(name, value, frame, nulls)
    keep = np.ones(len(frame), bool)
    skipped: dict[str, int] = {}
    for name, column in columns.items():
        if column.skip is not None:
            _add(skipped, _why(name, values[name]), int((column.skip & keep).sum()))
            keep &= ~column.skip
    faults: list[tuple[int, Fault]] = []
    for name, column in columns.items():
        for entry in np.flatnonzero(column.bad & keep):
            faults.append((int(frame.origin[entry]), _fault(name, column, int(entry))))
        keep &= ~column.bad
    nulled = {name: column.nulled for name, column in columns.items() if column.nulled}
    rows = _rows(columns, _context(rule, frame, nulls), len(frame))
    if not keep.all():
        rows = rows.filter(pa.array(keep))
    return Mapped(rows, frame.origin[keep], tuple(faults), skipped, nulled)


def _why(name: str, value: Value) -> str:
    return "event_type" if name == "event_type" and value.map is not None else f"no_{name}"


def _identity(rule: Emit, *, several: bool) -> Value:
    """Where a mapping says nothing of event_id: the whole record, and its part."""
    parts = ["$record", *["$ordinal"] * bool(rule.explode), *["$event_type"] * several]
    return Value(hash=tuple(Value(column=part) for part in parts))


def _fault(name: str, column: Column, entry: int) -> Fault:
    got = excerpt(column.raw[entry].as_py()) if len(column.raw) else "nothing"
    return Fault(column.reason, f"{name}: got {got}, expected {column.expected}")


def _context(rule: Emit, frame: Frame, nulls: tuple[str, ...]) -> pa.Array | None:
    """The context's columns → a map of those that are not null."""
    if not rule.context:
        return None
    parts = [
        as_text(column_of("context", value, frame, nulls).array) for value in rule.context.values()
    ]
    count, width = len(frame), len(parts)
    # Entry by entry: the values of entry 0, those of entry 1, …
    order = np.arange(count * width).reshape(width, count).T.reshape(-1)
    values = pa.concat_arrays(parts).take(pa.array(order))
    keys = pa.array(list(rule.context), pa.string()).take(
        pa.array(np.tile(np.arange(width, dtype=np.int64), count))
    )
    there = values.is_valid().to_numpy(zero_copy_only=False)
    sizes = there.reshape(count, width).sum(axis=1) if count else np.empty(0, np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    kept = pa.array(there)
    return pa.MapArray.from_arrays(pa.array(offsets), keys.filter(kept), values.filter(kept)).cast(
        CONTEXT
    )


def _rows(columns: dict[str, Column], context: pa.Array | None, count: int) -> pa.RecordBatch:
    names = ["event_id", "user_id", "item_id", "event_type", "event_time", *_OPTIONAL]
    arrays = []
    for name in names:
        kind = _TYPES.get(name, pa.string())
        array = columns[name].array if name in columns else pa.nulls(count, kind)
        arrays.append(array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array)
        arrays[-1] = pc.cast(arrays[-1], kind)
    names.append("context")
    arrays.append(pa.nulls(count, CONTEXT) if context is None else context)
    return pa.RecordBatch.from_arrays(arrays, names=names)
