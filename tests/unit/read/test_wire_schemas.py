"""Avro and Protobuf bodies, built by hand, as lines of JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.read.kafka.wire.avro import AvroSchema
from pipelines.read.kafka.wire.outcome import WireError, as_line
from pipelines.read.kafka.wire.protobuf import ProtobufSchema
from pipelines.read.parse.event_rules import Event, parse_line
from tests.support.wire_schemas import (
    AVRO,
    EVENT_MS,
    avro_body,
    proto_file,
    proto_message,
    serialized,
)

RECORD = {
    "event_id": "e1",
    "user_id": "ü",
    "item_id": "i",
    "event_type": "click",
    "event_time": EVENT_MS,
    "dwell_ms": 1_200,
}
NESTED = b"\x04\x00\x00"  # the first message within the first one


def avro(schema: object) -> AvroSchema:
    return AvroSchema(json.dumps(schema))


def test_bytes_of_avro_by_hand() -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    schema["fields"].append({"name": "b", "type": ["null", "string"]})
    # 150 is 300 in zigzag: ac 02; branch 1 is 02; a text of two bytes: 04.
    record = avro(schema).decode(b"\xac\x02\x02\x04hi")
    assert as_line(record) == b'{"a":150,"b":"hi"}'


def test_an_avro_record_reads_as_the_event_it_is() -> None:
    line = as_line(avro(AVRO).decode(avro_body(RECORD)))
    event, extra = parse_line(line, EVENT_MS)
    assert isinstance(event, Event)
    assert (event, extra) == parse_line(json.dumps(RECORD).encode(), EVENT_MS)


@pytest.mark.parametrize(
    ("kind", "given_", "text"),
    [
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            1_000_001,
            "1970-01-01T00:00:01.000001Z",
        ),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, 1_000, "1970-01-01T00:00:01"),
        ("long", 1_000, 1_000),
        ("double", float("nan"), None),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
            b"\x04\xd2",
            12.34,
        ),
    ],
)
def test_what_logical_types_say(kind: object, given_: object, text: object) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "t", "type": kind}]}
    plain = kind["type"] if isinstance(kind, dict) else kind
    bare = {"type": "record", "name": "R", "fields": [{"name": "t", "type": plain}]}
    body = avro_body({"t": given_}, bare)
    assert json.loads(as_line(avro(schema).decode(body))) == {"t": text}


def test_a_schema_uses_the_names_of_those_it_refers_to() -> None:
    part = {"type": "record", "name": "p.Part", "fields": [{"name": "n", "type": "int"}]}
    whole = {"type": "record", "name": "W", "fields": [{"name": "part", "type": "p.Part"}]}
    schema = AvroSchema(json.dumps(whole), [json.dumps(part)])
    assert schema.decode(b"\x06") == {"part": {"n": 3}}
    with pytest.raises(WireError, match="not Avro"):
        AvroSchema(json.dumps(whole))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record_or_told(body: bytes) -> None:
    for schema in (avro(AVRO), PROTO):
        try:
            line = as_line(schema.decode(body))
        except WireError:
            continue
        assert isinstance(json.loads(line), dict)


def test_bytes_that_are_left_are_told() -> None:
    with pytest.raises(WireError, match="1 bytes are left"):
        avro(AVRO).decode(avro_body(RECORD) + b"\x00")


PROTO = ProtobufSchema(serialized(proto_file()))


def test_a_protobuf_message_reads_as_the_event_it_is() -> None:
    known = {**RECORD, "event_type": 1, "value": 2.5, "context": {"k": "v"}}
    line = as_line(PROTO.decode(NESTED + proto_message(**known)))
    want = {**RECORD, "value": 2.5, "context": {"k": "v"}}
    assert parse_line(line, EVENT_MS) == parse_line(json.dumps(want).encode(), EVENT_MS)


def test_an_index_in_the_header_leaves_the_value_bare() -> None:
    body = proto_message(event_id="e")
    assert PROTO.decode(body, NESTED) == {"event_id": "e", "event_type": "view"}


def test_what_was_not_set_is_unknown_and_not_nothing() -> None:
    assert PROTO.decode(NESTED + proto_message()) == {"event_type": "view"}
    assert PROTO.decode(NESTED + proto_message(value=0.0))["value"] == 0.0


def test_another_message_of_the_file() -> None:
    assert PROTO.decode(b"\x00\x08\x07") == {"n": 7}  # field 1, varint 7
    with pytest.raises(WireError, match=r"no message at \[3\]"):
        PROTO.decode(b"\x02\x06")


def test_a_file_that_imports_others() -> None:
    file = proto_file()
    user = type(file)(name="user.proto", package="u", syntax="proto3")
    user.dependency.append("event.proto")
    user.message_type.add(name="U").field.add(
        name="event", number=1, type=11, label=1, type_name=".shop.Other.Event"
    )
    imports = {"event.proto": serialized(file)}
    inner = proto_message(event_id="e")
    body = b"\x00\x0a" + bytes([len(inner)]) + inner  # field 1, of so many bytes
    found = ProtobufSchema(serialized(user), imports).decode(body)
    assert found == {"event": {"event_id": "e", "event_type": "view"}}
    with pytest.raises(WireError, match=r"imports event\.proto, which is not among"):
        ProtobufSchema(serialized(user))


def test_what_is_no_descriptor_is_told() -> None:
    with pytest.raises(WireError, match="format=serialized"):
        ProtobufSchema('syntax = "proto3";')
