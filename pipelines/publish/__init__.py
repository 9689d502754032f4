"""Where versions are shown to the world.

The store's own files (`files`) are part of making a version. Everything else is
a `Sink` that follows the store: one file a kind, one line in `sinks`.
"""

from pipelines.publish.base import Held, Mark, Shipment, Sink, SinkError
from pipelines.publish.files import FileSink
from pipelines.publish.follow import Follow, flush
from pipelines.publish.sinks import check_sinks, open_sink

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
