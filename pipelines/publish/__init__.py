"""Where versions are shown to the world.

The store's own files (`files`) are part of making a version. Everything else is
a `Sink` that follows the store: one file a kind, one line in `sinks`.
"""

from pipelines.publish.embeddings_to_parquet import FileSink
from pipelines.publish.registry import check_sinks, open_sink
from pipelines.publish.sink import Shipment, Sink, SinkError, SinkState, VersionMark
from pipelines.publish.sink_threads import StartFollowers, catch_up_sinks

__all__ = [
    "FileSink",
    "Shipment",
    "Sink",
    "SinkError",
    "SinkState",
    "StartFollowers",
    "VersionMark",
    "catch_up_sinks",
    "check_sinks",
    "open_sink",
]
