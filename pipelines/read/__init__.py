"""The way in: one file per source, each yielding unparsed batches.

A source emits batches either of JSON lines (`pipelines.read.parse.json_lines.LINES`) or of Parquet
rows; the schema's metadata says where they come from. `pipelines.clean.validate` turns
both into events and dead letters.
"""

from pipelines.read.bounded_source import ReadEvents
from pipelines.read.find_files import check_sources
from pipelines.read.growing_sources import is_stream, is_topic

__all__ = ["ReadEvents", "check_sources", "is_stream", "is_topic"]
