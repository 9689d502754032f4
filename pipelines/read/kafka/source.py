"""Kafka as a source: `kafka://host:port/topic?start=earliest&until=now`.

A splittable DoFn that emits Arrow batches. The offsets are part of its
restriction, so that a checkpoint holds them and a restart repeats nothing and
skips nothing; consumer groups and commits play no part. One reader serves
several partitions, and the watermark is that of the slowest.
"""

import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration, Timestamp

from pipelines.clock import wall_clock_ms
from pipelines.metrics import count, count_all
from pipelines.read.kafka.broker import Reader, Records, open_reader, partitions_by_reader
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.read.parse_at_source import (
    COUNTS,
    DEAD,
    VALID,
    advance,
    as_outputs,
    newest_ms,
    outputs,
    parse_unwrapped,
)
from pipelines.read.partition_progress import (
    Positions,
    PositionsCoder,
    PositionsTracker,
    watermark_ms,
)

__all__ = ["ReadKafka"]

_log = logging.getLogger("rillet")

_TRACKER: Any = beam.DoFn.RestrictionParam()
_WATERMARK: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())


class _ReadDoFn(beam.DoFn, RestrictionProvider):
    """(reader, positions) → batches; see `ReadKafka`."""

    def __init__(self, source: KafkaSource) -> None:
        self.source = source
        self.token = uuid.uuid4().hex

    def initial_restriction(self, element: tuple[int, bytes]) -> Positions:
        """As the launcher found them: a restart before the first checkpoint finds the same."""
        return Positions.decode(element[1])

    def create_tracker(self, restriction: Positions) -> PositionsTracker:
        """Claims positions as they are read."""
        return PositionsTracker(restriction)

    def restriction_size(self, element: tuple[int, bytes], restriction: Positions) -> float:
        """Unknown while there is no end."""
        parts = restriction.partitions.values()
        return float(sum(p.end - p.next if p.end is not None else 1 for p in parts) or 1)

    def restriction_coder(self) -> PositionsCoder:
        """JSON: a savepoint stays readable."""
        return PositionsCoder()

    def process(
        self,
        element: tuple[int, bytes],
        tracker: Any = _TRACKER,
        estimator: Any = _WATERMARK,
    ) -> Iterator[Any]:
        """Read, claim, emit; hand the rest back when there is nothing to read just now."""
        positions: Positions = tracker.current_restriction()
        reader = open_reader(self.source, element[0], self.token)
        deadline = time.monotonic() + self.source.stay_s
        while not positions.done:
            records = reader.read(positions)
            parsed = [
                parse_unwrapped(batch, faulty)
                for batch, faulty in zip(records.batches, records.faulty, strict=True)
            ]
            positions = _after(positions, records, [newest_ms(part.valid) for part in parsed])
            if not tracker.try_claim(positions):
                return
            if records.lost:
                count("lost", records.lost)
            count_all(records.dropped)
            behind = estimator.current_watermark() or Timestamp(0)
            for part in parsed:
                yield from outputs(part, behind)
            advance(estimator, self._watermark(positions, reader))
            if not records.full or time.monotonic() > deadline:
                tracker.defer_remainder(Duration(seconds=self.source.defer_s))
                return
        reader.close()

    def _watermark(self, positions: Positions, reader: Reader) -> int | None:
        return watermark_ms(
            positions.partitions,
            reader.idle(positions),
            now_ms=wall_clock_ms(),
            disorder_ms=self.source.disorder_ms,
            idle_ms=self.source.idle_ms,
        )


class _ReadToEndDoFn(_ReadDoFn):
    """For runners that take bounded input: they are told that there is an end."""


class _ReadOnDoFn(_ReadDoFn):
    """Without an end, or on a runner that fires timers while it reads."""

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element: tuple[int, bytes],
        tracker: Any = _TRACKER,
        estimator: Any = _WATERMARK,
    ) -> Iterator[Any]:
        """As its parent."""
        yield from super().process(element, tracker, estimator)


def _after(positions: Positions, records: Records, newest: list[int | None]) -> Positions:
    """Where the reader stands once the records are taken."""
    parts = dict(positions.partitions) | dict(records.added)
    for number, upto in records.upto.items():
        parts[number] = parts[number].read(upto, None)
    for number, time_ms in zip(records.partitions, newest, strict=True):
        parts[number] = parts[number].read(0, time_ms)
    return replace(positions, partitions=parts)


@dataclass(eq=False, kw_only=True)
class ReadKafka(beam.PTransform):
    """A topic → `.valid` (events, schema CODED_EVENTS), `.dead` and `.counts`.

    As `pipelines.clean.validate.Validate`, which it includes: the watermark is event
    time, so records have to be parsed where they are read.

    Attributes:
        source: what to read, from where to where.
        live: False for a runner that takes bounded input only; needs `until=now`.
    """

    source: KafkaSource
    live: bool = True

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.pvalue.DoOutputsTuple:
        """Readers → batches. Asks the broker where partitions begin and end."""
        dealt = [(n, share.encode()) for n, share in enumerate(partitions_by_reader(self.source))]
        read = _ReadOnDoFn(self.source) if self.live else _ReadToEndDoFn(self.source)
        parsed = (
            pbegin
            | "Readers" >> beam.Create(dealt, reshuffle=True)
            | "Read Kafka" >> beam.ParDo(read).with_outputs(DEAD, COUNTS, main=VALID)
        )
        return as_outputs(parsed)
