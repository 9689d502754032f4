"""The client of a schema registry, against a small one of its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from pipelines.errors import JobError, SourceError
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.read.kafka.wire.outcome import WireError
from pipelines.read.kafka.wire.registry import Registry
from tests.support.schema_registry import SmallRegistry, small_registry
from tests.support.wire_schemas import (
    AVRO,
    EVENT_MS,
    avro_body,
    proto_file,
    proto_message,
    serialized,
)

GUID = UUID("89791762-2336-4186-9674-299b90a802e2")
EVENT = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "view"}
EVENT |= {"event_time": EVENT_MS, "dwell_ms": None}


@pytest.fixture
def small() -> Iterator[SmallRegistry]:
    with small_registry() as registry:
        yield registry


def test_a_schema_is_asked_for_once(small: SmallRegistry) -> None:
    small.put(1, json.dumps(AVRO))
    client = Registry(small.url)
    for _ in range(3):
        schema = client.schema(1)
        assert schema.kind == "AVRO"
        assert schema.decode(avro_body(EVENT))["event_id"] == "e"
    assert small.asked == ["/schemas/ids/1"]


def test_a_guid_is_asked_for_by_its_own_call(small: SmallRegistry) -> None:
    small.answers[f"/schemas/guids/{GUID}"] = {"schema": "{}", "schemaType": "JSON"}
    assert Registry(small.url).schema(GUID).kind == "JSON"


def test_protobuf_is_asked_for_as_a_descriptor_with_all_it_imports(small: SmallRegistry) -> None:
    file = proto_file()
    user = type(file)(name="user.proto", package="u", syntax="proto3")
    user.dependency.append("event.proto")
    user.message_type.add(name="U").field.add(
        name="event", number=1, type=11, label=1, type_name=".shop.Other.Event"
    )
    refers = [{"name": "event.proto", "subject": "shop/event", "version": 3}]
    small.put(5, "…", "PROTOBUF", references=refers)
    told = {"schema": serialized(user), "schemaType": "PROTOBUF", "references": refers}
    small.answers["/schemas/ids/5?format=serialized"] = told
    small.answers["/subjects/shop%2Fevent/versions/3?format=serialized"] = {
        "schema": serialized(file)
    }
    inner = proto_message(event_id="e")
    body = b"\x00\x0a" + bytes([len(inner)]) + inner
    schema = Registry(small.url).schema(5)
    assert schema.decode(body) == {"event": {"event_id": "e", "event_type": "view"}}


def test_references_come_after_those_that_they_use(small: SmallRegistry) -> None:
    def record(name: str, uses: str) -> str:
        return json.dumps({"type": "record", "name": name, "fields": [{"name": "f", "type": uses}]})

    def refers(name: str) -> list[dict]:
        return [{"name": name, "subject": name, "version": 1}]

    small.put(9, record("C", "B"), references=refers("B"))
    small.answers["/subjects/B/versions/1"] = {
        "schema": record("B", "A"),
        "references": refers("A"),
    }
    # A circle, which no registry should hold, ends.
    small.answers["/subjects/A/versions/1"] = {
        "schema": record("A", "int"),
        "references": refers("B"),
    }
    assert Registry(small.url).schema(9).decode(b"\x06") == {"f": {"f": {"f": 3}}}


def test_a_schema_that_is_not_known_is_asked_for_again_after_a_while(small: SmallRegistry) -> None:
    client = Registry(small.url, forget_s=3_600)
    for _ in range(3):
        with pytest.raises(WireError, match=r"schema 7: the registry .* does not know it"):
            client.schema(7)
    assert small.asked == ["/schemas/ids/7"]
    small.put(7, '"string"')
    client.forget_s = 0
    assert client.schema(7).kind == "AVRO"


def test_a_schema_that_cannot_be_used_names_itself(small: SmallRegistry) -> None:
    small.put(3, "{}")
    small.put(4, "x", "THRIFT")
    with pytest.raises(WireError, match="schema 3: schema: not Avro"):
        Registry(small.url).schema(3)
    with pytest.raises(WireError, match="schema 4: is of type THRIFT, expected AVRO"):
        Registry(small.url).schema(4)


def test_a_registry_that_is_busy_is_waited_for(small: SmallRegistry) -> None:
    small.put(1, '"string"')
    small.failing = 2
    assert Registry(small.url).schema(1).kind == "AVRO"
    assert len(small.asked) == 3


def test_a_registry_that_goes_away_fails_the_job_and_not_the_request(small: SmallRegistry) -> None:
    small.put(1, '"string"')
    client = Registry(small.url, wait_s=0.1)
    small.failing = 1_000
    with pytest.raises(JobError, match=r"does not answer \(status 503\), and schema 1 is needed"):
        client.schema(1)
    small.failing = 0
    assert client.schema(1).kind == "AVRO"  # it was not taken for unknown


def test_a_password_is_sent_and_its_lack_told(small: SmallRegistry, tmp_path: Path) -> None:
    small.put(1, '"string"')
    small.password = "me:a:b"
    with pytest.raises(SourceError, match=r"does not let us in \(401\)"):
        Registry(small.url).check()
    file = tmp_path / "client.properties"
    file.write_text("schema.registry.basic.auth.user.info=me:a:b\nsasl.username=x\n")
    source = KafkaSource.parse(f"kafka://h:1/t?config={file}&registry={small.url}")
    source.decoder().schemas.check()
    assert not [name for name in source.consumer_settings() if "registry" in name]
    assert "a:b" not in repr(source.decoder())


def test_a_registry_that_is_away_or_empty_or_none_is_refused(small: SmallRegistry) -> None:
    small.answers["/subjects"] = []
    with pytest.raises(SourceError, match="holds no schema"):
        Registry(small.url).check()
    small.answers["/subjects"] = {"error": 1}
    with pytest.raises(SourceError, match="is no schema registry"):
        Registry(small.url).check()
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:1 does not answer \(ConnectionError"):
        Registry("http://127.0.0.1:1", wait_s=0.3).check()


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("wire=avor", "wire=avor is no format; choose from auto, json"),
        ("wire=avro", "wire=avro needs the schemas"),
        ("registry=localhost", "registry=localhost is no address"),
        ("registry=http://me:secret@h:1", "at h holds a password"),
        ("registry=http://h&schema.registry.ur=x", "no setting schema.registry.ur"),
        ("schema.registry.ssl.ca.location=/x", "needs the schemas"),
    ],
)
def test_what_is_wrong_with_an_address_is_said_at_once(query: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint) as told:
        KafkaSource.parse(f"kafka://h:1/t?{query}")
    assert "secret" not in str(told.value)


def test_the_address_may_stand_among_the_settings(small: SmallRegistry) -> None:
    source = KafkaSource.parse(f"kafka://h:1/t?schema.registry.url={small.url}&wire=avro")
    assert source.decoder().schemas.url == small.url
