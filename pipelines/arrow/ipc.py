"""Arrow record batches: their bytes on the wire, and how they are joined. No Beam.

A batch travels as an Arrow IPC stream. Pickle would ship the whole parent of a
slice; IPC writes only the rows that the slice holds.
"""

from collections.abc import Iterable

import pyarrow as pa

from pipelines.arrow.columns import encode_map

__all__ = ["concat", "conform_to_schema", "decode", "encode", "without_dictionaries"]


_WIRE = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
"""A runner keeps several copies of what it shuffles. LZ4 halves the job's peak memory, and
costs no more than the copying that it saves (2M events: 1,290 → 750 MB at 9.0 CPU-s)."""


def encode(batch: pa.RecordBatch) -> bytes:
    """One batch → the bytes of an Arrow IPC stream (schema, dictionaries, rows)."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_WIRE) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def decode(data: bytes) -> pa.RecordBatch:
    """The bytes of `encode` → the batch, without copying its columns.

    Raises:
        pyarrow.ArrowInvalid: the bytes are not an Arrow IPC stream.
    """
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        return reader.read_next_batch()


def without_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows with every dictionary-encoded column written out."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    fields = [f.with_type(c.type) for f, c in zip(batch.schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, batch.schema.metadata))


def conform_to_schema(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows with exactly the columns and types of `schema`, dictionaries written out.

    A column that the batch lacks becomes null; one that `schema` lacks is left out.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit its column's type.
    """
    columns = []
    for field in schema:
        index = batch.schema.get_field_index(field.name)
        if index < 0:
            columns.append(pa.nulls(batch.num_rows, field.type))
        else:
            column = batch.column(index)
            columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def concat(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    """Many batches → one, in the order given; none → an empty batch of `schema`.

    A column stays dictionary-encoded (dictionaries merged) when it is so in every
    batch, and is written out otherwise. `schema` names columns and logical types.
    """
    kept = [b for b in batches if b.num_rows]
    if not kept:
        return _empty(schema)
    if len(kept) == 1:
        return kept[0].select(schema.names)
    columns = [_concat_column([b.column(f.name) for b in kept]) for f in schema]
    fields = [f.with_type(c.type) for f, c in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields, schema.metadata))


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in schema], schema=schema)


def _concat_column(chunks: list[pa.Array]) -> pa.Array:
    if len({chunk.type for chunk in chunks}) > 1:
        if any(pa.types.is_map(chunk.type) for chunk in chunks):
            return pa.concat_arrays([encode_map(chunk) for chunk in chunks])
        chunks = [c.dictionary_decode() if pa.types.is_dictionary(c.type) else c for c in chunks]
    return pa.concat_arrays(chunks)
