"""Files as a source: Parquet and JSON lines, local and remote, read in pieces."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
import pyarrow as pa

from pipelines.arrow import coder  # noqa: F401 - registers the coder of batches
from pipelines.read.find_files import Unit, find_files, open_file, units
from pipelines.read.jsonl_reader import read_lines
from pipelines.read.parquet_files import read_rows

__all__ = ["ReadEvents", "read_unit"]


def read_unit(unit: Unit) -> Iterator[pa.RecordBatch]:
    """A piece of a file → unparsed batches of 8 MiB or 65,536 rows at most.

    Raises:
        SourceError: the file went away, or is damaged.
    """
    with open_file(unit.file.path) as file:
        if unit.file.kind == "parquet":
            yield from read_rows(file, unit.file.path, start=unit.start, end=unit.end)
        else:
            yield from read_lines(
                file,
                unit.file.path,
                gzipped=unit.file.gzip,
                start=unit.start,
                end=unit.end,
            )


def _plan(sources: Sequence[str]) -> list[Unit]:
    return [unit for file in find_files(sources) for unit in units(file)]


@dataclass(eq=False, kw_only=True)
class ReadEvents(beam.PTransform):
    """Files, globs and folders → unparsed batches, for `pipelines.clean.validate.Validate`.

    Sources are looked up when the job runs; `check_sources` refuses bad ones before.
    """

    sources: Sequence[str]

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Sources → pieces → batches."""
        return (
            pbegin
            | "Sources" >> beam.Create([list(self.sources)], reshuffle=False)
            | "Pieces" >> beam.FlatMap(_plan).with_output_types(Unit)
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.FlatMap(read_unit).with_output_types(pa.RecordBatch)
        )
