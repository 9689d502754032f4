"""What a container yields: records in the source's own columns, and where each stood."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.read.parse.event_rules import Fault

__all__ = ["Lost", "Records", "row_as_json"]


@dataclass(frozen=True)
class Lost:
    """A record that cannot be read."""

    payload: bytes
    position: int
    fault: Fault


@dataclass(frozen=True)
class Records:
    """A batch of records.

    Attributes:
        batch: those columns that the mapping reads, `[n]`.
        positions: int64 `[n]`; line of a text file, row of another; from 0.
        payload: record of the batch → its bytes as they were read, for a dead letter.
        lost: records that cannot be read, beside those of the batch.
        columns: all that the file has, where it says so.
    """

    batch: pa.RecordBatch
    positions: np.ndarray
    payload: Callable[[int], bytes]
    lost: tuple[Lost, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many records were looked at."""
        return self.batch.num_rows + len(self.lost)


def row_as_json(batch: pa.RecordBatch) -> Callable[[int], bytes]:
    """The payload of a record that was no text: its columns as JSON."""

    def payload(row: int) -> bytes:
        record = batch.slice(row, 1).to_pylist()[0]
        return json.dumps(record, ensure_ascii=False, default=str).encode()

    return payload
