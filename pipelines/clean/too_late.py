"""Events that came after their window could be revised, as dead letters."""

import json
from datetime import datetime

import pyarrow as pa

from models.store.manifest import utc_ms
from pipelines.arrow.columns import as_int64
from pipelines.schema import DEAD_LETTERS

__all__ = ["duration", "payloads", "too_late"]


def too_late(events: pa.RecordBatch, tick: int, lateness_ms: int | None = None) -> pa.RecordBatch:
    """EVENTS `[n]` that came after their window could be revised → DEAD_LETTERS `[n]`.

    Args:
        events: the events; the payload is their content as a line of JSON that can be read
            again, the position their time.
        tick: the event time (ms) that the stream had reached; also `seen_at`, so that a
            restart writes the same letters.
        lateness_ms: `features.allowed_lateness`, where it is known.
    """
    count = events.num_rows
    reached = utc_ms(tick).isoformat()
    allowed = "" if lateness_ms is None else f" ({duration(lateness_ms)})"
    detail = [
        f"event_time: got {utc_ms(time).isoformat()}, {duration(tick - time)} behind what was "
        f"reached {reached}, and the window's revisions ended; feed events in order of time, or "
        f"raise features.allowed_lateness{allowed}; older history goes into a new store"
        for time in as_int64(events.column("event_time")).tolist()
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


def duration(ms: int) -> str:
    """A length of time in its two largest units.

    >>> duration(108_000_000), duration(3_600_000), duration(1_500), duration(7)
    ('1d 6h', '1h', '1.5s', '7ms')
    """
    ms = max(ms, 0)
    if ms < 1_000:
        return f"{ms}ms"
    if ms < 60_000:
        return f"{ms / 1_000:g}s"
    parts = []
    for letter, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)):
        number, ms = divmod(ms, size)
        parts.append(f"{number}{letter}" if number else "")
    first = next(i for i, part in enumerate(parts) if part)
    return " ".join(part for part in parts[first : first + 2] if part)


def _text(time: datetime) -> str:
    return time.isoformat()
