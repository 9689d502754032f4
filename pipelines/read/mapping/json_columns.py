"""JSON texts → the columns that are wanted of them; also those whose types change by record.

Most logs give a field one type: then Arrow's reader is told so and reads a block at once.
Where a field is text here and a number there, the block is read record by record, and such a
field becomes text, written as it stood.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from pipelines.read.mapping.paths import ANY, Tree
from pipelines.read.parse.event_rules import MAX_LINE_BYTES, Fault, load_line

__all__ = ["Read", "from_objects", "read_texts"]

_SAMPLE = 256  # texts whose types are taken for those of the block
_INT64, _EXACT = 1 << 63, 1 << 53
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True)
class Read:
    """What became of `[n]` texts: the columns of those that are objects, and where they were."""

    columns: pa.RecordBatch
    origin: np.ndarray  # int64 [rows of columns]
    faults: tuple[tuple[int, Fault], ...]


@dataclass
class _Seen:
    """The types that a field had."""

    kinds: set[str] = field(default_factory=set)
    fields: dict[str, "_Seen"] = field(default_factory=dict)
    element: "_Seen | None" = None

    def learn(self, value: Any, tree: Tree) -> None:
        if value is None:
            return
        kind = _kind(value)
        self.kinds.add(kind)
        if kind == "list":
            self.element = self.element or _Seen()
            for one in value:
                self.element.learn(one, tree)
        elif kind == "object" and tree:
            names = value.keys() if ANY in tree else tree.keys() & value.keys()
            for name in names:
                seen = self.fields.setdefault(name, _Seen())
                seen.learn(value[name], tree.get(name, {}))

    def arrow(self, tree: Tree) -> pa.DataType:
        """The type that holds all of them; text where they differ."""
        if not self.kinds:
            return pa.null()
        if self.kinds == {"list"} and self.element is not None:
            return pa.list_(self.element.arrow(tree))
        if self.kinds == {"object"} and tree:
            inside = {name: seen.arrow(tree.get(name, {})) for name, seen in self.fields.items()}
            return pa.struct([pa.field(name, inside[name]) for name in sorted(inside)])
        return _PLAIN.get(frozenset(self.kinds), pa.string())

    def changes(self, tree: Tree) -> bool:
        """Whether some field has to become text that is none: Arrow's reader cannot do that."""
        if (len(self.kinds) > 1 and frozenset(self.kinds) not in _PLAIN) or "big" in self.kinds:
            return True
        if self.kinds == {"object"} and not tree:
            return True
        inside = any(seen.changes(tree.get(name, {})) for name, seen in self.fields.items())
        return inside or (self.element is not None and self.element.changes(tree))


_PLAIN = {
    frozenset({"int"}): pa.int64(),
    frozenset({"long"}): pa.int64(),
    frozenset({"int", "long"}): pa.int64(),
    frozenset({"float"}): pa.float64(),
    frozenset({"int", "float"}): pa.float64(),
    frozenset({"bool"}): pa.bool_(),
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if -_EXACT <= value <= _EXACT:
            return "int"
        return "long" if -_INT64 <= value < _INT64 else "big"
    if isinstance(value, dict):
        return "object"
    return {str: "text", float: "float", list: "list"}.get(type(value), "text")


def read_texts(texts: pa.BinaryArray, tree: Tree) -> Read:
    """JSON texts, binary or string `[n]`, without nulls → the wanted fields as columns.

    Args:
        texts: one record each.
        tree: the fields that are wanted.
    """
    if not len(texts):
        return Read(_batch([], tree, 0), np.empty(0, np.int64), ())
    columns = _read_at_once(texts, tree)
    if columns is not None:
        return Read(columns, np.arange(len(texts)), ())
    records, origin, faults = [], [], []
    for row, text in enumerate(texts.cast(pa.binary()).to_pylist()):
        record, fault = _load(text)
        if fault is None:
            records.append(record)
            origin.append(row)
        else:
            faults.append((row, fault))
    return Read(from_objects(records, tree), np.array(origin, np.int64), tuple(faults))


def _load(text: bytes) -> tuple[dict[str, Any], Fault | None]:
    if len(text) > MAX_LINE_BYTES:
        return {}, Fault("too_large", f"record: over {MAX_LINE_BYTES} bytes, which is the limit")
    return load_line(text)


def _read_at_once(texts: pa.BinaryArray, tree: Tree) -> pa.RecordBatch | None:
    """All texts by Arrow's reader; None where that cannot be trusted to read them as they are."""
    if not tree:
        return None
    seen = _Seen()
    step = max(len(texts) // _SAMPLE, 1)
    try:
        for text in texts[::step].to_pylist() if step == 1 else _every(texts, step):
            seen.learn(_decode(text), tree)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if seen.kinds != {"object"} or seen.changes(tree) or not seen.fields:
        return None
    schema = pa.schema(list(seen.arrow(tree)))
    missing = tree.keys() - set(schema.names) - {ANY}
    schema = pa.schema([*schema, *(pa.field(name, pa.null()) for name in sorted(missing))])
    block = _joined(texts)
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pj.ReadOptions(use_threads=False, block_size=len(block) + 1)
    try:
        table = pj.read_json(pa.BufferReader(block), read_options=reading, parse_options=options)
        table.validate(full=True)
    except (pa.ArrowException, ValueError):
        return None
    if table.num_rows != len(texts):
        return None
    return table.combine_chunks().to_batches()[0]


def _every(texts: pa.BinaryArray, step: int) -> Iterable[bytes]:
    return (texts[row].as_py() for row in range(0, len(texts), step))


def _joined(texts: pa.BinaryArray) -> bytes:
    """The texts, a line each."""
    parts = [text.rstrip(b"\r\n") for text in texts.cast(pa.binary()).to_pylist()]
    return b"\n".join(parts) + b"\n"


def from_objects(records: Sequence[dict[str, Any]], tree: Tree) -> pa.RecordBatch:
    """Decoded objects → the wanted fields as columns; fields of several types become text."""
    seen = _Seen({"object"})
    for record in records:
        seen.learn(record, tree)
    kind = seen.arrow(tree)
    if seen.changes(tree) or not pa.types.is_struct(kind):
        records = [_as(record, kind, tree) for record in records]
    fields = list(kind) if pa.types.is_struct(kind) else []
    known = {one.name for one in fields}
    fields += [pa.field(name, pa.null()) for name in sorted(tree.keys() - known - {ANY})]
    return _batch(records, tree, len(records), fields)


def _batch(
    records: Sequence[dict[str, Any]], tree: Tree, rows: int, fields: Sequence[pa.Field] = ()
) -> pa.RecordBatch:
    fields = list(fields) or [pa.field(name, pa.null()) for name in sorted(tree.keys() - {ANY})]
    arrays = [pa.array([r.get(one.name) for r in records], one.type) for one in fields]
    if not fields:
        return pa.RecordBatch.from_pylist([{}] * rows, schema=pa.schema([]))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _as(value: Any, kind: pa.DataType, tree: Tree) -> Any:
    """The value in the form that `kind` holds."""
    if value is None or pa.types.is_null(kind):
        return None
    if pa.types.is_struct(kind):
        return {
            one.name: _as(value.get(one.name), one.type, tree.get(one.name, {})) for one in kind
        }
    if pa.types.is_list(kind):
        return [_as(one, kind.value_type, tree) for one in value]
    if pa.types.is_string(kind) and not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return value
