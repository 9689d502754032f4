"""Events → feature rows as a Beam stage: gather each shard of users, call the kernel."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.arrow.columns import Ints
from pipelines.arrow.hashing import Hashes, hash_strings
from pipelines.arrow.shuffle import Spread
from pipelines.arrow.spill_files import Place, gather
from pipelines.clean.duplicate_rule import differing, drop_repeats
from pipelines.clean.quarantine import Suspicion, quarantined
from pipelines.config import FeatureConfig
from pipelines.features.aggregate import aggregate
from pipelines.features.observations import observe, read_log
from pipelines.features.rows import FeatureRows
from pipelines.metrics import count, count_all
from pipelines.schema import EVENTS

__all__ = ["DEAD", "ROWS", "FeatureRowsCoder", "Featurize", "with_dead"]

ROWS, DEAD = "rows", "dead"

_log = logging.getLogger("rillet")


class FeatureRowsCoder(beam.coders.Coder):
    """Beam's coder for `FeatureRows`: two Arrow IPC streams."""

    def encode(self, value: FeatureRows) -> bytes:
        """Rows → bytes."""
        return value.to_bytes()

    def decode(self, encoded: bytes) -> FeatureRows:
        """Bytes → rows."""
        return FeatureRows.from_bytes(encoded)

    def estimate_size(self, value: FeatureRows) -> int:
        """Bytes of the columns; without this, Beam encodes samples just to measure them."""
        return int(value.rows.nbytes + value.timeline.nbytes)

    def is_deterministic(self) -> bool:
        """Equal rows may differ in bytes (padding, dictionaries): never a key."""
        return False

    def to_type_hint(self) -> type[FeatureRows]:
        """The type that this coder is registered for."""
        return FeatureRows

    def __eq__(self, other: object) -> bool:
        """All of them are alike."""
        return type(self) is type(other)

    def __hash__(self) -> int:
        """All of them are alike."""
        return hash(type(self))


beam.coders.registry.register_coder(FeatureRows, FeatureRowsCoder)


@dataclass(eq=False, kw_only=True)
class Featurize(beam.PTransform):
    """Valid events → `.rows`: (shard, rows), and `.dead` letters of those in quarantine.

    The rows do not depend on the number of shards. Counts `duplicates` and `rows`.
    """

    config: FeatureConfig
    suspicion: Suspicion
    lost: beam.PCollection[pa.RecordBatch]  # of `pipelines.clean.deduplicate.FindRepeats`
    folder: Path  # for the shuffle; every worker sees it

    def expand(
        self, events: beam.PCollection[pa.RecordBatch]
    ) -> Any:  # DoOutputsTuple; Beam warns of that hint
        """By user, the whole past of a user together."""
        spread = Spread(_users, self.config.shards, EVENTS, self.folder)
        kernel = beam.ParDo(_Kernel(self.config, self.suspicion), beam.pvalue.AsList(self.lost))
        return with_dead(
            events
            | "Spread" >> beam.ParDo(spread).with_output_types(tuple[int, Place])
            | "By user" >> beam.GroupByKey()
            | "Features" >> kernel.with_outputs(DEAD, main=ROWS)
        )


def with_dead(made: beam.pvalue.DoOutputsTuple) -> beam.pvalue.DoOutputsTuple:
    """Rows and dead letters with the types of what is in them."""
    made[ROWS].element_type = beam.typehints.Tuple[int, FeatureRows]
    made[DEAD].element_type = pa.RecordBatch
    return made


def _users(batch: pa.RecordBatch) -> Hashes:
    return hash_strings(batch.column("user_id"))


class _Kernel(beam.DoFn):
    """Calls the kernel on a shard, and counts."""

    def __init__(self, config: FeatureConfig, suspicion: Suspicion) -> None:
        self.config, self.suspicion = config, suspicion

    def process(
        self, shard: tuple[int, Iterable[Place]], lost: list[pa.RecordBatch]
    ) -> Iterator[Any]:
        """One shard, whole."""
        number, places = shard
        events = gather(places, EVENTS)
        arrived = events.num_rows
        unique = drop_repeats(events, lost)
        apart = self.suspicion.set_apart(unique)
        log = read_log(apart.events)
        rows = aggregate(observe(log, self.config), self.config)
        lost_elsewhere, repeats = arrived - unique.num_rows, _left_out(apart.events, log.source)
        count("duplicates", arrived - apart.letters.num_rows - len(log.user))
        if apart.repeats:
            lost_elsewhere += differing(unique)
        elif len(repeats):
            lost_elsewhere += differing(apart.events, repeats)
        count("duplicates_differ", lost_elsewhere)
        count_all(quarantined(apart.by_rule))
        count("rows", len(rows))
        _log.info("features: %s rows of shard %d", f"{len(rows):,}", number)
        if apart.letters.num_rows:
            yield beam.pvalue.TaggedOutput(DEAD, apart.letters)
        yield number, rows


def _left_out(events: pa.RecordBatch, kept: Ints) -> Ints:
    """Positions `[m]` of the EVENTS `[n]` that are not among those that were kept."""
    left = np.ones(events.num_rows, bool)
    left[kept] = False
    return np.flatnonzero(left)
