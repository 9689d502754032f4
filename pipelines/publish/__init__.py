"""Where versions are shown to the world: one file a sink, behind one small protocol."""

from pipelines.publish.base import Sink
from pipelines.publish.files import FileSink

__all__ = ["FileSink", "Sink"]
