"""Deduplication by event_id over the whole log, without shuffling the log for it.

Most repeats are a message delivered twice: same id, user and instant. Those meet
in the user's own shard, where they are left out (`pipelines.features.event_order`). What
only a look at all events can tell is whether an id came with *another* user or
instant. For that, a print of each event (`pipelines.clean.duplicate_rule`: a fifth of its
size) goes to the shard of its id, and the few that lose come back::

    events ─┬──────────────────────────────► by user ──► features
            └► prints ──► by id ──► losers ─────┘

"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.arrow.hashing import Hashes
from pipelines.arrow.shuffle import Spread
from pipelines.arrow.spill_files import Place, gather
from pipelines.clean.duplicate_rule import FINGERPRINTS, fingerprints_of, repeated_fingerprints

__all__ = ["FindRepeats"]


@dataclass(eq=False, kw_only=True)
class FindRepeats(beam.PTransform):
    """Events → keys of the prints that are duplicates, for `drop`."""

    horizon_ms: int
    shards: int
    folder: Path  # for the shuffle; every worker sees it

    def expand(self, events: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """By id, all prints of an id together."""
        spread = Spread(_ids, self.shards, FINGERPRINTS, self.folder, fingerprints_of)
        return (
            events
            | "Prints" >> beam.ParDo(spread).with_output_types(tuple[int, Place])
            | "By id" >> beam.GroupByKey()
            | "Losers" >> beam.FlatMap(_find, self.horizon_ms).with_output_types(pa.RecordBatch)
        )


def _ids(batch: pa.RecordBatch) -> Hashes:
    return np.asarray(batch.column("id").to_numpy())


def _find(shard: tuple[int, Iterable[Place]], horizon_ms: int) -> Iterator[pa.RecordBatch]:
    lost = repeated_fingerprints(gather(shard[1], FINGERPRINTS), horizon_ms)
    if lost.num_rows:
        yield lost
