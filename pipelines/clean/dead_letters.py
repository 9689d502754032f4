"""Dead letters of a run: a Parquet file per source (or day), each letter in it once."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.store import atomic_files
from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.metrics import count
from pipelines.schema import DEAD_LETTERS

__all__ = ["KeepDeadLetters", "add_to_file"]

_STREAM, _DAY_MS = "stream", 86_400_000
_IDENTITY = ["source", "position", "reason", "payload"]


def add_to_file(folder: Path, source: str, letters: Iterable[pa.RecordBatch]) -> Path:
    """Add a source's letters to its file; those that are there already stay as they are.

    Args:
        folder: where the files lie.
        source: the one that all letters are from.
        letters: of schema DEAD_LETTERS, in any order.
    """
    path = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:16]}.parquet"
    tables = [pa.Table.from_batches(list(letters), schema=DEAD_LETTERS)]
    if path.exists():
        tables.insert(0, pq.read_table(path))
    table = pa.concat_tables(tables)
    # The first of equal letters stays: it says when it was first seen.
    numbered = table.append_column("nr", pa.array(range(len(table)), pa.int64()))
    first = numbered.group_by(_IDENTITY, use_threads=False).aggregate([("nr", "min")])
    table = table.take(first["nr_min"]).sort_by([(name, "ascending") for name in _IDENTITY])
    atomic_files.write_file(path, lambda file: pq.write_table(table, file, compression="zstd"))
    return path


class _Keep(beam.DoFn):
    """(source, its letters) → the file's name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def process(self, keyed: tuple[str, Iterable[pa.RecordBatch]]) -> Iterator[str]:
        source, batches = keyed
        letters = list(batches)
        for reason, number in count_reasons(letters).items():
            count(f"dead_{reason}", number)
        yield str(add_to_file(self._folder, source, letters))


def count_reasons(letters: Iterable[pa.RecordBatch]) -> dict[str, int]:
    """How many letters there are of each reason."""
    found: dict[str, int] = {}
    for batch in letters:
        for entry in batch.column("reason").value_counts().to_pylist():
            found[entry["values"]] = found.get(entry["values"], 0) + entry["counts"]
    return found


@dataclass(eq=False, kw_only=True)
class KeepDeadLetters(beam.PTransform):
    """Batches of DEAD_LETTERS, each of one source → files in `folder`, counted by reason."""

    folder: Path

    def expand(self, letters: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """One file per source."""
        return (
            letters
            | "BySource" >> beam.FlatMap(_by_file).with_output_types(tuple[str, pa.RecordBatch])
            | "Gather" >> beam.GroupByKey()
            | "Write" >> beam.ParDo(_Keep(self.folder)).with_output_types(str)
        )


def _by_file(letters: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Letters of a source → (name of a file, its letters).

    Those of settled events have the event's time as position: they are put together by
    day, for a flood may leave more of them than one file should hold.
    """
    source = letters.column("source")[0].as_py()
    if source != _STREAM:
        yield source, letters
        return
    days = letters.column("position").to_numpy() // _DAY_MS
    for day in np.unique(days).tolist():
        yield f"{source}#{day}" if day else source, letters.filter(pa.array(days == day))
