"""`rillet simulate --to kafka://…` with a real broker."""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from pipelines.errors import JobError
from pipelines.local import process
from pipelines.read.kafka.broker import partitions_by_reader
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.simulate.kafka_writer import TopicWriter
from tests.integration.test_kafka import read

pytestmark = pytest.mark.integration


@pytest.fixture
def target(services: Callable) -> str:
    """A topic that is not there yet."""
    return f"kafka://{services('kafka')['kafka']}/played-{uuid.uuid4().hex[:8]}"


def test_a_played_simulation_is_read_back_whole(
    target: str, rillet: Callable, tmp_path: Path
) -> None:
    options = ["--events", 1_500, "--users", 40, "--items", 60, "--rate", 5_000, "--json"]
    done = rillet("simulate", "--out", "sim", "--to", f"{target}?partitions=3", *options)
    assert done.status == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["sent"] == told["lines"] > 1_500
    assert "was made, with 3 partitions" in done.stderr
    valid, dead = read(f"{target}?until=now", tmp_path)
    assert len(valid) == told["events"] + told["duplicates"]
    assert len(dead) == sum(told["malformed"].values())
    lines = (tmp_path / "sim" / "events.jsonl").read_bytes().splitlines()
    assert len(lines) == told["sent"]


def test_a_broker_that_does_not_answer_is_refused_before_anything_is_written(
    rillet: Callable, tmp_path: Path
) -> None:
    done = rillet("simulate", "--out", "sim", "--to", "kafka://127.0.0.1:1/t")
    assert done.status == 2
    assert done.stderr.startswith("rillet: Kafka at 127.0.0.1:1 does not answer")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_user_keeps_to_one_partition(target: str, services: Callable) -> None:
    import pyarrow as pa

    writer = TopicWriter(f"{target}?partitions=4")
    for _ in range(3):
        writer.send(pa.array([f"{n}".encode() for n in range(20)]), pa.array(["same"] * 20))
    writer.close()
    assert writer.confirmed == 60
    source = KafkaSource.parse(f"{target}?until=now")
    (share,) = partitions_by_reader(source)
    assert sorted(part.end for part in share.partitions.values()) == [0, 0, 0, 60]
    topics = AdminClient({"bootstrap.servers": source.brokers}).list_topics(source.topic, timeout=9)
    assert len(topics.topics[source.topic].partitions) == 4


def test_a_broker_that_goes_away_for_good_is_an_error_with_what_was_confirmed(
    target: str, services: Callable, local_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow as pa

    monkeypatch.setattr("pipelines.simulate.kafka_writer._PATIENCE_S", 2.0)
    writer = TopicWriter(target)
    writer.send(pa.array([b"1"]), pa.array(["u"]))
    writer.close()
    assert process.kill(local_directory, "kafka")
    try:
        writer.send(pa.array([b"2"]), pa.array(["u"]))
        with pytest.raises(JobError, match=r"1 were confirmed|has not confirmed 1 lines"):
            writer.close()
    finally:
        services("kafka")
