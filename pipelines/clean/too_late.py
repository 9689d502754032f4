"""Events that came after their window could be revised, as dead letters."""

import json
from datetime import datetime

import pyarrow as pa

from models.store.manifest import utc_ms
from pipelines.arrow.columns import as_int64
from pipelines.schema import DEAD_LETTERS

__all__ = ["payloads", "too_late"]


def too_late(events: pa.RecordBatch, tick: int) -> pa.RecordBatch:
    """EVENTS `[n]` that came after their window could be revised → DEAD_LETTERS `[n]`.

    Args:
        events: the events; the payload is their content as a line of JSON that can be read
            again, the position their time.
        tick: the event time (ms) that the stream had reached; also `seen_at`, so that a
            restart writes the same letters.
    """
    count = events.num_rows
    reached = utc_ms(tick).isoformat()
    detail = [
        f"event_time: got {time.isoformat()}, the stream had reached {reached} and the window's "
        "revisions ended; raise features.allowed_lateness to keep such events"
        for time in events.column("event_time").to_pylist()
    ]
    columns = [
        pa.array(payloads(events), pa.binary()),
        pa.array(["too_late"] * count, pa.string()),
        pa.array(detail, pa.string()),
        pa.array(["stream"] * count, pa.string()),
        pa.array(as_int64(events.column("event_time"))),
        pa.array([tick] * count, pa.int64()).cast(DEAD_LETTERS.field("seen_at").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTERS)


def payloads(events: pa.RecordBatch) -> list[bytes]:
    """EVENTS `[n]` → their content as lines of JSON that can be read again."""
    return [
        json.dumps(row, default=_text, ensure_ascii=False, sort_keys=True).encode()
        for row in events.to_pylist(maps_as_pydicts="lossy")
    ]


def _text(time: datetime) -> str:
    return time.isoformat()
