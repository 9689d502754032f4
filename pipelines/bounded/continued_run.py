"""Featurize with a past: the bounded job's stages that go on from an earlier run.

::

    events ──► Recognise ──► fresh ──► (deduplicate) ──► FeaturizeOn ──► rows
                   │                                        ▲    │
                   ▼                                  users of   ▼
              too late, repeats                   earlier runs  users, ids → state/pending
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from models.store import atomic_files
from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.arrow.columns import as_int64
from pipelines.arrow.hashing import Hashes, hash_strings
from pipelines.arrow.shuffle import Spread
from pipelines.arrow.spill_files import Place, gather
from pipelines.bounded.between_runs.run_state import (
    RunState,
    as_revisions,
    load_run_state,
    split_by_novelty,
    write_ids,
)
from pipelines.bounded.featurize import DEAD, ROWS, with_dead
from pipelines.clean.duplicate_rule import differing, drop_repeats
from pipelines.clean.quarantine import Suspicion, quarantined
from pipelines.clean.too_late import too_late
from pipelines.config import FeatureConfig
from pipelines.features.rows import FeatureRows
from pipelines.features.user_state import UserMemory, rows_and_memory
from pipelines.metrics import count, count_all, observe
from pipelines.schema import EVENTS

__all__ = ["DEAD", "FRESH", "FeaturizeOn", "Recognise"]

FRESH = "fresh"


class _Recognise(beam.DoFn):
    """Calls `split_by_novelty`, and counts."""

    def __init__(self, state: Path, config: FeatureConfig) -> None:
        self._state, self._config = state, config

    def setup(self) -> None:
        """Load what the last run left."""
        self._past = load_run_state(self._state)

    def process(self, events: pa.RecordBatch) -> Iterator[Any]:
        found = split_by_novelty(events, self._past, self._config)
        count("duplicates", found.repeats)
        count("duplicates_differ", found.others)
        if found.too_late.num_rows:
            oldest = int(as_int64(found.too_late.column("event_time")).min())
            observe("too_late_by_ms", self._past.frontier - oldest)
            letters = too_late(found.too_late, self._past.frontier, self._config.allowed_lateness)
            at = letters.schema.get_field_index("position")
            nowhere = pa.array(np.zeros(letters.num_rows, np.int64))  # the same in any run
            letters = letters.set_column(at, letters.schema.field(at), nowhere)
            yield beam.pvalue.TaggedOutput(DEAD, letters)
        if found.fresh.num_rows:
            yield found.fresh


@dataclass(eq=False, kw_only=True)
class Recognise(beam.PTransform):
    """Valid events → `.fresh` ones and `.dead` letters of those that came too late.

    Counts `duplicates`, and among them `duplicates_differ`: other events of the same id.

    Attributes:
        state: folder that the last completed run left, or one that does not exist.
        config: how long ids are remembered, and how late is too late.
    """

    state: Path
    config: FeatureConfig

    def expand(self, events: beam.PCollection[pa.RecordBatch]) -> beam.pvalue.DoOutputsTuple:
        """Batches → two collections."""
        told = events | "TellApart" >> beam.ParDo(_Recognise(self.state, self.config)).with_outputs(
            DEAD, main=FRESH
        )
        told[FRESH].element_type = pa.RecordBatch
        told[DEAD].element_type = pa.RecordBatch
        return told


@dataclass(eq=False, kw_only=True)
class FeaturizeOn(beam.PTransform):
    """Fresh events → `.rows`: (shard, rows), going on from the users of earlier runs.

    The rows do not depend on the number of shards; `.dead` are letters of events in
    quarantine. What the next run has to know is left in `pending`. Counts `duplicates` and `rows`.

    Attributes:
        config: of the kernel.
        suspicion: which events are quarantined.
        state: folder that the last completed run left, or one that does not exist.
        pending: folder that becomes the next one.
        lost: of `pipelines.clean.deduplicate.FindRepeats`.
        folder: for the shuffle; every worker sees it.
    """

    config: FeatureConfig
    suspicion: Suspicion
    state: Path
    pending: Path
    lost: beam.PCollection[pa.RecordBatch]
    folder: Path

    def expand(
        self, events: beam.PCollection[pa.RecordBatch]
    ) -> Any:  # DoOutputsTuple; Beam warns of that hint
        """By user: the past and the present of a user together."""
        spread = Spread(_users, self.config.shards, EVENTS, self.folder)
        remembered = (
            events.pipeline
            | "State" >> beam.Create([str(self.state)], reshuffle=False)
            | "Recall"
            >> beam.FlatMap(_recall, self.config.shards).with_output_types(tuple[int, bytes])
        )
        fresh = events | "Spread" >> beam.ParDo(spread).with_output_types(tuple[int, Place])
        kernel = beam.ParDo(
            _Kernel(self.config, self.suspicion, self.state, self.pending),
            beam.pvalue.AsList(self.lost),
        )
        return with_dead(
            {"events": fresh, "users": remembered}
            | "By user" >> beam.CoGroupByKey()
            | "Features" >> kernel.with_outputs(DEAD, main=ROWS)
        )


def _users(batch: pa.RecordBatch) -> Hashes:
    return hash_strings(batch.column("user_id"))


def _recall(state: str, shards: int) -> Iterator[tuple[int, bytes]]:
    """The users of earlier runs, however many shards they were in, by today's shards."""
    for path in sorted(Path(state).glob("users-*.bin")):
        memory = UserMemory.from_bytes(path.read_bytes())
        shard = hash_strings(memory.facts.column("user_id")) % np.uint64(shards)
        for number in np.unique(shard).tolist():
            part = memory.take(np.flatnonzero(shard == number))
            yield int(number), part.to_bytes()


class _Kernel(beam.DoFn):
    """Calls the kernel on a shard, and leaves what the next run has to know of it."""

    def __init__(
        self, config: FeatureConfig, suspicion: Suspicion, state: Path, pending: Path
    ) -> None:
        self._config, self._suspicion = config, suspicion
        self._state, self._pending = state, pending

    def setup(self) -> None:
        """Load what the last run left."""
        self._past = load_run_state(self._state)

    def process(
        self, shard: tuple[int, dict[str, Iterable[Any]]], lost: list[pa.RecordBatch]
    ) -> Iterator[Any]:
        number, given = shard
        arrived = gather(given["events"], EVENTS)
        parts = [UserMemory.from_bytes(data) for data in given["users"]]
        memory = UserMemory.concat(parts) if parts else UserMemory.empty()
        events = drop_repeats(arrived, lost)
        apart = self._suspicion.set_apart(events)
        rows, memory, repeats = featurize(memory, apart.events, self._past, self._config)
        lost_elsewhere = arrived.num_rows - events.num_rows
        count("duplicates", lost_elsewhere + apart.repeats + repeats)
        repeated = apart.repeats + repeats
        count("duplicates_differ", lost_elsewhere + (differing(events) if repeated else 0))
        count_all(quarantined(apart.by_rule))
        self._leave(number, memory, events)
        if apart.letters.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, apart.letters)
        if rows is not None:
            count("rows", len(rows))
            yield number, rows

    def _leave(self, number: int, memory: UserMemory, events: pa.RecordBatch) -> None:
        if memory.facts.num_rows:
            atomic_files.write_bytes(self._pending / f"users-{number:04d}.bin", memory.to_bytes())
        if events.num_rows:
            ids = hash_strings(events.column("event_id"))
            times = as_int64(events.column("event_time"))
            path = self._pending / f"ids-{number:04d}.arrow"
            write_ids(path, ids, times, _users(events), hash_strings(events.column("item_id")))


def featurize(
    memory: UserMemory, events: pa.RecordBatch, past: RunState, config: FeatureConfig
) -> tuple[FeatureRows | None, UserMemory, int]:
    """Fresh EVENTS and the memory of all users of a shard → (rows, their memory, repeats)."""
    if not events.num_rows:
        return None, memory, 0
    known, last = memory.facts.column("user_id"), as_int64(memory.facts.column("last_time"))
    concerned = np.isin(hash_strings(known), _users(events))
    rows, told, repeats = rows_and_memory(memory.take(np.flatnonzero(concerned)), events, config)
    # Not by the newest event: one wrong clock would make the store forget everybody.
    oldest = past.frontier - config.allowed_lateness - config.retention
    alive = last >= oldest if config.retention else np.ones(len(last), bool)
    others = memory.take(np.flatnonzero(~concerned & alive))
    kept = [part for part in (others, told) if part.facts.num_rows]
    return as_revisions(rows, past, config), UserMemory.concat(kept), repeats
