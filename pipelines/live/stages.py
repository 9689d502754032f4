"""The three stateful DoFns of the live path: deduplicate, featurize, cut. Beam only.

Each keeps a journal per shard and wakes up at event-time ticks, under one
timer tag a tick: several that are due fire in order, in one bundle. A stage
fires a millisecond of event time after the one before it, so that all that it
gave out for a tick is there. No processing-time timers: one that is pending
holds the watermark, and keeps a finished job from ending.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.utils.timestamp import Timestamp

from pipelines import arrow  # noqa: F401 - registers the coder of batches
from pipelines.config import FeatureConfig
from pipelines.hashing import hash_strings
from pipelines.live.cut import END_OF_STREAM, Cutter, LiveLog
from pipelines.live.dedupe import Waiting
from pipelines.live.journal import Journal, Mirror, Mirrors
from pipelines.live.letters import too_late
from pipelines.live.users import Users
from pipelines.metrics import count
from pipelines.pieces import split
from pipelines.schema import EVENTS

__all__ = ["DEAD", "CutLive", "DedupeLive", "FeaturizeLive", "Span"]

DEAD = "dead"
UNIQUE, ROWS = "unique", "rows"

_BAG = BagStateSpec("journal", BytesCoder())
_NOTE = ReadModifyWriteStateSpec("note", BytesCoder())
# A timer belongs to one callback.
_DEDUPE, _FEATURIZE, _CUT = (TimerSpec("tick", TimeDomain.WATERMARK) for _ in range(3))
_bag: Any = beam.DoFn.StateParam(_BAG)
_note: Any = beam.DoFn.StateParam(_NOTE)
_dedupe_at: Any = beam.DoFn.TimerParam(_DEDUPE)
_featurize_at: Any = beam.DoFn.TimerParam(_FEATURIZE)
_cut_at: Any = beam.DoFn.TimerParam(_CUT)
_key: Any = beam.DoFn.KeyParam
_tag: Any = beam.DoFn.DynamicTimerTagParam

_mirrors: dict[str, Mirrors[Any]] = {}


@dataclass
class _Shards:
    """The journals of a stage: pickled with its DoFn, shared by its copies in a process."""

    fresh: Callable[[], Mirror]
    stage: str = field(default_factory=lambda: uuid.uuid4().hex)

    def open(self, shard: Any, bag: Any, note: Any) -> Any:
        """The journal of a shard, as a context."""
        mirrors = _mirrors.setdefault(self.stage, Mirrors())
        return Journal.opened(mirrors, shard, bag, note, self.fresh)


def _wake(timer: Any, tick: int, late_ms: int) -> None:
    timer.set(Timestamp(micros=(tick + late_ms) * 1_000), dynamic_timer_tag=str(tick))


class _Dedupe(beam.DoFn):
    """(shard of ids, events) → (shard of users, events)."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        self.shards = _Shards(self._fresh)

    def _fresh(self) -> Waiting:
        config = self.config
        return Waiting(config.window.size_ms, config.dedupe_horizon, config.allowed_lateness)

    def process(
        self,
        element: tuple[int, pa.RecordBatch],
        bag: Any = _bag,
        note: Any = _note,
        timer: Any = _dedupe_at,
    ) -> None:
        """Let the events wait for the end of their windows."""
        shard, events = element
        with self.shards.open(shard, bag, note) as journal:
            for tick, entry in journal.mirror.wait(events):
                journal.append(entry.kind, entry.data)
                _wake(timer, tick, 0)

    @on_timer(_DEDUPE)
    def fire(
        self, key: int = _key, tag: str = _tag, bag: Any = _bag, note: Any = _note
    ) -> Iterator[Any]:
        """Give out what is unique; what comes too late is a dead letter."""
        with self.shards.open(key, bag, note) as journal:
            settled, entries = journal.mirror.fire(int(tag))
            for entry in entries:
                journal.append(entry.kind, entry.data)
        if settled is None:
            return
        count("duplicates", settled.duplicates)
        if settled.late:
            count("late", settled.late)
        if settled.too_late.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, too_late(settled.too_late, int(tag)))
        if settled.unique.num_rows:
            users = hash_strings(settled.unique.column("user_id"))
            yield from split(settled.unique, users, self.config.shards)


class _Featurize(beam.DoFn):
    """(shard of users, unique events) → (0, feature rows as bytes)."""

    def __init__(self, config: FeatureConfig) -> None:
        self.config = config
        self.shards = _Shards(self._fresh)

    def _fresh(self) -> Users:
        return Users(self.config)

    def process(
        self,
        element: tuple[int, pa.RecordBatch],
        bag: Any = _bag,
        note: Any = _note,
        timer: Any = _featurize_at,
    ) -> None:
        """Let the events wait until all shards of ids have given out theirs."""
        shard, events = element
        with self.shards.open(shard, bag, note) as journal:
            for tick, entry in journal.mirror.wait(events):
                journal.append(entry.kind, entry.data)
                _wake(timer, tick, 1)

    @on_timer(_FEATURIZE)
    def fire(
        self, key: int = _key, tag: str = _tag, bag: Any = _bag, note: Any = _note
    ) -> Iterator[tuple[int, bytes]]:
        """The rows of the window that ends at this tick, and of late events."""
        with self.shards.open(key, bag, note) as journal:
            rows, repeats, entries = journal.mirror.fire(int(tag))
            for entry in entries:
                journal.append(entry.kind, entry.data)
        count("duplicates", repeats)
        if rows is not None and len(rows):
            count("rows", len(rows))
            yield 0, rows.to_bytes()


@dataclass(frozen=True)
class Span:
    """Batches of the log up to `last` are to be trained on; `final`: none will follow."""

    last: int
    final: bool = False


class _Cut(beam.DoFn):
    """(0, feature rows) → spans of the training log."""

    def __init__(self, log: LiveLog, start: int) -> None:
        self.log, self.start = log, start
        self.shards = _Shards(self._fresh)

    def _fresh(self) -> Cutter:
        return Cutter(self.log, self.start)

    def process(
        self,
        element: tuple[int, bytes],
        bag: Any = _bag,
        note: Any = _note,
        timer: Any = _cut_at,
    ) -> None:
        """Let the rows wait until all shards of users have given out theirs."""
        key, rows = element
        with self.shards.open(key, bag, note) as journal:
            ticks, entries = journal.mirror.wait(rows)
            for entry in entries:
                journal.append(entry.kind, entry.data)
        for tick in ticks:
            _wake(timer, tick, 2)
        end = beam.transforms.window.GlobalWindow().max_timestamp()
        timer.set(end, dynamic_timer_tag=str(END_OF_STREAM))

    @on_timer(_CUT)
    def fire(
        self, key: int = _key, tag: str = _tag, bag: Any = _bag, note: Any = _note
    ) -> Iterator[Span]:
        """Log what is due."""
        tick = int(tag)
        with self.shards.open(key, bag, note) as journal:
            before = journal.mirror.number
            number, entries = journal.mirror.fire(tick)
            for entry in entries:
                journal.append(entry.kind, entry.data)
        if number > before or tick == END_OF_STREAM:
            yield Span(number, final=tick == END_OF_STREAM)


@dataclass(eq=False, kw_only=True)
class DedupeLive(beam.PTransform):
    """Valid events → `.unique`: (shard of users, events), and `.dead`: too late ones."""

    config: FeatureConfig

    def expand(self, events: beam.PCollection[pa.RecordBatch]) -> Any:
        """By shards of the event_id."""
        spread = beam.FlatMap(_by_id, self.config.shards)
        parsed = (
            events
            | "By id" >> spread.with_output_types(tuple[int, pa.RecordBatch])
            | "Dedupe" >> beam.ParDo(_Dedupe(self.config)).with_outputs(DEAD, main=UNIQUE)
        )
        parsed[UNIQUE].element_type = beam.typehints.Tuple[int, pa.RecordBatch]
        parsed[DEAD].element_type = pa.RecordBatch
        return parsed


def _by_id(events: pa.RecordBatch, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    return split(events.select(EVENTS.names), hash_strings(events.column("event_id")), shards)


@dataclass(eq=False, kw_only=True)
class FeaturizeLive(beam.PTransform):
    """(shard of users, unique events) → (0, feature rows as bytes)."""

    config: FeatureConfig

    def expand(
        self, events: beam.PCollection[tuple[int, pa.RecordBatch]]
    ) -> beam.PCollection[tuple[int, bytes]]:
        """By shards of users."""
        features = beam.ParDo(_Featurize(self.config))
        return events | "Features" >> features.with_output_types(tuple[int, bytes])


@dataclass(eq=False, kw_only=True)
class CutLive(beam.PTransform):
    """(0, feature rows) → spans of the training log."""

    log: LiveLog
    start: int

    def expand(self, rows: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[Span]:
        """One key."""
        return rows | "Cut" >> beam.ParDo(_Cut(self.log, self.start)).with_output_types(Span)
