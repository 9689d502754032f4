"""Where versions are shown to the world.

The store's own files (`files`) are part of making a version. Everything else is
a `Sink` that follows the store: one file a kind, one line in `sinks`.
"""

from pipelines.publish.catch_up import Follow, flush
from pipelines.publish.parquet_sink import FileSink
from pipelines.publish.registry import check_sinks, open_sink
from pipelines.publish.sink import Held, Mark, Shipment, Sink, SinkError

__all__ = [
    "FileSink",
    "Follow",
    "Held",
    "Mark",
    "Shipment",
    "Sink",
    "SinkError",
    "check_sinks",
    "flush",
    "open_sink",
]
