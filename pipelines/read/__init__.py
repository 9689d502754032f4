"""The way in: one file per source, each yielding unparsed batches.

A source emits batches either of JSON lines (`pipelines.parse.LINES`) or of Parquet
rows; the schema's metadata says where they come from. `pipelines.validate` turns
both into events and dead letters.
"""

from pipelines.read.files import ReadEvents
from pipelines.read.live import is_stream, is_topic
from pipelines.read.sources import check_sources

__all__ = ["ReadEvents", "check_sources", "is_stream", "is_topic"]
