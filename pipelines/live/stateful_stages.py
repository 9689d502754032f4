"""The three stateful DoFns of the live path: deduplicate, featurize, cut. Beam only.

Each keeps a journal per shard and wakes up at event-time ticks, under one
timer tag a tick: several that are due fire in order, in one bundle. A stage
fires a millisecond of event time after the one before it, so that all that it
gave out for a tick is there. No processing-time timers here: one that is pending
holds the watermark, and keeps a finished job from ending.
"""

import uuid
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
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
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.arrow.hashing import hash_strings
from pipelines.arrow.partition import split
from pipelines.clean.quarantine import quarantined
from pipelines.clean.too_late import too_late
from pipelines.config import CleanConfig, FeatureConfig, WindowSpec
from pipelines.live.state.journal import Entry, Journal, ShardState, ShardStates
from pipelines.live.state.micro_batches import END_OF_STREAM, Cutter, LiveLog
from pipelines.live.state.seen_events import SeenEvents, SettledEvents
from pipelines.live.state.start_state import StartState
from pipelines.live.state.timer_grid import TimerGrid
from pipelines.live.state.user_features import UserFeatures
from pipelines.live.store_check import StoreCheck
from pipelines.metrics import count, count_all
from pipelines.schema import EVENTS

__all__ = ["DEAD", "CutLive", "DedupeLive", "FeaturizeLive", "LogSpan"]

DEAD = "dead"
UNIQUE, ROWS = "unique", "rows"

_BAG = BagStateSpec("journal", BytesCoder())
_NOTE = ReadModifyWriteStateSpec("note", BytesCoder())
_TICK = TimerSpec("tick", TimeDomain.WATERMARK)
_bag: Any = beam.DoFn.StateParam(_BAG)
_note: Any = beam.DoFn.StateParam(_NOTE)
_timer: Any = beam.DoFn.TimerParam(_TICK)
_key: Any = beam.DoFn.KeyParam
_tag: Any = beam.DoFn.DynamicTimerTagParam

_mirrors: dict[str, ShardStates[Any]] = {}


@dataclass
class _Shards:
    """The journals of a stage: pickled with its DoFn, shared by its copies in a process."""

    fresh: Callable[[int], ShardState]
    stage: str = field(default_factory=lambda: uuid.uuid4().hex)

    def open(self, shard: Any, bag: Any, note: Any) -> Any:
        """The journal of a shard, as a context."""
        mirrors = _mirrors.setdefault(self.stage, ShardStates())
        return Journal.opened(mirrors, shard, bag, note, partial(self.fresh, shard))


class _Stage(beam.DoFn):
    """(shard, what comes) → what is told at ticks; keeps a mirror and a journal per shard.

    A stage says what a fresh mirror is, and what comes of one at a tick. Its mirror's
    `wait` takes in an element and returns (ticks to wake up at, entries to record).
    """

    delay_ms = 0
    """Event time by which this stage fires behind the first one."""

    def __init__(self) -> None:
        self.shards = _Shards(self._fresh)

    @abstractmethod
    def _fresh(self, shard: int) -> Any:
        """The mirror of a shard that has seen nothing of the stream."""

    @abstractmethod
    def _tell(self, mirror: Any, tick: int) -> tuple[list[Any], list[Entry]]:
        """Fire the mirror at `tick`; what to give out, what to record."""

    def process(
        self,
        element: tuple[int, Any],
        bag: Any = _bag,
        note: Any = _note,
        timer: Any = _timer,
    ) -> None:
        """Let the element wait until all that belongs before its ticks is there."""
        shard, value = element
        with self.shards.open(shard, bag, note) as journal:
            ticks, entries = journal.mirror.wait(value)
            for entry in entries:
                journal.append(entry.kind, entry.data)
        for tick in ticks:
            timer.set(_moment(tick, self.delay_ms), dynamic_timer_tag=str(tick))

    @on_timer(_TICK)
    def fire(
        self, key: int = _key, tag: str = _tag, bag: Any = _bag, note: Any = _note
    ) -> Iterator[Any]:
        """Give out what is due."""
        with self.shards.open(key, bag, note) as journal:
            told, entries = self._tell(journal.mirror, int(tag))
            for entry in entries:
                journal.append(entry.kind, entry.data)
        yield from told


def _moment(tick: int, delay_ms: int) -> Timestamp:
    if tick == END_OF_STREAM:
        return GlobalWindow().max_timestamp()
    return Timestamp(micros=(tick + delay_ms) * 1_000)


class _Dedupe(_Stage):
    """(shard of ids, events) → (shard of users, unique events), and letters of those too late."""

    def __init__(self, seed: StartState) -> None:
        super().__init__()
        self.seed = seed

    def _fresh(self, shard: int) -> SeenEvents:
        return self.seed.ids(shard)

    def _tell(self, mirror: SeenEvents, tick: int) -> tuple[list[Any], list[Entry]]:
        settled, entries = mirror.fire(tick)
        return ([] if settled is None else list(self._given_out(settled, tick))), entries

    def _given_out(self, settled: SettledEvents, tick: int) -> Iterator[Any]:
        count("duplicates", settled.duplicates)
        if settled.late:
            count("late", settled.late)
        if settled.too_late.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, too_late(settled.too_late, tick))
        if settled.unique.num_rows:
            users = hash_strings(settled.unique.column("user_id"))
            yield from split(settled.unique, users, self.seed.config.shards)


class _Featurize(_Stage):
    """(shard of users, unique events) → (0, rows as bytes), and letters of quarantined ones."""

    delay_ms = 1  # when all shards of ids have given out theirs

    def __init__(self, seed: StartState) -> None:
        super().__init__()
        self.seed = seed

    def _fresh(self, shard: int) -> UserFeatures:
        return self.seed.users(shard)

    def _tell(self, mirror: UserFeatures, tick: int) -> tuple[list[Any], list[Entry]]:
        parts, repeats, apart, entries = mirror.fire(tick)
        count("duplicates", repeats)
        told: list[Any] = [(0, rows.to_bytes()) for rows in parts]
        if parts:
            count("rows", sum(map(len, parts)))
        if apart and apart.letters.num_rows:
            count_all(quarantined(apart.by_rule))
            told.append(beam.pvalue.TaggedOutput(DEAD, apart.letters))
        return told, entries


@dataclass(frozen=True)
class LogSpan:
    """Batches of the log up to `last` are to be trained on; `final`: none will follow."""

    last: int
    final: bool = False


class _Cut(_Stage):
    """(0, feature rows as bytes) → spans of the training log."""

    delay_ms = 2  # when all shards of users have given out theirs

    def __init__(self, log: LiveLog, grid: TimerGrid, start: int, door: StoreCheck | None) -> None:
        super().__init__()
        self.log, self.grid, self.start, self.door = log, grid, start, door

    def setup(self) -> None:
        """Refuse to log to a store that is not the launcher's."""
        if self.door:
            self.door.check()

    def _fresh(self, shard: int) -> Cutter:
        return Cutter(self.log, self.grid, self.start)

    def _tell(self, mirror: Cutter, tick: int) -> tuple[list[Any], list[Entry]]:
        before = mirror.number
        number, entries = mirror.fire(tick)
        final = tick == END_OF_STREAM
        return ([LogSpan(number, final=final)] if final or number > before else []), entries


@dataclass(eq=False, kw_only=True)
class DedupeLive(beam.PTransform):
    """Valid events → `.unique`: (shard of users, events), and `.dead`: too late ones.

    Attributes:
        config: windows, horizon, lateness, shards.
        state: what runs on files left (`pipelines.live.state.start_state`).
    """

    config: FeatureConfig
    state: Path | None = None

    def expand(self, events: beam.PCollection[pa.RecordBatch]) -> Any:
        """By shards of the event_id."""
        spread, seed = beam.FlatMap(_by_id, self.config.shards), StartState(self.config, self.state)
        parsed = (
            events
            | "By id" >> spread.with_output_types(tuple[int, pa.RecordBatch])
            | "Dedupe" >> beam.ParDo(_Dedupe(seed)).with_outputs(DEAD, main=UNIQUE)
        )
        parsed[UNIQUE].element_type = beam.typehints.Tuple[int, pa.RecordBatch]
        parsed[DEAD].element_type = pa.RecordBatch
        return parsed


def _by_id(events: pa.RecordBatch, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    return split(events.select(EVENTS.names), hash_strings(events.column("event_id")), shards)


@dataclass(eq=False, kw_only=True)
class FeaturizeLive(beam.PTransform):
    """(shard of users, unique events) → `.rows`: (0, feature rows as bytes), and `.dead`.

    Attributes:
        config: of the kernel.
        state: what runs on files left (`pipelines.live.state.start_state`).
        clean: which events are quarantined, and become dead letters.
    """

    config: FeatureConfig
    state: Path | None = None
    clean: CleanConfig = field(default_factory=CleanConfig)

    def expand(self, events: beam.PCollection[tuple[int, pa.RecordBatch]]) -> Any:
        """By shards of users."""
        features = beam.ParDo(_Featurize(StartState(self.config, self.state, self.clean)))
        made = events | "Features" >> features.with_outputs(DEAD, main=ROWS)
        made[ROWS].element_type = beam.typehints.Tuple[int, bytes]
        made[DEAD].element_type = pa.RecordBatch
        return made


@dataclass(eq=False, kw_only=True)
class CutLive(beam.PTransform):
    """(0, feature rows) → spans of the training log."""

    log: LiveLog
    window: WindowSpec
    start: int
    door: StoreCheck | None = None

    def expand(self, rows: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[LogSpan]:
        """One key."""
        cut = beam.ParDo(_Cut(self.log, TimerGrid.of_rows(self.window), self.start, self.door))
        return rows | "Cut" >> cut.with_output_types(LogSpan)
