"""Batches taken apart and put together again: rows by key, dictionaries kept small. No Beam."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.arrow.columns import encode_map
from pipelines.arrow.ipc import concat
from pipelines.schema import EVENTS

__all__ = ["compact_dictionaries", "join_batches", "split", "take"]


def split(
    batch: pa.RecordBatch, keys: npt.NDArray[Any], shards: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows `[n]` and their keys `[n]` → (key modulo shards, its rows), where there are any."""
    shard = (keys % np.uint64(shards)).astype(np.uint16)
    order = np.argsort(shard, kind="stable")  # a radix sort: two passes over 16 bits
    moved = take(batch, pa.array(order))
    ends = np.cumsum(np.bincount(shard, minlength=shards))
    for number, end in enumerate(ends.tolist()):
        start = int(ends[number - 1]) if number else 0
        if end > start:
            yield number, compact_dictionaries(moved.slice(start, end - start))


def take(batch: pa.RecordBatch, indices: pa.Array) -> pa.RecordBatch:
    """`batch.take`, ten times cheaper where there are maps."""
    columns = [
        encode_map(column) if pa.types.is_map(column.type) else column for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names).take(indices)


def compact_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows; dictionaries, also those in maps, hold only what the rows use."""
    columns = [_compact_any(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _compact_any(column: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        return _compact(column)
    if pa.types.is_map(column.type) and pa.types.is_dictionary(column.type.key_type):
        return _compact_map(column)
    return column


def _compact_map(column: pa.MapArray) -> pa.MapArray:
    offsets = column.offsets.to_numpy()
    first, last = int(offsets[0]), int(offsets[-1])
    keys, items = (
        _compact(part.slice(first, last - first)) for part in (column.keys, column.items)
    )
    mask = column.is_null() if column.null_count else None
    return pa.MapArray.from_arrays(pa.array(offsets - first), keys, items, mask=mask)


def _compact(column: pa.DictionaryArray) -> pa.DictionaryArray:
    values = column.dictionary
    if len(values) < 32:  # as event types
        return column
    indices = column.indices.fill_null(len(values)) if column.null_count else column.indices
    codes = indices.to_numpy()
    used = np.zeros(len(values) + 1, bool)
    used[codes] = True
    moved = (np.cumsum(used) - 1).astype(np.int32)[codes]
    mask = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    kept = values.filter(pa.array(used[:-1]))
    return pa.DictionaryArray.from_arrays(pa.array(moved, mask=mask), kept)


def join_batches(batches: Iterable[pa.RecordBatch]) -> pa.RecordBatch:
    """Batches of EVENTS → one, however their columns are encoded."""
    at = EVENTS.get_field_index("context")
    alike = []
    for batch in batches:
        context = encode_map(batch.column(at))
        alike.append(batch.set_column(at, EVENTS.field(at).with_type(context.type), context))
    return concat(alike, EVENTS)
