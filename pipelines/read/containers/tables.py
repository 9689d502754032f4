"""Parquet, ORC, Arrow IPC and Avro object files → batches of their columns."""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import SourceError
from pipelines.read.containers import avro_columns

__all__ = ["read_arrow", "read_avro", "read_orc", "read_parquet"]

BATCH_ROWS = 65_536


def read_parquet(
    file: BinaryIO, path: str, wanted: Sequence[str] | None
) -> Iterator[pa.RecordBatch]:
    """Some columns (None: all) of a Parquet file."""
    parquet = pq.ParquetFile(file)
    names = _there(parquet.schema_arrow.names, wanted)
    yield from parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False)


def read_orc(file: BinaryIO, path: str, wanted: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Some columns of an ORC file, by stripe."""
    from pyarrow import orc

    opened = orc.ORCFile(file)
    names = _there(opened.schema.names, wanted)
    for stripe in range(opened.nstripes):
        batch = opened.read_stripe(stripe, columns=names)
        yield from _cut(batch)


def read_arrow(file: BinaryIO, path: str, wanted: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Some columns of an Arrow IPC file or stream."""
    magic = file.read(6)
    file.seek(0)
    if magic == b"ARROW1":
        reader = pa.ipc.open_file(file)
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        reader = pa.ipc.open_stream(file)
        batches = iter(reader)
    for batch in batches:
        yield from _cut(batch.select(_there(batch.schema.names, wanted)))


def _there(names: Sequence[str], wanted: Sequence[str] | None) -> list[str]:
    return list(names) if wanted is None else [name for name in names if name in wanted]


def _cut(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start in range(0, batch.num_rows, BATCH_ROWS):
        yield batch.slice(start, BATCH_ROWS)


def read_avro(file: BinaryIO, path: str, wanted: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """Some fields of the records of an Avro object file.

    Raises:
        SourceError: it holds no records, or is damaged.
    """
    import fastavro

    try:
        opened = fastavro.block_reader(file)
        schema: Any = opened.writer_schema
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise SourceError(f"{path} holds Avro values that are no records; expected records")
        names = [f["name"] for f in schema["fields"] if wanted is None or f["name"] in wanted]
        for blocks in _gathered(opened):
            yield from _avro_batches(schema, blocks, names)
    except (ValueError, IndexError, KeyError, struct.error) as error:
        told = str(error).partition("\n")[0][:200]
        raise SourceError(f"{path} is damaged Avro ({told}); fetch or write it again") from None


def _gathered(opened: Any) -> Iterator[list[Any]]:
    """Blocks, as many as make a batch."""
    blocks: list[Any] = []
    rows = 0
    for block in opened:
        blocks.append(block)
        rows += block.num_records
        if rows >= 2 * BATCH_ROWS:
            yield blocks
            blocks, rows = [], 0
    if blocks:
        yield blocks


def _avro_batches(
    schema: Mapping[str, Any], blocks: list[Any], names: Sequence[str]
) -> Iterator[pa.RecordBatch]:
    """Blocks of records → batches: abreast where that can be, else record by record."""
    whole = _abreast(schema, blocks, names)
    if whole is not None:
        yield from _cut(whole)
        return
    fields = [one for one in schema["fields"] if one["name"] in names]
    kind = _record_type({**schema, "fields": fields}, {})
    records = [record for block in blocks for record in block]
    for start in range(0, len(records), BATCH_ROWS):
        yield _avro_batch(records[start : start + BATCH_ROWS], kind)


def _abreast(
    schema: Mapping[str, Any], blocks: list[Any], names: Sequence[str]
) -> pa.RecordBatch | None:
    """The blocks read abreast; None where they are too few, or for the library."""
    if len(blocks) < avro_columns.MIN_BLOCKS:
        return None
    data = [block.bytes_.getvalue() for block in blocks]
    counts = [block.num_records for block in blocks]
    try:
        return avro_columns.columns(schema, data, counts, names)
    except avro_columns.UnknownKindError:
        return None


def _avro_batch(records: list[Any], kind: pa.StructType) -> pa.RecordBatch:
    arrays = [
        pa.array([_plain(record[field.name], field.type) for record in records], field.type)
        if _mixed(field.type)
        else pa.array([record[field.name] for record in records], field.type)
        for field in kind
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(list(kind)))


def _mixed(kind: pa.DataType) -> bool:
    """Whether it holds text that may be something else in the file: a union of several types."""
    if pa.types.is_large_string(kind):
        return True
    if pa.types.is_map(kind):
        return _mixed(kind.item_type)
    if pa.types.is_list(kind):
        return _mixed(kind.value_type)
    return pa.types.is_struct(kind) and any(_mixed(field.type) for field in kind)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """The value, with what a union of several types held as text."""
    if value is None:
        return None
    if pa.types.is_large_string(kind):
        return value if isinstance(value, str) else _written(value)
    if pa.types.is_map(kind):
        return [(key, _plain(one, kind.item_type)) for key, one in value.items()]
    if pa.types.is_list(kind):
        return [_plain(one, kind.value_type) for one in value]
    if pa.types.is_struct(kind):
        return {field.name: _plain(value.get(field.name), field.type) for field in kind}
    return value


def _written(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False, default=str)


_AVRO = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
}
# The library gives instants with their zone, and local timestamps without.
_LOGICAL = {
    "timestamp-millis": pa.timestamp("ms", "UTC"),
    "timestamp-micros": pa.timestamp("us", "UTC"),
    "local-timestamp-millis": pa.timestamp("ms"),
    "local-timestamp-micros": pa.timestamp("us"),
    "date": pa.date32(),
    "time-millis": pa.time64("us"),
    "time-micros": pa.time64("us"),
    "uuid": pa.large_string(),  # the library gives an object: it is written as text
}


def _arrow_type(schema: Any, named: dict[str, Any]) -> pa.DataType:
    """An Avro schema → the type of a column; a union of several types is text (large_string)."""
    if isinstance(schema, str):
        return _AVRO[schema] if schema in _AVRO else named.get(schema, pa.large_string())
    if isinstance(schema, list):
        return _union_type(schema, named)
    return _complex_type(schema, named)


def _complex_type(schema: Mapping[str, Any], named: dict[str, Any]) -> pa.DataType:
    kind = schema["type"]
    nested: dict[str, Callable[[], pa.DataType]] = {
        "array": lambda: pa.list_(_arrow_type(schema["items"], named)),
        "map": lambda: pa.map_(pa.string(), _arrow_type(schema["values"], named)),
        "record": lambda: _record_type(schema, named),
    }
    if kind in nested:
        return nested[kind]()
    if kind == "enum":
        named[schema["name"]] = pa.string()
        return pa.string()
    if kind == "fixed":
        named[schema["name"]] = pa.binary()
        kind = "bytes"
    if schema.get("logicalType") == "decimal":
        return pa.decimal128(min(schema["precision"], 38), schema.get("scale", 0))
    return _LOGICAL.get(schema.get("logicalType", ""), _arrow_type(kind, named))


def _union_type(schemas: Sequence[Any], named: dict[str, Any]) -> pa.DataType:
    kinds = {_arrow_type(one, named) for one in schemas if one != "null"}
    return kinds.pop() if len(kinds) == 1 else pa.large_string() if kinds else pa.null()


def _record_type(schema: Mapping[str, Any], named: dict[str, Any]) -> pa.StructType:
    name = schema.get("name", "")
    named[name] = pa.large_string()  # a record within itself is text
    fields = [pa.field(one["name"], _arrow_type(one["type"], named)) for one in schema["fields"]]
    named[name] = pa.struct(fields)
    return named[name]
