"""Conversation with Kafka's brokers: the only file that knows confluent-kafka.

A broker that is away is waited for: reads come back empty, and no partition
counts as idle while it cannot be asked.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import tenacity

from pipelines.errors import SourceError
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.read.kafka.wire.decoder import Decoder, Sorted
from pipelines.read.parse.event_rules import Fault
from pipelines.read.parse.json_lines import LINES
from pipelines.read.partition_progress import Partition, Positions

__all__ = ["Reader", "Records", "ask_bounds", "open_reader", "partitions_by_reader"]

_log = logging.getLogger("rillet")
_ASK_S = 5.0
_WAIT_S = 15.0
"""How long the launcher waits for a broker before it refuses."""


Faulty = list[tuple[bytes, Fault, int]]
"""Values as they were received, why they cannot be unwrapped, and their offsets."""


@dataclass(frozen=True)
class Records:
    """What one read brought.

    Attributes:
        batches: of schema LINES, one for each partition that had records.
        partitions: the number of each batch's partition.
        upto: partition → offset after the last one read or found to be empty.
        added: partitions that were not there before.
        full: whether more is likely to be there already.
        lost: offsets that were deleted before they were read.
        faulty: of each batch, the records that could not be unwrapped.
        dropped: records that are no events and no mistakes, by their kind.
    """

    batches: list[pa.RecordBatch]
    partitions: list[int]
    upto: Mapping[int, int]
    added: Mapping[int, Partition]
    full: bool
    lost: int = 0
    faulty: list[Faulty] = field(default_factory=list)
    dropped: Mapping[str, int] = field(default_factory=dict)


def consumer(source: KafkaSource, heard: Callable[[Any], None] | None = None) -> Any:
    """A consumer with the source's settings.

    Args:
        source: what to read.
        heard: called with each `KafkaError` that concerns no single request.

    Raises:
        SourceError: the client library is missing, or refuses a setting.
    """
    try:
        import confluent_kafka
    except ImportError:
        raise SourceError(
            "reading Kafka needs confluent-kafka; install it with: pip install 'rillet[kafka]'"
        ) from None
    try:
        settings = source.consumer_settings() | ({"error_cb": heard} if heard else {})
        return confluent_kafka.Consumer(settings, logger=_log)
    except confluent_kafka.KafkaException as error:
        raise SourceError(
            f"Kafka refuses a setting: {error.args[0].str()}; see librdkafka's list of settings"
        ) from None


def partitions_by_reader(source: KafkaSource) -> list[Positions]:
    """What each reader has to read, as the brokers say it now.

    Raises:
        SourceError: no broker answers, there is no such topic, or the schema registry that
            the source names cannot be used.
    """
    decoder = source.decoder(_WAIT_S)
    if decoder.schemas is not None:
        decoder.schemas.check()
    found = ask_bounds(source, _WAIT_S)
    readers = max(1, min(source.readers, len(found)))
    return [
        Positions(
            {n: found[n] for n in sorted(found) if n % readers == share}, source.endless, readers
        )
        for share in range(readers)
    ]


def ask_bounds(source: KafkaSource, wait_s: float) -> dict[int, Partition]:
    """Partition → where to begin and end.

    Raises:
        SourceError: no broker answers within `wait_s`, or there is no such topic.
    """
    import confluent_kafka

    heard: list[Any] = []
    client = consumer(source, heard.append)
    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_delay(wait_s),
        wait=tenacity.wait_exponential(multiplier=0.2, max=2),
        retry=tenacity.retry_if_exception_type(confluent_kafka.KafkaException),
        reraise=True,
    )
    try:
        return retrying(_bounds, client, source)
    except confluent_kafka.KafkaException as error:
        client.poll(0)  # hands over what was heard meanwhile
        kinds = (confluent_kafka.KafkaError._AUTHENTICATION, confluent_kafka.KafkaError._SSL)
        for refusal in (one for one in heard if one.code() in kinds):
            raise SourceError(
                f"Kafka at {source.brokers} does not let us in: {refusal.str()}; "
                "check security.protocol, sasl.* and ssl.* of the source"
            ) from None
        raise SourceError(
            f"Kafka at {source.brokers} does not answer for topic {source.topic}: "
            f"{error.args[0].str()}; check the address, or start it with: rillet local up"
        ) from None
    finally:
        client.close()


def _bounds(client: Any, source: KafkaSource) -> dict[int, Partition]:
    import confluent_kafka

    numbers = _numbers(client, source.topic)
    if not numbers:
        raise SourceError(
            f"Kafka at {source.brokers} has no topic {source.topic}; create it or check the name"
        )
    parts = [confluent_kafka.TopicPartition(source.topic, n) for n in numbers]
    bounds = {p.partition: client.get_watermark_offsets(p, timeout=_ASK_S) for p in parts}
    starts: dict[int, int] = {}
    if source.instant_ms is not None:
        wanted = [
            confluent_kafka.TopicPartition(source.topic, n, source.instant_ms) for n in numbers
        ]
        starts = {p.partition: p.offset for p in client.offsets_for_times(wanted, timeout=_ASK_S)}
    placed: dict[int, Partition] = source.place(bounds, starts)
    return placed


def _numbers(client: Any, topic: str) -> list[int]:
    """The topic's partitions; empty when there is none of that name."""
    found = client.list_topics(topic, timeout=_ASK_S).topics.get(topic)
    return [] if found is None or found.error is not None else sorted(found.partitions)


_readers: dict[tuple[str, int], "Reader"] = {}
_lock = threading.Lock()


def open_reader(source: KafkaSource, share: int, token: str) -> "Reader":
    """The reader of this process for a share: what it has fetched ahead is not lost.

    Beam may go on with a share in another copy of the DoFn. `token` tells apart
    two uses of the same source.
    """
    with _lock:
        return _readers.setdefault((token, share), Reader(source, share, token))


@dataclass
class Reader:
    """One consumer, and what it remembers between two reads; nothing that matters."""

    source: KafkaSource
    share: int
    token: str
    _busy: threading.Lock = field(default_factory=threading.Lock)
    _consumer: Any = None
    _decoder: Decoder | None = None
    _at: dict[int, int] = field(default_factory=dict)
    _ended: set[int] = field(default_factory=set)
    _heard: dict[int, float] = field(default_factory=dict)
    _asked: float = 0.0
    _looked: float = 0.0
    _quiet: set[int] = field(default_factory=set)

    def read(self, positions: Positions) -> Records:
        """What is there from `positions` on; waits `poll_s` at most.

        Raises:
            confluent_kafka.KafkaException: an error that waiting does not mend.
        """
        with self._busy:
            self._follow(positions)
            messages = self._consumer.consume(self.source.batch, timeout=self.source.poll_s)
            taken, upto = self._sort(positions, messages)
            lost = sum(self._missed(n, positions.partitions[n].next, taken[n][0]) for n in taken)
            added = self._look_for_more(positions)
            unwrapped = [self._unwrap(taken[number]) for number in sorted(taken)]
        return Records(
            batches=[
                self._batch(number, some)
                for number, some in zip(sorted(taken), unwrapped, strict=True)
            ],
            partitions=sorted(taken),
            upto=upto,
            added=added,
            full=len(messages) >= self.source.batch,
            lost=lost,
            faulty=[some.faults for some in unwrapped],
            dropped=sum((Counter(some.dropped) for some in unwrapped), Counter()),
        )

    def idle(self, positions: Positions) -> set[int]:
        """Partitions that are read to their end and silent; asks the broker once a second."""
        now = time.monotonic()
        silent = {
            number
            for number in self._ended & set(positions.partitions)
            if (now - self._heard.setdefault(number, now)) * 1_000 >= self.source.idle_ms
        }
        if silent and now - self._asked > 1:
            self._asked = now
            self._quiet = {n for n in silent if self._at_end(n, positions.partitions[n].next)}
        return self._quiet & silent

    def close(self) -> None:
        """Let the connection go."""
        with _lock:
            _readers.pop((self.token, self.share), None)
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None
        self._at = {}

    def _follow(self, positions: Positions) -> None:
        """Stand where `positions` say, which is where the last read ended, or after a restart."""
        import confluent_kafka

        wanted = {n: p.next for n, p in positions.partitions.items() if not p.done}
        if self._consumer is not None and wanted == self._at:
            return
        if self._consumer is None:
            self._consumer = consumer(self.source)
        self._consumer.assign(
            [confluent_kafka.TopicPartition(self.source.topic, n, at) for n, at in wanted.items()]
        )
        self._at = dict(wanted)
        self._ended -= set(wanted)

    def _sort(
        self, positions: Positions, messages: list[Any]
    ) -> tuple[dict[int, list[Any]], dict[int, int]]:
        """Messages by partition, those beyond a given end left out; and how far it is read."""
        taken: dict[int, list[Any]] = defaultdict(list)
        upto: dict[int, int] = {}
        for message in messages:
            number = message.partition()
            if message.error() is not None:
                self._heed(message, upto)
            elif number in positions.partitions:
                end = positions.partitions[number].end
                if end is None or message.offset() < end:
                    taken[number].append(message)
                upto[number] = message.offset() + 1
                self._ended.discard(number)
                self._heard[number] = time.monotonic()
        for number in upto.keys() & self._at.keys():
            self._at[number] = upto[number]
            if positions.partitions[number].read(upto[number], None).done:
                del self._at[number]
        return taken, upto

    def _missed(self, number: int, wanted: int, first: Any) -> int:
        """Offsets between the one that was wanted and the first that came, if Kafka deleted them.

        There are other gaps, which mean nothing: transactions, compaction.
        """
        import confluent_kafka

        if first.offset() <= wanted:
            return 0
        part = confluent_kafka.TopicPartition(self.source.topic, number)
        low, _ = self._consumer.get_watermark_offsets(part, cached=True)
        lost = max(min(low, first.offset()) - wanted, 0)
        if lost:
            _log.warning(
                "kafka: %d records of %s/%d, from offset %d, were deleted before they were read; "
                "give the topic a longer retention",
                lost,
                self.source.topic,
                number,
                wanted,
            )
        return lost

    def _heed(self, message: Any, upto: dict[int, int]) -> None:
        """An event that is no record: the end of a partition, or trouble."""
        import confluent_kafka

        error = message.error()
        if error.code() == confluent_kafka.KafkaError._PARTITION_EOF:
            # Offsets that hold no record, such as a transaction's end, are behind us too.
            upto[message.partition()] = message.offset()
            self._ended.add(message.partition())
        elif error.fatal():
            raise confluent_kafka.KafkaException(error)
        else:
            _log.warning("kafka: %s; trying on", error.str())

    def _unwrap(self, messages: list[Any]) -> Sorted:
        """Values → lines; most are lines as they stand."""
        if self._decoder is None:
            self._decoder = self.source.decoder()
        return self._decoder.sort(
            [message.value() for message in messages],
            [message.headers() for message in messages],
            [message.offset() for message in messages],
        )

    def _batch(self, number: int, sorted_: Sorted) -> pa.RecordBatch:
        where = LINES.with_metadata({"source": f"{self.source.topic}/{number}"})
        return pa.RecordBatch.from_arrays([sorted_.lines, sorted_.positions], schema=where)

    def _at_end(self, number: int, offset: int) -> bool:
        """Whether the broker answers and has nothing new."""
        import confluent_kafka

        part = confluent_kafka.TopicPartition(self.source.topic, number)
        try:
            _, high = self._consumer.get_watermark_offsets(part, timeout=1.0)
        except confluent_kafka.KafkaException:
            return False
        return bool(offset >= high)

    def _look_for_more(self, positions: Positions) -> dict[int, Partition]:
        """Partitions of this share that were added to the topic, from their first record on."""
        import confluent_kafka

        now = time.monotonic()
        if not positions.endless or now - self._looked < self.source.discover_s:
            return {}
        self._looked = now
        try:
            numbers = _numbers(self._consumer, self.source.topic)
        except confluent_kafka.KafkaException:
            return {}
        mine = [n for n in numbers if n % positions.readers == self.share]
        new = [n for n in mine if n not in positions.partitions]
        if new:
            _log.info("kafka: topic %s has new partitions %s", self.source.topic, new)
        return {n: Partition(0) for n in new}
