"""Framed and wrapped values from a real broker, with the registry's schemas."""

import io
import json
import uuid
from collections.abc import Callable
from pathlib import Path

import fastavro
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from schema_registry import registry
from wire_messages import framed

from pipelines.errors import SourceError
from pipelines.read.kafka.broker import Reader, partitions_by_reader
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.read.parse_at_source import parse, with_faulty

pytestmark = pytest.mark.integration
NOON_MS = 1_769_860_800_000
SCHEMA = {
    "type": "record",
    "name": "Event",
    "fields": [
        *({"name": name, "type": "string"} for name in ("event_id", "user_id", "item_id")),
        {"name": "event_type", "type": "Kind"},
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
KIND = {"type": "enum", "name": "Kind", "symbols": ["click", "view"]}
ANSWERS = {
    "/schemas/types": ["JSON", "AVRO", "PROTOBUF"],
    "/schemas/ids/7": {
        "schema": json.dumps(SCHEMA),
        "references": [{"name": "Kind", "subject": "kinds/of event", "version": 2}],
    },
    "/subjects/kinds%2Fof%20event/versions/2": {"schema": json.dumps(KIND)},
    "/schemas/ids/8": {"schema": "{}", "schemaType": "JSON"},
}


def record(number: int) -> dict:
    return {
        "event_id": f"e{number}",
        "user_id": "ann",
        "item_id": "tea",
        "event_type": "view",
        "event_time": NOON_MS + number,
    }


def avro(number: int) -> bytes:
    named: dict = {}
    fastavro.parse_schema(KIND, named_schemas=named)
    out = io.BytesIO()
    fastavro.schemaless_writer(
        out, fastavro.parse_schema(SCHEMA, named_schemas=named), record(number)
    )
    return framed(out.getvalue(), 7)


@pytest.fixture
def filled(services: Callable) -> Callable[..., str]:
    """Values → the URI of a fresh topic that holds them, up to now."""

    def fill(*values: bytes | None) -> str:
        brokers = services("kafka")["kafka"]
        name = f"wire-{uuid.uuid4().hex[:8]}"
        admin = AdminClient({"bootstrap.servers": brokers})
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(30)
        producer = Producer({"bootstrap.servers": brokers})
        for value in values:
            producer.produce(name, value, partition=0)
        assert producer.flush(30) == 0
        return f"kafka://{brokers}/{name}?until=now&poll=2s"

    return fill


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "kafka.properties"
    file.write_text("schema.registry.basic.auth.user.info=me:hush\n")
    return file


def read(uri: str):
    """All that one read of a topic with one partition brings, parsed."""
    source = KafkaSource.parse(uri)
    (positions,) = partitions_by_reader(source)
    reader = Reader(source, 0, "test")
    try:
        records = reader.read(positions)
    finally:
        reader.close()
    assert records.upto == {0: positions.partitions[0].end}
    return with_faulty(parse(records.batches[0]), records.faulty[0]), records.skipped


def test_framed_values_are_read_by_the_registrys_schemas(filled: Callable, password: Path) -> None:
    plain, by_json = json.dumps(record(1)).encode(), framed(json.dumps(record(2)).encode(), 8)
    uri = filled(avro(0), plain, by_json, None, framed(b"?", 9), avro(3)[:-1])
    with registry(ANSWERS) as url:
        parsed, skipped = read(f"{uri}&registry={url}&config={password}")
    assert parsed.valid.column("event_id").to_pylist() == ["e0", "e1", "e2"]
    assert dict(skipped) == {"tombstones": 1}
    letters = parsed.dead.select(["reason", "position", "payload"]).to_pylist()
    assert [(one["reason"], one["position"]) for one in letters] == [
        ("bad_wire", 4),
        ("bad_wire", 5),
    ]
    assert letters[0]["payload"] == framed(b"?", 9)
    assert parsed.read + sum(skipped.values()) == 6


def test_a_registry_that_lets_nobody_in_is_told_without_the_password(
    filled: Callable, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.properties"
    wrong.write_text("schema.registry.basic.auth.user.info=me:guessed\n")
    uri = filled(avro(0))
    with registry(ANSWERS) as url, pytest.raises(SourceError, match="answers 401") as raised:
        read(f"{uri}&registry={url}&config={wrong}")
    assert "guessed" not in str(raised.value)


def test_changes_of_a_database_are_read_as_rows(filled: Callable) -> None:
    changes: list[bytes | None] = [
        json.dumps({"op": op, "before": None, "after": record(n)}).encode()
        for n, op in enumerate("rcu")
    ]
    gone = json.dumps({"op": "d", "before": record(0), "after": None}).encode()
    parsed, skipped = read(f"{filled(*changes, gone, None)}&envelope=debezium")
    assert parsed.valid.column("event_id").to_pylist() == ["e0", "e1", "e2"]
    assert dict(skipped) == {"deletes": 1, "tombstones": 1}
