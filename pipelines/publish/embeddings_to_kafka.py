"""Vectors on a Kafka topic: a log of rows, each version one transaction.

::

    key "item:<id>", "user:<id>"   {"version", "updated_at", "embedding"}; null: gone
    key "served"                   {"version", "digest", "newest_event_time", "published_at"}

The key `served` ends a version, in every partition. A reader with
`isolation.level=read_committed` (librdkafka's default) keeps the newest record of
each key, and shows what it has when all partitions have told the same version.
The topic is compacted; a missing one is made, with one partition.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import confluent_kafka as client
import msgspec
import pyarrow as pa
from confluent_kafka.admin import AdminClient, NewTopic

from models.schema import EMBEDDINGS
from pipelines.clock import wall_clock_ms
from pipelines.errors import RequestError
from pipelines.kafka_uri import Topic
from pipelines.publish.sink import Shipment, SinkError, SinkState, VersionMark

__all__ = ["KafkaSink"]

_TIMEOUT_S = 10.0
_COMMIT_S = 60.0
_SERVED = b"served"
_TAIL = 1_000
"""Records in which the newest mark is looked for first."""

_encode = msgspec.json.Encoder().encode
Record = tuple[bytes, bytes | None]


class KafkaSink:
    """See `Sink`. `kafka://host:port/topic?…`, with settings as a Kafka source takes them.

    Args:
        uri: where.
        clock: epoch milliseconds.

    Raises:
        RequestError: the URI is wrong.
    """

    def __init__(self, uri: str, clock: Callable[[], int] | None = None) -> None:
        topic = Topic.parse(uri, "sink")
        if topic.options:
            name = next(iter(topic.options))
            raise RequestError(f"--sink kafka://…: there is no parameter {name!r}: leave it out")
        self._topic, self._clock = topic.name, clock or wall_clock_ms
        self._settings: dict[str, str | int | float | bool] = {
            "bootstrap.servers": topic.brokers,
            "log_level": 0,
            "socket.timeout.ms": round(_TIMEOUT_S * 1_000),
            "reconnect.backoff.max.ms": 1_000,
            **topic.settings,
        }
        self.shown = f"kafka://{topic.brokers}/{topic.name}"
        self._producer: Any = None

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (client.KafkaException, OSError, ValueError, BufferError) as error:
            self.close()
            said = error.args[0] if error.args else error
            text = said.str() if isinstance(said, client.KafkaError) else str(said)
            raise SinkError(f"{self.shown}: {' '.join(text.split())[:300]}") from None

    def close(self) -> None:
        """See `Sink`."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(client.KafkaException):
                producer.abort_transaction(_TIMEOUT_S)

    def held(self) -> SinkState:
        """See `Sink`."""
        with self._talking():
            if not self._partitions():
                return SinkState()
            return SinkState(self._mark())

    def _partitions(self) -> list[int]:
        """Of the topic; none where it does not exist."""
        admin = AdminClient(self._settings)
        found = admin.list_topics(timeout=_TIMEOUT_S).topics.get(self._topic)
        if found is None or found.error is not None:
            return []
        return sorted(found.partitions)

    def _mark(self) -> VersionMark | None:
        """The newest version that is whole, looked for from the end of partition 0."""
        step = _TAIL
        with self._consumer() as consumer:
            at = client.TopicPartition(self._topic, 0)
            low, high = consumer.get_watermark_offsets(at, timeout=_TIMEOUT_S)
            while True:
                at.offset = max(low, high - step)
                marks = [v for k, v in _upto_end(consumer, [at])[0] if k == _SERVED and v]
                if marks:
                    told = msgspec.json.decode(marks[-1])
                    return VersionMark(told["version"], told["digest"])
                if at.offset == low:
                    return None
                step *= 8

    @contextmanager
    def _consumer(self) -> Iterator[Any]:
        consumer = client.Consumer(
            {
                **self._settings,
                "group.id": "rillet",  # never committed to
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def publish(self, shipment: Shipment) -> int:
        """See `Sink`."""
        mark, served = shipment.mark, shipment.held.served
        if served and mark.version <= served.version:
            return self._clock()
        with self._talking():
            partitions = self._partitions() or self._made()
            self._begin(served)
            put = self._producer.produce
            for number, (key, value) in enumerate(self._records(shipment)):
                put(self._topic, key=key, value=value)
                if number % 1_000 == 0:
                    self._producer.flush(_COMMIT_S)  # the queue has a limit
            now = self._clock()
            about = {
                "version": mark.version,
                "digest": mark.digest,
                "newest_event_time": shipment.newest_event_ms,
                "published_at": now,
            }
            for number in partitions:
                put(self._topic, key=_SERVED, value=_encode(about), partition=number)
            self._producer.commit_transaction(_COMMIT_S)
        return now

    def _made(self) -> list[int]:
        """Make the topic."""
        new = NewTopic(self._topic, 1, config={"cleanup.policy": "compact"})
        admin = AdminClient(self._settings)  # has to live until the answer
        admin.create_topics([new])[self._topic].result(_TIMEOUT_S)
        return [0]

    def _begin(self, served: VersionMark | None) -> None:
        """Begin a transaction; from the first on, whoever began earlier is fenced off.

        Raises:
            SinkError: somebody else has published since we looked.
        """
        if self._producer is None:
            settings = {"transactional.id": f"rillet-{self._topic}", "linger.ms": 5}
            self._producer = client.Producer({**self._settings, **settings})
            self._producer.init_transactions(_COMMIT_S)
        self._producer.begin_transaction()
        if self._mark() != served:
            self.close()
            raise SinkError(f"{self.shown}: another process publishes to this sink")

    def _records(self, shipment: Shipment) -> Iterator[Record]:
        kept = set()
        for batch in shipment.rows.to_batches(max_chunksize=1_000):
            columns = batch.to_pydict()
            times = batch.column("updated_at").cast(pa.int64()).to_pylist()
            for i, entity in enumerate(columns["entity"]):
                key = f"{entity}:{columns['id'][i]}".encode()
                kept.add(key)
                row = {
                    "version": columns["version"][i],
                    "updated_at": times[i],
                    "embedding": columns["embedding"][i],
                }
                yield key, None if columns["deleted"][i] else _encode(row)
        if shipment.whole:
            for key in self._state()[1].keys() - kept:
                yield key, None

    def read(self, entity: str, ids: Sequence[str]) -> tuple[int, pa.Table]:
        """See `Sink`. Reads the whole topic: for checks, not for serving."""
        with self._talking():
            served, state = self._state()
        rows = []
        for one in ids:
            value = state.get(f"{entity}:{one}".encode())
            if value is not None:
                rows.append(
                    {**msgspec.json.decode(value), "entity": entity, "id": one, "deleted": False}
                )
        return served, pa.Table.from_pylist(rows, schema=EMBEDDINGS)

    def _state(self) -> tuple[int, Mapping[bytes, bytes]]:
        """The newest version that all partitions have, and its rows."""
        partitions = self._partitions()
        if not partitions:
            return 0, {}
        places = [
            client.TopicPartition(self._topic, n, client.OFFSET_BEGINNING) for n in partitions
        ]
        with self._consumer() as consumer:
            logs = _upto_end(consumer, places)
        served = min(max((_version(r) for r in log), default=0) for log in logs)
        state: dict[bytes, bytes] = {}
        for log in logs:
            for key, value in log:
                if key != _SERVED:
                    _ = state.pop(key, None) if value is None else state.update({key: value})
                elif _version((key, value)) >= served:
                    break
        return served, state


def _version(record: Record) -> int:
    """Of a mark; 0 for a row."""
    key, value = record
    return int(msgspec.json.decode(value)["version"]) if key == _SERVED and value else 0


def _upto_end(consumer: Any, places: Sequence[Any]) -> list[list[Record]]:
    """What can be read of each partition now, from its place on.

    Raises:
        KafkaException: the broker is away.
    """
    consumer.assign(list(places))
    logs: dict[int, list[Record]] = {place.partition: [] for place in places}
    left, until = set(logs), time.monotonic() + _TIMEOUT_S
    while left:
        messages = consumer.consume(1_000, 0.05)
        for message in messages:
            error = message.error()
            if error is None:
                logs[message.partition()].append((message.key(), message.value()))
                until = time.monotonic() + _TIMEOUT_S
            elif error.code() == client.KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                raise client.KafkaException(error)
        if time.monotonic() > until:
            raise client.KafkaException(client.KafkaError(client.KafkaError._TIMED_OUT))
    return [logs[place.partition] for place in places]
