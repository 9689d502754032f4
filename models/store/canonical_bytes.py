"""Equal rows, equal bytes: what the content hashes of batches and versions rest on.

Two Arrow batches with equal rows may differ in their buffers: slices with an
offset, validity bitmaps without a null in them, bytes left under a null. Here
every buffer is rebuilt from the values alone.
"""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["canonical", "chain", "digest_of", "to_ipc"]


def canonical(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows and schema (without metadata) in buffers that follow from the values.

    A dictionary-encoded column is decoded; every offset is 0, a validity bitmap
    exists only where there is a null, and under a null lie zeros.
    """
    columns = [_array(column) for column in batch.columns]
    fields = [
        pa.field(field.name, column.type, field.nullable)
        for field, column in zip(batch.schema, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def to_ipc(batch: pa.RecordBatch, *, compression: str | None = "zstd") -> bytes:
    """An Arrow IPC *file* that holds this one batch."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression, use_threads=False)
    with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def digest_of(batch: pa.RecordBatch) -> bytes:
    """SHA-256 (32 bytes) of the rows' canonical bytes, in the order given."""
    return hashlib.sha256(to_ipc(canonical(batch), compression=None)).digest()


def chain(parent: str, batch_sha256: str, delta: pa.RecordBatch) -> str:
    """The digest of a version (hex): its parent's, its batch's and its embeddings' bytes."""
    told = hashlib.sha256(bytes.fromhex(parent) + bytes.fromhex(batch_sha256))
    told.update(digest_of(delta))
    return told.hexdigest()


def _array(array: pa.Array) -> pa.Array:
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _array(array.dictionary_decode())
    valid = array.is_valid().to_numpy(zero_copy_only=False) if array.null_count else None
    if pa.types.is_map(kind):
        return _map(array, valid)
    if pa.types.is_list(kind):
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        child = _array(array.flatten())
        return pa.ListArray.from_buffers(
            pa.list_(kind.value_field.with_type(child.type)),
            len(array),
            [_bitmap(valid), _offsets(lengths)],
            children=[child],
        )
    if pa.types.is_fixed_size_list(kind):
        child = _array(
            array.flatten() if valid is None else array.fill_null(_zeros(kind)).flatten()
        )
        return pa.FixedSizeListArray.from_buffers(
            kind, len(array), [_bitmap(valid)], children=[child]
        )
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return _text(array, valid)
    return _fixed_width(array, valid)


def _zeros(kind: Any) -> pa.Scalar:
    return pa.scalar([0] * kind.list_size, type=kind)


def _map(array: pa.MapArray, valid: np.ndarray | None) -> pa.Array:
    entry = pa.struct(
        [pa.field("key", array.type.key_type), pa.field("value", array.type.item_type)]
    )
    as_list = array.cast(pa.list_(entry))
    lengths = pc.fill_null(pc.list_value_length(as_list), 0).to_numpy()
    entries = as_list.flatten()
    keys, items = _array(entries.field("key")), _array(entries.field("value"))
    children = pa.StructArray.from_arrays(
        [keys, items],
        fields=[pa.field("key", keys.type, nullable=False), pa.field("value", items.type)],
    )
    return pa.MapArray.from_buffers(
        pa.map_(keys.type, items.type),
        len(array),
        [_bitmap(valid), _offsets(lengths)],
        children=[children],
    )


def _text(array: pa.Array, valid: np.ndarray | None) -> pa.Array:
    empty = "" if pa.types.is_string(array.type) else b""
    full = array if valid is None else array.fill_null(empty)
    lengths = pc.binary_length(full).to_numpy()
    start = int(np.frombuffer(full.buffers()[1], np.int32)[full.offset]) if len(full) else 0
    total = int(lengths.sum())
    data = full.buffers()[2] if total else None
    text = pa.py_buffer(b"" if data is None else data.slice(start, total).to_pybytes())
    return pa.Array.from_buffers(array.type, len(array), [_bitmap(valid), _offsets(lengths), text])


def _fixed_width(array: pa.Array, valid: np.ndarray | None) -> pa.Array:
    kind = array.type
    if pa.types.is_boolean(kind):
        values = array.fill_null(False).to_numpy(zero_copy_only=False)
        return pa.Array.from_buffers(kind, len(array), [_bitmap(valid), _pack(values)])
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.int64())
    values = (array if valid is None else array.fill_null(0)).to_numpy()
    data = pa.py_buffer(np.ascontiguousarray(values).tobytes())
    return pa.Array.from_buffers(kind, len(array), [_bitmap(valid), data])


def _bitmap(valid: np.ndarray | None) -> pa.Buffer | None:
    return None if valid is None else _pack(valid)


def _pack(flags: np.ndarray) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little").tobytes())


def _offsets(lengths: np.ndarray) -> pa.Buffer:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets.tobytes())
