"""What `kafka://host:port/topic?…` says, and where its partitions begin and end."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.config import parse_duration
from pipelines.errors import SourceError
from pipelines.kafka_uri import Topic
from pipelines.read.kafka.wire.decoder import FORMATS, NEED_REGISTRY, Decoder
from pipelines.read.kafka.wire.registry import Registry
from pipelines.read.parse.event_rules import EARLIEST_MS, parse_time
from pipelines.read.partition_progress import Partition

__all__ = ["KafkaSource"]

_OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")

_SECONDS = EARLIEST_MS // 1_000

_DEFAULTS: dict[str, Any] = {
    # Known brokers come back within a second, not within ten.
    "reconnect.backoff.max.ms": 1_000,
    "queued.max.messages.kbytes": 32_768,
}


@dataclass(frozen=True)
class KafkaSource:
    """A topic to read.

    Attributes:
        brokers: `host:port`, separated by commas.
        topic: its name.
        start: empty or `earliest`, `latest`, an instant (RFC 3339 or epoch milliseconds), or
            offsets as `partition:offset,…`; partitions not named start at the earliest.
        until: `now` reads what is there when the job starts, and ends; empty: for ever.
        disorder_ms: how far behind the newest event of its partition an event may lie;
            later ones are late. 5 s: what mobile clients usually need.
        idle_ms: silence after which a partition no longer holds the watermark. 30 s.
        readers: read side by side; partitions are dealt out among them.
        poll_s: how long a read waits for records: shorter is fresher, longer cheaper.
        stay_s: how long a reader works through a backlog before it yields.
        defer_s: pause between two reads.
        batch: records in one Arrow batch at most.
        discover_s: seconds between two looks for new partitions.
        wire: how values are wrapped, one of `pipelines.read.kafka.wire.decoder.FORMATS`.
        registry: address of the schema registry; empty: none.
        registry_settings: its settings, named `schema.registry.…`.
        settings: librdkafka's own, such as `security.protocol`.
    """

    brokers: str
    topic: str
    start: str = ""
    until: str = ""
    disorder_ms: int = 5_000
    idle_ms: int = 30_000
    readers: int = 1
    poll_s: float = 0.05
    stay_s: float = 1.0
    defer_s: float = 0.01
    batch: int = 20_000
    discover_s: float = 30.0
    wire: str = "auto"
    registry: str = ""
    registry_settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, uri: str, **more: Any) -> "KafkaSource":
        """Read a URI; names with a dot, and those in the file `config=`, go to librdkafka.

        >>> KafkaSource.parse("kafka://localhost:9092/clicks?until=now").until
        'now'

        Raises:
            SourceError: the URI is incomplete or says something that nobody knows.
        """
        topic = Topic.parse(uri)
        own: dict[str, Any] = {}
        for name, value in topic.options.items():
            own |= _option(name, value)
        asks = {n: v for n, v in topic.settings.items() if n.startswith("schema.registry.")}
        rest = {n: v for n, v in topic.settings.items() if n not in asks}
        own |= {"registry": own.get("registry") or asks.pop("schema.registry.url", "")}
        found = cls(
            topic.brokers, topic.name, settings=rest, registry_settings=asks, **{**own, **more}
        )
        found.decoder()  # what is wrong with it is said at once
        return found

    @property
    def endless(self) -> bool:
        """Whether the stream goes on until it is stopped."""
        return self.until == ""

    @property
    def start_given(self) -> bool:
        """Whether it was said where to begin."""
        return bool(self.start)

    def decoder(self, wait_s: float = 60.0) -> Decoder:
        """What unwraps the topic's values; a registry that is away is waited for so long.

        Raises:
            SourceError: a registry is needed, and none is named, or its address is wrong.
        """
        if not self.registry:
            if self.wire in NEED_REGISTRY or self.registry_settings:
                raise SourceError(
                    f"wire={self.wire} needs the schemas that values were written with; add "
                    "registry=http://host:port"
                )
            return Decoder(self.wire)
        return Decoder(self.wire, Registry.of(self.registry, self.registry_settings, wait_s=wait_s))

    def consumer_settings(self) -> dict[str, Any]:
        """What librdkafka is told."""
        return {
            **_DEFAULTS,
            "group.id": "rillet",  # asked for, and used for nothing
            **self.settings,
            "bootstrap.servers": self.brokers,
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }

    def place(self, bounds: Mapping[int, tuple[int, int]], starts: Mapping[int, int]) -> Any:
        """Partition → where to begin and end.

        Args:
            bounds: partition → (earliest offset, offset after the newest).
            starts: partition → first offset at or after the instant asked for.
        """
        given = dict(_pairs(self.start)) if _OFFSETS.fullmatch(self.start) else {}
        placed = {}
        for number, (low, high) in bounds.items():
            first = low
            if self.start == "latest":
                first = high
            elif number in given:
                first = max(given[number], low)
            elif number in starts:
                first = starts[number] if starts[number] >= 0 else high
            placed[number] = Partition(first, None if self.endless else max(high, first))
        return placed

    @property
    def instant_ms(self) -> int | None:
        """The instant to start at, when one was given."""
        if self.start in {"", "earliest", "latest"} or _OFFSETS.fullmatch(self.start):
            return None
        return _instant(self.start)


def _instant(text: str) -> int:
    if re.fullmatch(r"-?\d+", text):
        number = int(text)
        if _SECONDS <= number < EARLIEST_MS:  # in seconds that is after 1990
            raise SourceError(
                f"start={text} would be before 1990: epoch numbereconds are expected; were it "
                f"seconds, start={text}000 is meant"
            )
        return number
    millis = parse_time(text)
    if not isinstance(millis, int):
        raise SourceError(
            f"start={text} is no place in a topic; write earliest, latest, an instant such as "
            "2026-01-31T00:00:00Z, or partition:offset,…"
        )
    return millis


def _pairs(text: str) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, _, b in (pair.partition(":") for pair in text.split(","))]


def _option(name: str, value: str) -> dict[str, Any]:
    """One parameter of the URI, as an argument."""
    durations = {"disorder": "disorder_ms", "idle": "idle_ms"}
    seconds = {"poll": "poll_s", "stay": "stay_s", "defer": "defer_s", "discover": "discover_s"}
    counts = {"readers", "batch"}
    known = ["start", "until", "config", "wire", "registry", *durations, *seconds, *counts]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        cure = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
        raise SourceError(f"a Kafka source has no option {name}: {cure}")
    try:
        if name in durations:
            return {durations[name]: parse_duration(value)}
        if name in seconds:
            return {seconds[name]: parse_duration(value) / 1_000}
        if name in counts:
            return {name: _positive(value)}
    except ValueError as error:
        raise SourceError(f"{name}={value}: {error}") from None
    if name == "wire" and value not in FORMATS:
        raise SourceError(f"wire={value} is no format; choose from {', '.join(FORMATS)}")
    if name == "until" and value != "now":
        raise SourceError(f"until={value}: only until=now is known; leave it out to read for ever")
    if name == "start" and value not in {"earliest", "latest"} and not _OFFSETS.fullmatch(value):
        _instant(value)
    return {name: value}


def _positive(value: str) -> int:
    if not value.isdigit() or int(value) < 1:
        raise ValueError("a whole number from 1 is expected")
    return int(value)
