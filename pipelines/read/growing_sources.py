"""Sources that grow while they are read: which those are, and what they are called."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.errors import RequestError

if TYPE_CHECKING:
    from pipelines.read.growing_folder import DirectorySource
    from pipelines.read.kafka.source_spec import KafkaSource

__all__ = ["is_stream", "is_topic", "live_source"]


def is_topic(events: Sequence[str]) -> bool:
    """Whether a source is a Kafka topic."""
    return any(source.startswith("kafka://") for source in events)


def is_stream(events: Sequence[str], *, local: bool) -> bool:
    """Whether a run on these sources is a live one.

    Args:
        events: as given with `--events`.
        local: whether the runner is the one in this process, which reads a topic up to
            now as a bounded log.

    Raises:
        SourceError: a source's options are wrong.
        RequestError: there are several, one of them a stream.
    """
    if not is_topic(events) and not any(source.startswith("dir:") for source in events):
        return False
    return not (local and is_topic(events) and not live_source(events).endless)


def live_source(events: Sequence[str]) -> "KafkaSource | DirectorySource":
    """The one source of a live run.

    Raises:
        SourceError: it is not there, or its options are wrong.
        RequestError: there are several.
    """
    if len(events) != 1:
        raise RequestError(
            f"a stream is read alone, got {len(events)} sources: give one topic or one folder"
        )
    if events[0].startswith("kafka://"):
        from pipelines.read.kafka.source_spec import KafkaSource

        return KafkaSource.parse(events[0])
    from pipelines.read.growing_folder import DirectorySource

    return DirectorySource.parse(events[0])
