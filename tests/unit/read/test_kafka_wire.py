"""What records are wrapped in on a topic: bytes put together by hand, and what comes out."""

import base64
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire_messages import AVRO, GUID, Message, framed, guid_header, proto_file, serialized

from pipelines.errors import JobError, SourceError
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.read.kafka.wire.decode import Decoder
from pipelines.read.kafka.wire.framing import FrameError, message_index, unframe
from pipelines.read.kafka.wire.registry import MissingSchemaError, Schema, SchemaRegistry

LINE = b'{"event_id": "e1", "user_id": "ann"}'
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp()) * 1_000


class Known(SchemaRegistry):
    """A registry that has been asked already."""

    def __init__(self, schemas: dict) -> None:
        super().__init__("http://127.0.0.1:1")
        self._known = schemas

    def _ask(self, key: int | str) -> Schema:
        raise MissingSchemaError(f"the schema registry has no {key}")


def decode(*messages: Message, envelope: str = "none", schemas: dict | None = None):
    registry = Known(schemas) if schemas is not None else None
    return Decoder(envelope, registry).decode(messages)


def only(message: Message, **how) -> dict:
    (line,) = decode(message, **how).lines
    return json.loads(line)


def fault(message: Message, **how) -> str:
    ((value, found, offset),) = decode(message, **how).faulty
    assert (value, found.reason, offset) == (message.body, "bad_wire", message.place)
    return found.detail


def test_plain_lines_pass_untouched_whatever_they_hold():
    odd = [LINE, b"{nonsense", b"", b" [1]", "{\u00e9}".encode()]
    found = decode(*[Message(line, place=n) for n, line in enumerate(odd)])
    assert found.lines == odd
    assert found.offsets == [0, 1, 2, 3, 4]


def test_a_tombstone_is_counted_and_no_fault():
    found = decode(Message(LINE), Message(None, place=1), Message(None, place=2))
    assert (found.lines, dict(found.skipped), found.faulty) == ([LINE], {"tombstones": 2}, [])


@given(st.lists(st.one_of(st.none(), st.binary(max_size=40)), max_size=30), st.booleans())
def test_every_message_becomes_a_line_a_fault_or_is_counted(values, registry):
    messages = [Message(value, place=n) for n, value in enumerate(values)]
    for envelope in ("none", "connect", "debezium", "cloudevents"):
        found = decode(*messages, envelope=envelope, schemas={} if registry else None)
        faults = [offset for _, _, offset in found.faulty]
        counted = len(found.lines) + len(faults) + found.skipped.total()
        assert counted == len(values)
        assert not set(faults) & set(found.offsets)


def test_framed_json_loses_its_frame():
    schemas = {7: Schema("JSON", "{}"), GUID: Schema("JSON", "{}")}
    for message in (
        Message(framed(LINE)),
        Message(b"\x01" + guid_header()[1][1:] + LINE),
        Message(LINE, (guid_header(),)),
    ):
        assert only(message, schemas=schemas) == json.loads(LINE)


def test_a_value_that_begins_with_a_brace_is_never_cut():
    assert unframe(LINE, {}) is None
    assert only(Message(LINE), schemas={}) == json.loads(LINE)


def test_a_frame_without_a_registry_says_what_to_add():
    assert "schema 7" in fault(Message(framed(LINE), place=3))
    assert "add registry=http://host:port" in fault(Message(framed(LINE)))


@pytest.mark.parametrize("value", [b"\x00\x00\x00", b"\x01" + bytes(9)])
def test_a_frame_that_is_cut_off_is_a_fault(value):
    with pytest.raises(FrameError, match="expected a"):
        unframe(value, {})
    assert "expected a" in fault(Message(value), schemas={})


def test_a_schema_that_the_registry_lacks_is_a_fault_of_its_record_alone():
    found = decode(Message(framed(LINE, 9)), Message(LINE, place=1), schemas={})
    assert found.lines == [LINE]
    assert "has no 9" in found.faulty[0][1].detail


@given(st.lists(st.integers(0, 300), min_size=1, max_size=5), st.binary(max_size=5))
def test_the_index_of_a_protobuf_message_is_read_back(index, body):
    def zigzag(number: int) -> bytes:
        raw, out = number << 1, b""
        while raw > 127:
            raw, out = raw >> 7, out + bytes([raw & 127 | 128])
        return out + bytes([raw])

    data = b"".join(zigzag(number) for number in (len(index), *index)) + body
    assert message_index(data) == (index, body)


def avro(value: dict, schema: str = AVRO) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(schema)), value)
    return out.getvalue()


EVENT = {
    "event_id": "e1",
    "user_id": None,
    "at": NOON,
    "local": NOON.replace(tzinfo=None),
    "value": Decimal("19.90"),
}


def test_avro_instants_are_milliseconds_and_local_times_get_no_zone():
    told = only(Message(framed(avro(EVENT))), schemas={7: Schema("AVRO", AVRO)})
    assert told == {
        "event_id": "e1",
        "user_id": None,
        "at": NOON_MS,
        "local": "2026-01-31T12:00:00",
        "value": 19.9,
    }


def test_avro_refers_to_other_schemas():
    inner = '{"type": "record", "name": "User", "fields": [{"name": "id", "type": "string"}]}'
    outer = '{"type": "record", "name": "E", "fields": [{"name": "user", "type": "User"}]}'
    body = io.BytesIO()
    named: dict = {}
    fastavro.parse_schema(json.loads(inner), named_schemas=named)
    parsed = fastavro.parse_schema(json.loads(outer), named_schemas=named)
    fastavro.schemaless_writer(body, parsed, {"user": {"id": "ann"}})
    schema = Schema("AVRO", outer, (("User", inner),))
    assert only(Message(framed(body.getvalue())), schemas={7: schema}) == {"user": {"id": "ann"}}


@pytest.mark.parametrize("cut", [slice(0, -3), slice(0, 2)])
def test_avro_that_is_cut_off_is_a_fault(cut):
    message = Message(framed(avro(EVENT)[cut]))
    assert "no Avro of its schema" in fault(message, schemas={7: Schema("AVRO", AVRO)})
    longer = Message(framed(avro(EVENT) + b"xy"))
    assert "2 bytes are left over" in fault(longer, schemas={7: Schema("AVRO", AVRO)})


def test_protobuf_is_read_by_its_message_index():
    from google.protobuf import descriptor_pool, message_factory, timestamp_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(proto_file())
    kind = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Event"))
    event = kind(event_id="e1", dwell_ms=2**40, kind=2, tags=["a", "b"])
    event.at.FromMilliseconds(NOON_MS + 5)
    wanted = {
        "event_id": "e1",
        "at": NOON_MS + 5,
        "dwell_ms": 2**40,
        "kind": "view",
        "tags": ["a", "b"],
    }
    schemas = dict.fromkeys((7, GUID), Schema("PROTOBUF", serialized(proto_file())))
    body = event.SerializeToString()
    second = bytes([2, 2])  # one number: 1, as zigzag
    assert only(Message(framed(second + body)), schemas=schemas) == wanted
    assert only(Message(body, (guid_header(second),)), schemas=schemas) == wanted
    inner = Message(framed(bytes([4, 2, 0]) + kind.Inner(event_id="x").SerializeToString()))
    assert only(inner, schemas=schemas) == {"event_id": "x"}
    assert "no message [4]" in fault(Message(framed(bytes([2, 8]) + body)), schemas=schemas)
    assert "no Protobuf" in fault(Message(framed(second + b"\xff\xff")), schemas=schemas)


def test_connect_converts_what_its_schema_says():
    fields = [
        {"field": "event_time", "type": "int64", "name": "io.debezium.time.MicroTimestamp"},
        {
            "field": "value",
            "type": "bytes",
            "name": "org.apache.kafka.connect.data.Decimal",
            "parameters": {"scale": "2"},
        },
        {"field": "item_id", "type": "string"},
    ]
    payload = {
        "event_time": NOON_MS * 1_000 + 7,
        "value": base64.b64encode((-1990).to_bytes(2, "big", signed=True)).decode(),
        "item_id": "tea",
    }
    record = {"schema": {"type": "struct", "fields": fields}, "payload": payload}
    told = {"event_time": NOON_MS, "value": -19.9, "item_id": "tea"}
    assert only(Message(json.dumps(record).encode()), envelope="connect") == told
    assert only(Message(json.dumps(payload).encode()), envelope="connect") == payload
    empty = Message(b'{"schema": null, "payload": null}')
    assert dict(decode(empty, envelope="connect").skipped) == {"tombstones": 1}


def change(op: str, **more) -> Message:
    return Message(json.dumps({"op": op, "ts_ms": 1, "source": {}, **more}).encode())


def test_debezium_rows_are_events_and_deletes_are_counted():
    row = {"event_id": "e1", "event_time": NOON_MS}
    for op in "cru":
        assert only(change(op, before=None, after=row), envelope="debezium") == row
    wrapped = json.dumps({"schema": None, "payload": {"op": "c", "after": row}}).encode()
    assert only(Message(wrapped), envelope="debezium") == row
    found = decode(
        change("d", before=row, after=None),
        Message(None),
        change("t"),
        change("m"),
        envelope="debezium",
    )
    assert dict(found.skipped) == {"deletes": 1, "tombstones": 1, "control_records": 2}
    assert "op: got 'x' without a row" in fault(change("x"), envelope="debezium")


def test_flattened_changes_lose_what_the_flattening_added():
    row = {"event_id": "e1", "__op": "u", "__deleted": "false", "__ts_ms": 5}
    assert only(Message(json.dumps(row).encode()), envelope="debezium") == {"event_id": "e1"}
    gone = Message(json.dumps(row | {"__deleted": "true"}).encode())
    assert dict(decode(gone, envelope="debezium").skipped) == {"deletes": 1}


def test_cloud_events_are_unwrapped_both_ways():
    data = {"user_id": "ann", "item_id": "tea"}
    time = "2026-01-31T12:00:00Z"
    wanted = {"event_id": "/shop|7", "event_time": time, **data}
    about = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "view", "time": time}
    kind = (("content-type", b"Application/CloudEvents+json; charset=UTF-8"), ("ce_id", b"no"))
    packed = base64.b64encode(json.dumps(data).encode()).decode()
    for more in ({"data": data}, {"data_base64": packed}):
        message = Message(json.dumps(about | more).encode(), kind)
        assert only(message, envelope="cloudevents") == wanted
    binary = (("ce_id", b"7"), ("ce_source", b"/shop"), ("ce_time", time.encode()))
    assert only(Message(json.dumps(data).encode(), binary), envelope="cloudevents") == wanted
    own = data | {"event_id": "mine"}
    told = only(Message(json.dumps(own).encode(), binary), envelope="cloudevents")
    assert told["event_id"] == "mine"
    assert dict(
        decode(Message(json.dumps(about).encode(), kind), envelope="cloudevents").skipped
    ) == {"tombstones": 1}
    assert "expected an object" in fault(Message(b"[1]", binary), envelope="cloudevents")


def test_options_of_a_topic_say_what_is_around_a_record():
    source = KafkaSource.parse("kafka://h:1/t?envelope=debezium&registry=http://r:8081")
    decoder = source.decoder()
    assert (decoder.envelope, decoder.registry.url) == ("debezium", "http://r:8081")
    with pytest.raises(SourceError, match="envelope=xml is not known: choose from none, connect"):
        KafkaSource.parse("kafka://h:1/t?envelope=xml")


def test_a_registrys_password_is_read_from_the_file_and_never_shown(tmp_path):
    file = tmp_path / "kafka.properties"
    file.write_text("schema.registry.basic.auth.user.info=me:hush:hush\nclient.id=x\n")
    source = KafkaSource.parse(f"kafka://h:1/t?registry=http://r:8081&config={file}")
    registry = source.decoder().registry
    assert (registry.user, registry.password) == ("me", "hush:hush")
    assert "hush" not in repr(registry)
    assert not [name for name in source.consumer_settings() if name.startswith("schema.")]
    with pytest.raises(SourceError, match=r"registry= is no address") as raised:
        KafkaSource.parse("kafka://h:1/t?registry=http://me:hush@r:8081").decoder()
    assert "hush" not in str(raised.value)


def test_a_registry_that_is_away_is_told_before_anything_is_read(monkeypatch):
    monkeypatch.setattr("pipelines.read.kafka.wire.registry._WAIT_S", 0.1)
    with pytest.raises(SourceError, match=r"registry http://127.0.0.1:1 does not answer.*check"):
        SchemaRegistry("http://127.0.0.1:1").check()
    with pytest.raises(JobError, match="does not answer"):
        SchemaRegistry("http://127.0.0.1:1").schema(1)
