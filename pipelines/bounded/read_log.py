"""The way in of a bounded job: our own files, those that a mapping reads, a topic up to now.

What reads foreign logs is loaded where there is one: a job on our own files starts without it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa

from pipelines.clean.validate import Validate
from pipelines.config import JobConfig
from pipelines.errors import RequestError
from pipelines.metrics import count
from pipelines.read import ReadEvents, check_sources, is_topic
from pipelines.read.find_files import SourceFile

if TYPE_CHECKING:
    from pipelines.read.foreign_log import Piece
    from pipelines.read.identities import Identities

__all__ = ["LogRead", "check_log", "events_guessed", "foreign_counts", "read_log"]

_BYTES_PER_EVENT = {"lines": 200, "parquet": 15}
_FOREIGN_BYTES_PER_EVENT = {"csv": 30, "json": 150, "avro": 40}
_GZIP = 8  # times smaller


def check_log(events: Sequence[str], config: JobConfig) -> "list[SourceFile] | list[Piece]":
    """Refuse at the door what the job would stumble over; the files if all is well.

    Raises:
        RequestError: a source cannot be used, or the mapping does not fit it.
    """
    if config.identities is not None:
        _identities(config.identities)
    if is_topic(events):
        if config.source is not None:
            raise RequestError("[source] and --format read files, not a topic; leave them out")
        return []
    return check_sources(events) if config.source is None else _pieces(events, config, tell=True)


def _pieces(events: Sequence[str], config: JobConfig, *, tell: bool) -> "list[Piece]":
    from pipelines.read.foreign_log import plan
    from pipelines.read.mapping.presets import sources_of

    label = config.source_name or "[source]"
    return plan(events, sources_of(config.source, label), label, tell=tell)


def _identities(path: str) -> "Identities":
    from pipelines.read.identities import read_identities

    return read_identities(path)


class LogRead(NamedTuple):
    """What was read of a log."""

    valid: beam.PCollection[pa.RecordBatch]  # events, schema CODED_EVENTS
    dead: beam.PCollection[pa.RecordBatch]  # dead letters


class _Join(beam.DoFn):
    """Calls `Identities.join`, and counts."""

    def __init__(self, identities: "Identities") -> None:
        self.identities = identities

    def process(self, events: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        joined, number = self.identities.join(events)
        count("joined", number)
        yield joined


def events_guessed(files: "Sequence[SourceFile | Piece]") -> float:
    """About how many events the files hold, by their sizes."""
    return sum(_guessed(file) for file in files)


def _guessed(file: "SourceFile | Piece") -> float:
    if isinstance(file, SourceFile):
        return file.size / _BYTES_PER_EVENT[file.kind] * (_GZIP if file.gzip else 1)
    packed = file.found.path.lower().endswith((".gz", ".zst", ".bz2", ".zip"))
    per_event = _FOREIGN_BYTES_PER_EVENT.get(file.spec.container or "", 15)
    return file.found.size / per_event * (_GZIP if packed else 1)


def read_log(
    pipeline: beam.Pipeline, events: Sequence[str], config: JobConfig, now_ms: int
) -> LogRead:
    """Events and dead letters of the files, or of one topic up to now.

    The events are under their people's ids, where these are joined.

    Raises:
        RequestError: as `check_log`.
    """
    parsed = _parsed(pipeline, events, config, now_ms)
    if config.identities is None:
        return LogRead(parsed.valid, parsed.dead)
    join = beam.ParDo(_Join(_identities(config.identities)))
    valid = parsed.valid | "Join users" >> join.with_output_types(pa.RecordBatch)
    return LogRead(valid, parsed.dead)


def _parsed(
    pipeline: beam.Pipeline, events: Sequence[str], config: JobConfig, now_ms: int
) -> beam.pvalue.DoOutputsTuple:
    if is_topic(events):
        # Loaded only where a topic is read: it needs the extra `kafka`.
        from pipelines.read.kafka.source import ReadKafka
        from pipelines.read.kafka.source_spec import KafkaSource

        return pipeline | "Read" >> ReadKafka(source=KafkaSource.parse(events[0]), live=False)
    if config.source is not None:
        from pipelines.read.foreign_source import ReadForeign

        pieces = _pieces(events, config, tell=False)
        return pipeline | "Read" >> ReadForeign(pieces=pieces, now_ms=now_ms)
    return pipeline | "Read" >> ReadEvents(sources=events) | "Validate" >> Validate(now_ms=now_ms)


def foreign_counts(counted: Mapping[str, int]) -> dict[str, Any]:
    """What a job on a foreign log tells besides: its records, and what was no event."""
    joined = {"joined": counted["joined"]} if "joined" in counted else {}
    if "records" not in counted:
        return joined

    def some(start: str) -> dict[str, int]:
        return {
            name.removeprefix(start): number
            for name, number in sorted(counted.items())
            if name.startswith(start) and number
        }

    return {
        "records": counted["records"],
        "skipped": some("skipped_"),
        "nulled": some("nulled_"),
        **joined,
    }
