"""Unparsed batches → valid events, dead letters and counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
import pyarrow as pa

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.clock import wall_clock_ms
from pipelines.metrics import count_all
from pipelines.read.parse.json_lines import LINES, parse_lines
from pipelines.read.parse.parquet_rows import parse_rows
from pipelines.read.parse.parsed import Parsed

__all__ = ["COUNTS", "DEAD", "VALID", "Validate", "validate"]

VALID, DEAD, COUNTS = "valid", "dead", "counts"


def validate(batch: pa.RecordBatch, now_ms: int) -> Parsed:
    """A batch of JSON lines or Parquet rows → events and dead letters.

    Args:
        batch: from one of `pipelines.read`.
        now_ms: the reader's clock, epoch milliseconds; events may lie a day ahead of it.
    """
    parse = parse_lines if batch.schema.equals(LINES) else parse_rows
    return parse(batch, now_ms)


class _Validate(beam.DoFn):
    """Calls `validate`, and counts."""

    def __init__(self, now_ms: int | None) -> None:
        self.now_ms = now_ms

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        parsed = validate(batch, wall_clock_ms() if self.now_ms is None else self.now_ms)
        count_all(parsed.counts)
        if parsed.valid.num_rows:
            yield parsed.valid
        if parsed.dead.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, parsed.dead)
        yield beam.pvalue.TaggedOutput(COUNTS, parsed.counts)


@dataclass(eq=False, kw_only=True)
class Validate(beam.PTransform):
    """Unparsed batches → `.valid` (events, schema CODED_EVENTS), `.dead` and `.counts`.

    `.counts` has one `{"read", "valid", "dead", "extra_fields": int}` per batch;
    read = valid + dead.
    """

    now_ms: int | None  # the clock, epoch milliseconds; None: the worker's at each batch

    def expand(
        self, batches: beam.PCollection[pa.RecordBatch]
    ) -> Any:  # DoOutputsTuple; Beam warns of that hint
        """Batches → three collections."""
        parse = beam.ParDo(_Validate(self.now_ms)).with_output_types(
            pa.RecordBatch, **{DEAD: pa.RecordBatch, COUNTS: dict[str, int]}
        )
        return batches | "Parse" >> parse.with_outputs(DEAD, COUNTS, main=VALID)
