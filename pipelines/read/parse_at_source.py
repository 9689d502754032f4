"""What a live source does with a piece of its log: parse it there, count it, emit it.

A live source's watermark is event time, so records have to be parsed where they
are read.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.arrow.ipc import concat
from pipelines.clock import wall_clock_ms
from pipelines.metrics import count_all, observe
from pipelines.read.parse.event_rules import Fault
from pipelines.read.parse.json_lines import LINES, parse_lines
from pipelines.read.parse.parquet_rows import parse_rows
from pipelines.read.parse.parsed import Parsed, dead_letters
from pipelines.schema import DEAD_LETTERS

__all__ = [
    "COUNTS",
    "DEAD",
    "VALID",
    "advance",
    "as_outputs",
    "newest_ms",
    "outputs",
    "parse",
    "parse_unwrapped",
]

VALID, DEAD, COUNTS = "valid", "dead", "counts"


def parse(batch: pa.RecordBatch) -> Parsed:
    """JSON lines or Parquet rows → events and dead letters, by this worker's clock."""
    parser = parse_lines if batch.schema.equals(LINES) else parse_rows
    return parser(batch, wall_clock_ms())


def parse_unwrapped(batch: pa.RecordBatch, faulty: Sequence[tuple[bytes, Fault, int]]) -> Parsed:
    """JSON lines, and records that could not be made lines → events and dead letters.

    Args:
        batch: of schema LINES, with the metadata that names its source.
        faulty: payload, fault and position of each of the others.
    """
    parsed = parse(batch)
    if not faulty:
        return parsed
    payloads, faults, positions = zip(*faulty, strict=True)
    source = (batch.schema.metadata or {}).get(b"source", b"").decode()
    letters = dead_letters(payloads, faults, positions, source=source, now_ms=wall_clock_ms())
    dead = concat([parsed.dead, letters], DEAD_LETTERS)
    return Parsed(parsed.valid, dead, parsed.read + len(faulty), parsed.extra_fields)


def newest_ms(events: pa.RecordBatch) -> int | None:
    """The newest event time of a batch, epoch milliseconds; None of an empty one."""
    times = events.column("event_time")
    return int(times.view(pa.int64()).to_numpy().max()) if len(times) else None


def outputs(parsed: Parsed, at: Timestamp) -> Iterator[Any]:
    """The elements of the three outputs, counted.

    Args:
        parsed: a piece of the log.
        at: their timestamp: no later than the watermark will be before the next piece.
    """
    count_all(parsed.counts)
    if parsed.valid.num_rows:
        yield TimestampedValue(parsed.valid, at)
    if parsed.dead.num_rows:
        yield beam.pvalue.TaggedOutput(DEAD, TimestampedValue(parsed.dead, at))
    yield beam.pvalue.TaggedOutput(COUNTS, TimestampedValue(parsed.counts, at))


def advance(estimator: ManualWatermarkEstimator, said_ms: int | None) -> None:
    """Move the watermark to `said_ms` (epoch milliseconds) unless it is there already."""
    if said_ms is None:
        return
    observe("watermark_lag_ms", max(wall_clock_ms() - said_ms, 0))
    watermark = Timestamp(micros=said_ms * 1_000)
    if watermark > (estimator.current_watermark() or Timestamp(0)):
        estimator.set_watermark(watermark)


def as_outputs(parsed: beam.pvalue.DoOutputsTuple) -> beam.pvalue.DoOutputsTuple:
    """The three outputs with the types of what is in them."""
    parsed[VALID].element_type = pa.RecordBatch
    parsed[DEAD].element_type = pa.RecordBatch
    parsed[COUNTS].element_type = dict[str, int]
    return parsed
