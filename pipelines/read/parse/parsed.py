"""What a parse yields, and how dead letters are written down."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from pipelines.read.parse.event_rules import MAX_LINE_BYTES, Fault
from pipelines.schema import DEAD_LETTERS

__all__ = ["Parsed", "dead_letters"]


@dataclass(frozen=True)
class Parsed:
    """What became of a batch of records; `read` = rows of `valid` + rows of `dead`."""

    valid: pa.RecordBatch  # schema CODED_EVENTS
    dead: pa.RecordBatch  # schema DEAD_LETTERS
    read: int
    extra_fields: int  # fields of valid records that no column is for
    unknown_values: int = 0  # of valid records: written, and saying that they are none

    @property
    def counts(self) -> dict[str, int]:
        """`{"read", "valid", "dead", "extra_fields"}`, and `unknown_values` where there are any."""
        unknown = {"unknown_values": self.unknown_values} if self.unknown_values else {}
        return unknown | {
            "read": self.read,
            "valid": self.valid.num_rows,
            "dead": self.dead.num_rows,
            "extra_fields": self.extra_fields,
        }


def dead_letters(
    payloads: Sequence[bytes],
    faults: Sequence[Fault],
    positions: Sequence[int],
    *,
    source: str,
    now_ms: int,
) -> pa.RecordBatch:
    """Faulty records → a batch of schema DEAD_LETTERS; overlong payloads are cut at 1 MiB."""
    count = len(faults)
    arrays = [
        pa.array([payload[:MAX_LINE_BYTES] for payload in payloads], pa.binary()),
        pa.array([fault.reason for fault in faults], pa.string()),
        pa.array([fault.detail for fault in faults], pa.string()),
        pa.array([source] * count, pa.string()),
        pa.array(positions, pa.int64()),
        pa.array([now_ms] * count, DEAD_LETTERS.field("seen_at").type),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=DEAD_LETTERS)
