"""Feature rows in the form in which they travel: histories once per user.

A row of DESIGN 3 carries up to 50 past events; here the past stands once, in a
timeline, and each row says from where to where its own part goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.arrow.columns import Ints, as_int64, decode_map, range_indices
from pipelines.arrow.ipc import concat, decode, encode
from pipelines.schema import FEATURES, TIMESTAMP

__all__ = ["HISTORY_COLUMNS", "ROWS", "TIMELINE", "FeatureRows"]

HISTORY_COLUMNS = ("history_items", "history_types", "history_age_ms")

ROWS = pa.schema(
    [
        *(field for field in FEATURES if field.name not in HISTORY_COLUMNS),
        pa.field("history_start", pa.int32(), nullable=False),
        pa.field("history_end", pa.int32(), nullable=False),
    ]
)
"""Names and logical types of `FeatureRows.rows`; strings may be dictionary-encoded."""

TIMELINE = pa.schema(
    [
        pa.field("item", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("type", pa.dictionary(pa.int8(), pa.string()), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
    ]
)
"""Past events other than impressions: contiguous per user, oldest first."""


@dataclass(frozen=True)
class FeatureRows:
    """Rows and the timeline that their histories point into.

    Attributes:
        rows: `[n]`, see ROWS; row i's history is timeline[history_start:history_end].
        timeline: `[m]`, see TIMELINE.
    """

    rows: pa.RecordBatch
    timeline: pa.RecordBatch

    def __len__(self) -> int:
        """The number of rows."""
        return int(self.rows.num_rows)

    def take(self, indices: Any) -> "FeatureRows":
        """The rows at `indices` (integers or an Arrow array), in that order."""
        index = pa.array(np.asarray(indices, np.int64))
        return FeatureRows(self.rows.take(index), self.timeline)

    def slice(self, start: int, length: int) -> "FeatureRows":
        """Some consecutive rows, without copying."""
        return FeatureRows(self.rows.slice(start, length), self.timeline)

    def compact(self) -> "FeatureRows":
        """The same rows with a timeline that holds only what they point to."""
        start, end = self._ranges()
        used = np.zeros(self.timeline.num_rows + 1, np.int64)
        np.add.at(used, start, 1)
        np.add.at(used, end, -1)
        kept = np.flatnonzero(np.cumsum(used[:-1]) > 0)
        moved = np.searchsorted(kept, np.stack([start, np.maximum(end, start)]))
        return FeatureRows(
            _with_ranges(self.rows, moved[0], moved[1]), self.timeline.take(pa.array(kept))
        )

    @classmethod
    def concat(cls, parts: Sequence["FeatureRows"]) -> "FeatureRows":
        """The rows of all parts, one after another; at least one part."""
        shifts = np.cumsum([0, *(part.timeline.num_rows for part in parts)])
        moved = []
        for part, shift in zip(parts, shifts, strict=False):
            start, end = part._ranges()
            moved.append(_with_ranges(part.rows, start + shift, end + shift))
        return cls(concat(moved, ROWS), concat([part.timeline for part in parts], TIMELINE))

    def materialise(self, history: int | None = None, *, encoded: bool = False) -> pa.RecordBatch:
        """The batch with the schema FEATURES; lists hold at most the last `history` events.

        Args:
            history: None for as many as the rows point to.
            encoded: leave strings dictionary-encoded: the same logical types,
                cheaper for a file writer.
        """
        start, end = self._ranges()
        if history is not None:
            start = np.maximum(start, end - history)
        lists = dict(zip(HISTORY_COLUMNS, self._lists(start, end), strict=True))
        columns = [
            lists[field.name] if field.name in lists else self.rows.column(field.name)
            for field in FEATURES
        ]
        if encoded:
            fields = [
                field.with_type(column.type)
                for column, field in zip(columns, FEATURES, strict=True)
            ]
            return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
        plain = [
            _plain(column, field.type) for column, field in zip(columns, FEATURES, strict=True)
        ]
        return pa.RecordBatch.from_arrays(plain, schema=FEATURES)

    def to_bytes(self) -> bytes:
        """For the wire; `from_bytes` is the inverse."""
        rows = encode(self.rows)
        return len(rows).to_bytes(8, "little") + rows + encode(self.timeline)

    @classmethod
    def from_bytes(cls, data: bytes) -> "FeatureRows":
        """The inverse of `to_bytes`."""
        cut = 8 + int.from_bytes(data[:8], "little")
        return cls(decode(data[8:cut]), decode(data[cut:]))

    def _ranges(self) -> tuple[Ints, Ints]:
        return as_int64(self.rows.column("history_start")), as_int64(
            self.rows.column("history_end")
        )

    def _lists(self, start: Ints, end: Ints) -> list[pa.Array]:
        lengths = end - start
        offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
        index = range_indices(start, lengths)
        item, kind, time = self.timeline.columns
        age = np.repeat(as_int64(self.rows.column("anchor_time")), lengths)
        age -= as_int64(time).take(index)
        parts = [_gather(item, index), _gather(kind, index), pa.array(age)]
        return [pa.ListArray.from_arrays(pa.array(offsets), values) for values in parts]


def _gather(column: pa.DictionaryArray, index: Ints) -> pa.DictionaryArray:
    codes = column.indices.to_numpy().take(index)
    return pa.DictionaryArray.from_arrays(pa.array(codes), column.dictionary)


def _with_ranges(rows: pa.RecordBatch, start: Ints, end: Ints) -> pa.RecordBatch:
    for name, values in (("history_start", start), ("history_end", end)):
        at = rows.schema.get_field_index(name)
        rows = rows.set_column(at, rows.schema.field(at), pa.array(values.astype(np.int32)))
    return rows


def _plain(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    """The column with its dictionaries, also nested ones, written out."""
    if column.type == wanted:
        return column
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    if pa.types.is_map(column.type):
        return decode_map(column)
    return pa.ListArray.from_arrays(column.offsets, column.values.dictionary_decode())
