"""A foreign log as a source: files of any container, read by the mappings that fit them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.clock import wall_clock_ms
from pipelines.metrics import count_all
from pipelines.read.foreign_log import Piece, parse_records, read_piece
from pipelines.read.parse_at_source import COUNTS, DEAD, VALID, as_outputs

__all__ = ["ReadForeign"]


class _Read(beam.DoFn):
    """Calls `read_piece` and `parse_records`, and counts."""

    def __init__(self, now_ms: int | None) -> None:
        self.now_ms = now_ms

    def process(self, piece: Piece) -> Iterator[Any]:
        for records in read_piece(piece):
            now_ms = wall_clock_ms() if self.now_ms is None else self.now_ms
            parsed = parse_records(records, piece, now_ms)
            count_all(parsed.counts)
            if parsed.valid.num_rows:
                yield parsed.valid
            if parsed.dead.num_rows:
                yield beam.pvalue.TaggedOutput(DEAD, parsed.dead)
            yield beam.pvalue.TaggedOutput(COUNTS, parsed.counts)


@dataclass(eq=False, kw_only=True)
class ReadForeign(beam.PTransform):
    """The files of `pipelines.read.foreign_log.plan` → `.valid`, `.dead` and `.counts`.

    As of `pipelines.clean.validate.Validate`; `.counts` has `records`, `skipped_…` and
    `nulled_…`, too.
    """

    pieces: Sequence[Piece]
    now_ms: int | None  # the clock, epoch milliseconds; None: the worker's at each batch

    def expand(self, pbegin: beam.pvalue.PBegin) -> Any:  # DoOutputsTuple; Beam warns of that hint
        """Files → three collections."""
        read = beam.ParDo(_Read(self.now_ms)).with_outputs(DEAD, COUNTS, main=VALID)
        return as_outputs(
            pbegin
            | "Files" >> beam.Create(list(self.pieces), reshuffle=False)
            | "Spread" >> beam.Reshuffle()
            | "Read and map" >> read
        )
