"""Values in every wrapping on a real broker, with a small schema registry of the test's own."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipelines.config import load_job
from pipelines.errors import SourceError
from pipelines.job import RunRequest, run_job
from pipelines.read.kafka.broker import partitions_by_reader
from pipelines.read.kafka.source_spec import KafkaSource
from tests.support.schema_registry import SmallRegistry, small_registry
from tests.support.wire_schemas import AVRO, avro_body, proto_file, proto_message, serialized

pytestmark = pytest.mark.integration
START_MS = 1_767_225_600_000  # 2026-01-01
GUID = uuid.UUID("89791762-2336-4186-9674-299b90a802e2")
AVRO_ID, JSON_ID, PROTO_ID, LOST_ID = 1, 2, 300, 7


def event(number: int) -> dict[str, Any]:
    """One event a second."""
    known = {"event_id": f"e{number}", "user_id": f"u{number % 3}", "item_id": f"i{number % 2}"}
    return {**known, "event_type": "click", "event_time": START_MS + number * 1_000}


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    with small_registry() as small:
        small.put(AVRO_ID, json.dumps(AVRO))
        small.put(JSON_ID, "{}", "JSON")
        small.put(PROTO_ID, "…", "PROTOBUF")
        small.answers[f"/schemas/ids/{PROTO_ID}?format=serialized"] = {
            "schema": serialized(proto_file()),
            "schemaType": "PROTOBUF",
        }
        small.answers[f"/schemas/guids/{GUID}"] = {"schema": json.dumps(AVRO)}
        yield small


@pytest.fixture
def topic(services: Callable) -> str:
    """A fresh topic of one partition, `kafka://…/topic`."""
    brokers = services("kafka")["kafka"]
    name = f"wire-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
    return f"kafka://{brokers}/{name}"


def produce(uri: str, messages: list[tuple[bytes | None, dict[str, bytes]]]) -> None:
    source = KafkaSource.parse(uri)
    producer = Producer({"bootstrap.servers": source.brokers})
    for value, headers in messages:
        producer.produce(source.topic, value, headers=list(headers.items()))
    assert producer.flush(30) == 0


def framed(number: int, body: bytes) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + body


def wrapped() -> list[tuple[bytes | None, dict[str, bytes]]]:
    """Ten events, each in another wrapping; four values that are none; two that are refused."""
    lines = [json.dumps(event(n)).encode() for n in range(10)]
    avro = [avro_body({**event(n), "dwell_ms": None}) for n in range(10)]
    change = {"before": None, "after": event(4), "source": {}, "op": "r", "ts_ms": 1}
    cloud = {"specversion": "1.0", "id": "7", "source": "/s", "type": "x"}
    bare = {name: v for name, v in event(7).items() if name != "event_id"}
    return [
        (lines[0], {}),
        (framed(AVRO_ID, avro[1]), {}),
        (framed(JSON_ID, lines[2]), {}),
        (framed(PROTO_ID, b"\x04\x00\x00" + proto_message(**{**event(3), "event_type": 1})), {}),
        (json.dumps(change).encode(), {}),
        (json.dumps({"schema": None, "payload": event(5)}).encode(), {}),
        (
            json.dumps({**cloud, "data": event(6)}).encode(),
            {"content-type": b"application/cloudevents+json"},
        ),
        (
            json.dumps(bare).encode(),
            {"ce_specversion": b"1.0", "ce_id": b"7", "ce_source": b"/s"},
        ),
        (avro[8], {"__value_schema_id": b"\x01" + GUID.bytes}),
        (b"\x01" + GUID.bytes + avro[9], {}),
        (None, {}),
        (json.dumps({**change, "op": "d", "after": None}).encode(), {}),
        (json.dumps({"source": {}, "op": "t", "ts_ms": 1}).encode(), {}),
        (json.dumps({**event(4), "__deleted": "true"}).encode(), {}),
        (framed(LOST_ID, avro[0]), {}),
        (framed(AVRO_ID, avro[0][:-3]), {}),
    ]


def request(uri: str, store: Path) -> RunRequest:
    return RunRequest(
        events=(uri,),
        items=None,
        users=None,
        store=store,
        config=load_job(None, {"batch": {"min_rows": 2}}),
        predictions=None,
        beam_args=(),
        now_ms=START_MS,
        trainer="tests.support.fake_trainer:FakeTrainer",
    )


def test_every_wrapping_comes_out_as_the_event_it_holds(
    topic: str, registry: SmallRegistry, tmp_path: Path
) -> None:
    produce(topic, wrapped())
    uri = f"{topic}?until=now&registry={registry.url}"
    told = run_job(request(uri, tmp_path / "store"))
    assert (told["read"], told["valid"], told["dead"]) == (12, 10, {"bad_wire": 2})
    assert told["skipped"] == {"tombstones": 1, "deletes": 2, "no_rows": 1}
    letters = pq.read_table(tmp_path / "store" / "dead_letters").to_pylist()
    name = KafkaSource.parse(topic).topic
    assert [(one["source"], one["position"]) for one in letters] == [
        (f"{name}/0", 14),
        (f"{name}/0", 15),
    ]
    assert letters[0]["payload"] == framed(LOST_ID, avro_body({**event(0), "dwell_ms": None}))
    assert f"schema {LOST_ID}: the registry" in letters[0]["detail"]
    assert "not of its Avro schema" in letters[1]["detail"]
    # Each schema was asked for once; the one that is not known, too.
    assert registry.asked.count(f"/schemas/ids/{AVRO_ID}") == 1
    assert registry.asked.count(f"/schemas/ids/{LOST_ID}") == 1
    # What was read once is there: the same again brings nothing new.
    again = run_job(request(uri, tmp_path / "store"))
    assert (again["duplicates"], again["rows"]) == (10, 0)


def test_a_registry_that_is_away_is_refused_at_the_door(
    topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.read.kafka.broker._WAIT_S", 0.5)
    uri = f"{topic}?until=now&wire=avro&registry=http://127.0.0.1:1"
    with pytest.raises(SourceError, match=r"schema registry http://127\.0\.0\.1:1 does not answer"):
        partitions_by_reader(KafkaSource.parse(uri))
    with pytest.raises(SourceError, match="does not answer") as told:
        run_job(request(uri, tmp_path / "store"))
    assert told.value.exit_status == 2
    assert not (tmp_path / "store" / "meta.json").exists()
