"""Dead letters of the live path: events that came too late, and where all letters go."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from filelock import FileLock

from models.manifest import utc_ms
from pipelines import arrow  # noqa: F401 - registers the coder of batches
from pipelines.columns import as_int64
from pipelines.dead import keep, reasons
from pipelines.live.door import Door
from pipelines.metrics import count
from pipelines.schema import DEAD_LETTERS

__all__ = ["KeepLetters", "too_late"]

STRETCH = 1 << 16
"""Positions of a source whose letters share a file: bounds what is written again for one more."""


def too_late(events: pa.RecordBatch, tick: int) -> pa.RecordBatch:
    """EVENTS `[n]` that came after their window could be revised → DEAD_LETTERS `[n]`.

    Args:
        events: the events; the payload is their content as a line of JSON that can be read
            again, the position their time.
        tick: the event time (ms) that the stream had reached; also `seen_at`, so that a
            restart writes the same letters.
    """
    count = events.num_rows
    payload = [
        json.dumps(row, default=_text, ensure_ascii=False, sort_keys=True).encode()
        for row in events.to_pylist(maps_as_pydicts="lossy")
    ]
    reached = utc_ms(tick).isoformat()
    detail = [
        f"event_time: got {time.isoformat()}, the stream had reached {reached} and the window's "
        "revisions ended; raise features.allowed_lateness to keep such events"
        for time in events.column("event_time").to_pylist()
    ]
    columns = [
        pa.array(payload, pa.binary()),
        pa.array(["too_late"] * count, pa.string()),
        pa.array(detail, pa.string()),
        pa.array(["stream"] * count, pa.string()),
        pa.array(as_int64(events.column("event_time"))),
        pa.array([tick] * count, pa.int64()).cast(DEAD_LETTERS.field("seen_at").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTERS)


def _text(time: datetime) -> str:
    return time.isoformat()


class _Keep(beam.DoFn):
    """Dead letters → files, each letter once, however often it is seen."""

    def __init__(self, folder: Path, door: Door | None) -> None:
        self.folder, self.door = folder, door

    def setup(self) -> None:
        """Refuse to write to a store that is not the launcher's."""
        if self.door:
            self.door.check()

    def process(self, letters: pa.RecordBatch) -> Iterator[str]:
        """Add them to the file of their stretch of the log."""
        sources = letters.column("source").to_numpy(zero_copy_only=False)
        stretch = letters.column("position").to_numpy() // STRETCH
        keys = np.array([f"{s}#{n}" for s, n in zip(sources, stretch, strict=True)])
        for key in np.unique(keys).tolist():
            part = letters.filter(pa.array(keys == key))
            for reason, number in reasons([part]).items():
                count(f"dead_{reason}", number)
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                yield str(keep(self.folder, key, [part]))


@dataclass(eq=False, kw_only=True)
class KeepLetters(beam.PTransform):
    """Batches of DEAD_LETTERS → files in `folder`, one for a stretch of a source."""

    folder: Path
    door: Door | None = None

    def expand(self, letters: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """At once: a stream has no end at which one could group them."""
        return letters | "Write" >> beam.ParDo(_Keep(self.folder, self.door)).with_output_types(str)
