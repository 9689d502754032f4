"""Kafka as a source, with a real broker."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from pipelines.bounded.features_job import run_features
from pipelines.config import load_job
from pipelines.errors import SourceError
from pipelines.local import process
from pipelines.read.kafka.broker import partitions_by_reader
from pipelines.read.kafka.source import ReadKafka
from pipelines.read.kafka.source_spec import KafkaSource

pytestmark = pytest.mark.integration
START_MS = 1_767_225_600_000  # 2026-01-01


@pytest.fixture
def topic(services: Callable) -> Callable[..., str]:
    """A fresh topic with the given numbers of partitions → `kafka://…/topic`."""

    def create(partitions: int = 2) -> str:
        brokers = services("kafka")["kafka"]
        name = f"events-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": brokers})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        return f"kafka://{brokers}/{name}"

    return create


def event(number: int) -> bytes:
    """One event a second; event `number` of user `number % 7`."""
    return json.dumps(
        {
            "event_id": f"e{number}",
            "user_id": f"u{number % 7}",
            "item_id": f"i{number % 5}",
            "event_type": "click",
            "event_time": START_MS + number * 1_000,
        }
    ).encode()


def produce(uri: str, payloads: list[bytes | None], partition: int) -> None:
    source = KafkaSource.parse(uri)
    producer = Producer({"bootstrap.servers": source.brokers})
    for payload in payloads:
        producer.produce(source.topic, payload, partition=partition)
    assert producer.flush(30) == 0


def read(uri: str, tmp_path: Path) -> tuple[list[str], list[tuple]]:
    """(event ids, dead letters) of a bounded read in this process."""
    out = tmp_path / uuid.uuid4().hex
    out.mkdir()
    with beam.Pipeline("apache_beam.runners.portability.fn_api_runner.FnApiRunner") as pipeline:
        found = pipeline | ReadKafka(source=KafkaSource.parse(uri), live=False)
        _ = found.valid | "Ids" >> beam.Map(_append, str(out / "valid"), ["event_id"])
        columns = ["source", "position", "reason", "payload"]
        _ = found.dead | "Dead" >> beam.Map(_append, str(out / "dead"), columns)
    valid = [row[0] for row in _rows(out / "valid")]
    return valid, [tuple(row) for row in _rows(out / "dead")]


def _append(batch, path: str, columns: list[str]) -> None:
    with Path(path).open("a") as file:
        for row in batch.select(columns).to_pylist():
            print(json.dumps([_text(value) for value in row.values()]), file=file)


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def _rows(path: Path) -> list[list]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_what_is_there_is_read_once_and_nothing_that_comes_later(
    topic: Callable, tmp_path: Path
) -> None:
    uri = topic(2)
    produce(uri, [event(n) for n in range(0, 500, 2)], 0)
    produce(uri, [event(n) for n in range(1, 500, 2)], 1)
    valid, dead = read(f"{uri}?until=now&batch=100", tmp_path)
    assert sorted(valid) == sorted(f"e{n}" for n in range(500))
    assert dead == []
    produce(uri, [event(500)], 0)
    valid, _ = read(f"{uri}?until=now&start=0:249,1:250&readers=2", tmp_path)
    assert sorted(valid) == ["e498", "e500"]


def test_a_payload_that_does_not_parse_keeps_its_topic_partition_and_offset(
    topic: Callable, tmp_path: Path
) -> None:
    uri = topic(2)
    produce(uri, [event(0), b"{nonsense", event(1), b"", None], 1)
    valid, dead = read(f"{uri}?until=now", tmp_path)
    name = KafkaSource.parse(uri).topic
    assert sorted(valid) == ["e0", "e1"]
    assert sorted(dead) == [  # a tombstone is no fault
        (f"{name}/1", 1, "bad_json", "{nonsense"),
        (f"{name}/1", 3, "bad_json", ""),
    ]


def test_reading_starts_where_it_was_asked_to(topic: Callable, tmp_path: Path) -> None:
    uri = topic(1)
    source = KafkaSource.parse(uri)
    producer = Producer({"bootstrap.servers": source.brokers})
    for number in range(10):
        producer.produce(source.topic, event(number), timestamp=START_MS + number * 1_000)
    producer.flush(30)
    assert read(f"{uri}?until=now&start=latest", tmp_path) == ([], [])
    valid, _ = read(f"{uri}?until=now&start={START_MS + 6_500}", tmp_path)
    assert valid == ["e7", "e8", "e9"]
    assert read(f"{uri}?until=now&start=2027-01-01T00:00:00Z", tmp_path) == ([], [])


def test_a_topic_that_is_not_there_is_refused_at_the_door(services: Callable) -> None:
    brokers = services("kafka")["kafka"]
    with pytest.raises(SourceError, match="has no topic nowhere; create it"):
        partitions_by_reader(KafkaSource.parse(f"kafka://{brokers}/nowhere"))


def test_a_broker_that_is_not_there_is_refused_at_the_door(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipelines.read.kafka.broker._WAIT_S", 0.5)
    monkeypatch.setattr("pipelines.read.kafka.broker._ASK_S", 0.5)
    with pytest.raises(SourceError, match=r"does not answer for topic t.*rillet local up"):
        partitions_by_reader(KafkaSource.parse("kafka://127.0.0.1:1/t"))


def test_readers_share_the_partitions(topic: Callable) -> None:
    uri = topic(3)
    two = partitions_by_reader(KafkaSource.parse(f"{uri}?readers=2"))
    assert [sorted(share.partitions) for share in two] == [[0, 2], [1]]
    many = partitions_by_reader(KafkaSource.parse(f"{uri}?readers=9"))
    assert [sorted(share.partitions) for share in many] == [[0], [1], [2]]


def test_a_partition_that_is_added_is_found_and_read_from_its_beginning(topic: Callable) -> None:
    from dataclasses import replace

    from pipelines.read.kafka.broker import Reader, partitions_by_reader
    from pipelines.read.partition_progress import Partition

    uri = topic(1)
    source = replace(KafkaSource.parse(uri), discover_s=0.0, poll_s=0.2)
    (positions,) = partitions_by_reader(source)
    reader = Reader(source, 0, "test")
    assert reader.read(positions).added == {}
    grown = NewPartitions(source.topic, 2)
    admin = AdminClient({"bootstrap.servers": source.brokers})
    admin.create_partitions([grown])[source.topic].result(30)
    produce(uri, [event(1)], 1)
    added = {}
    while not added:
        added = reader.read(positions).added
    assert added == {1: Partition(0)}
    # One of two readers that a savepoint knows, though the job now asks for one: not its own.
    other = Reader(source, 0, "one of two")
    assert other.read(replace(positions, readers=2)).added == {}
    other.close()
    positions = replace(positions, partitions={**positions.partitions, **added})
    records = reader.read(positions)
    while not records.batches:
        records = reader.read(positions)
    assert records.upto[1] == 1
    reader.close()


def test_records_that_were_deleted_before_they_were_read_are_told_and_counted(
    topic: Callable, caplog: pytest.LogCaptureFixture
) -> None:
    from dataclasses import replace

    from pipelines.read.kafka.broker import Reader
    from pipelines.read.partition_progress import Partition, Positions

    uri = topic(1)
    source = replace(KafkaSource.parse(uri), poll_s=0.2)
    produce(uri, [event(n) for n in range(10)], 0)
    admin = AdminClient({"bootstrap.servers": source.brokers})
    admin.delete_records([TopicPartition(source.topic, 0, 6)])
    while partitions_by_reader(source)[0].partitions[0].next != 6:
        pass
    reader = Reader(source, 0, "test")
    positions = Positions({0: Partition(2)}, endless=True)  # as a savepoint knew it
    records = reader.read(positions)
    while not records.batches:
        records = reader.read(positions)
    reader.close()
    assert records.batches[0].column("position").to_pylist() == [6, 7, 8, 9]
    assert records.lost == 4
    (told,) = [r.getMessage() for r in caplog.records if "deleted" in r.getMessage()]
    assert f"4 records of {source.topic}/0, from offset 2" in told


def test_a_broker_that_is_killed_and_comes_back_is_waited_for(
    topic: Callable, services: Callable, local_directory: Path
) -> None:
    from dataclasses import replace

    from pipelines.read.kafka.broker import Reader

    uri = topic(1)
    source = replace(KafkaSource.parse(uri), idle_ms=0, poll_s=0.2)
    produce(uri, [event(0)], 0)
    (positions,) = partitions_by_reader(source)
    reader = Reader(source, 0, "test")
    records = reader.read(positions)
    while not records.batches:
        records = reader.read(positions)
    part = positions.partitions[0].read(records.upto[0], START_MS)
    positions = replace(positions, partitions={0: part})
    while reader.idle(positions) != {0}:
        reader.read(positions)
    assert process.kill(local_directory, "kafka")
    reader._asked = 0.0
    assert reader.read(positions).batches == []
    assert reader.idle(positions) == set()  # it cannot be asked: no clock runs on without it
    services("kafka")
    produce(uri, [event(1)], 0)
    records = reader.read(positions)
    while not records.batches:
        records = reader.read(positions)
    assert records.batches[0].column("position").to_pylist() == [1]
    reader.close()


def test_features_of_a_topic_up_to_now(topic: Callable[..., str], tmp_path: Path) -> None:
    uri = topic(2)
    produce(uri, [event(number) for number in range(60)], 0)
    produce(uri, [*(event(number) for number in range(50, 100)), b"nope"], 1)
    config = load_job(None, {"features": {"window": "fixed:10s"}})
    told = run_features([f"{uri}?until=now"], tmp_path / "out", config, [], START_MS + 10**6)
    assert (told["read"], told["valid"], told["duplicates"]) == (111, 100, 10)
    assert told["dead"] == {"bad_json": 1}
    rows = pq.read_table(tmp_path / "out" / "features")
    assert sum(rows["n_click"].to_pylist()) == 100
