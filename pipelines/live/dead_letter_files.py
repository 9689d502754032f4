"""Where the live job's dead letters go: files, each letter in them once."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
from filelock import FileLock

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.clean.dead_letters import add_to_file, count_reasons
from pipelines.live.store_check import StoreCheck
from pipelines.metrics import count

__all__ = ["KeepStreamDeadLetters"]

STRETCH = 1 << 16
"""Positions of a source whose letters share a file: bounds what is written again for one more."""


class _Keep(beam.DoFn):
    """Dead letters → files, each letter once, however often it is seen."""

    def __init__(self, folder: Path, door: StoreCheck | None) -> None:
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
            for reason, number in count_reasons([part]).items():
                count(f"dead_{reason}", number)
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / ".lock"):
                yield str(add_to_file(self.folder, key, [part]))


@dataclass(eq=False, kw_only=True)
class KeepStreamDeadLetters(beam.PTransform):
    """Batches of DEAD_LETTERS → files in `folder`, one for a stretch of a source."""

    folder: Path
    door: StoreCheck | None = None

    def expand(self, letters: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """At once: a stream has no end at which one could group them."""
        return letters | "Write" >> beam.ParDo(_Keep(self.folder, self.door)).with_output_types(str)
