"""What a mapping would make of a sample: events and why not, times, users, repeats, disorder."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.containers import Records
from pipelines.read.foreign_log import ForeignParsed, Piece, parse_records, read_piece

__all__ = ["outcome"]


def outcome(piece: Piece, rows: int, now_ms: int) -> dict[str, Any]:
    """The first `rows` records of a file by its mapping → counts, as JSON has them."""
    parsed = [parse_records(records, piece, now_ms) for records in _first(piece, rows)]
    noted: Counter[str] = Counter()
    for one in parsed:
        noted.update(one.noted)
    events = pa.Table.from_batches(
        [one.valid.select(_READ).cast(_PLAIN) for one in parsed], schema=_PLAIN
    )
    return {
        "records": sum(one.records for one in parsed),
        "events": events.num_rows,
        "dead": dict(Counter(r for one in parsed for r in one.dead.column("reason").to_pylist())),
        "dead_examples": _examples(parsed),
        "skipped": _some(noted, "skipped_"),
        "nulled": _some(noted, "nulled_"),
        "types": dict(Counter(events.column("event_type").to_pylist()).most_common()),
        **(_told(events) if events.num_rows else {}),
    }


_READ = ["event_id", "user_id", "item_id", "event_type", "event_time", "dwell_ms"]
_PLAIN = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in _READ[:4]),
        pa.field("event_time", pa.timestamp("ms", "UTC")),
        pa.field("dwell_ms", pa.int64()),
    ]
)


def _first(piece: Piece, rows: int) -> Iterator[Records]:
    for records in read_piece(piece):
        yield records
        rows -= records.count
        if rows <= 0:
            return


def _some(noted: Counter[str], start: str) -> dict[str, int]:
    return {n.removeprefix(start): c for n, c in sorted(noted.items()) if n.startswith(start)}


def _examples(parsed: list[ForeignParsed]) -> list[str]:
    found: dict[str, str] = {}
    for one in parsed:
        for letter in one.dead.to_pylist():
            place = f"line or row {letter['position'] + 1}"
            found.setdefault(letter["reason"], f"{place}: {letter['detail']}")
    return list(found.values())


def _told(events: pa.Table) -> dict[str, Any]:
    times = events.column("event_time").cast(pa.int64()).to_numpy()
    behind = np.maximum.accumulate(times) - times
    span = pc.min_max(events.column("event_time")).as_py()
    dwell = events.column("dwell_ms").drop_null().to_numpy()
    quantiles = np.quantile(dwell, (0.05, 0.5, 0.95)).round().astype(int) if len(dwell) else []
    return {
        "first_time": span["min"].isoformat(),
        "last_time": span["max"].isoformat(),
        "users": pc.count_distinct(events.column("user_id")).as_py(),
        "items": pc.count_distinct(events.column("item_id")).as_py(),
        "repeated_ids": events.num_rows - pc.count_distinct(events.column("event_id")).as_py(),
        "out_of_order": round(float((behind > 0).mean()), 4),
        "farthest_behind_ms": int(behind.max()),
        "dwell_ms": dict(zip(("p5", "p50", "p95"), (int(q) for q in quantiles), strict=False)),
    }
