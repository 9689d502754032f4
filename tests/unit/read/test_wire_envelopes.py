"""CloudEvents, Connect and Debezium: what comes out of each envelope, and what is only counted."""

import base64
import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.read.kafka.wire.avro import AvroSchema
from pipelines.read.kafka.wire.decoder import FORMATS, Decoder
from pipelines.read.kafka.wire.outcome import Dropped, WireError
from pipelines.read.kafka.wire.registry import JsonSchema
from pipelines.read.parse.event_rules import Fault
from tests.support.wire_schemas import AVRO, EVENT_MS, avro_body

EVENT = {
    "event_id": "e1",
    "user_id": "u",
    "item_id": "i",
    "event_type": "click",
    "event_time": EVENT_MS,
}
LINE = b'{"event_id":"e1", "user_id":"u", "value":1.50}'  # to the byte
GUID = UUID("89791762-2336-4186-9674-299b90a802e2")


class Known:
    """A registry of a few schemas."""

    def __init__(self, **schemas: Any) -> None:
        self.schemas = schemas

    def schema(self, key: int | UUID) -> Any:
        if f"n{key}" not in self.schemas:
            raise WireError(f"schema {key}: unknown")
        return self.schemas[f"n{key}"]


KNOWN = Known(n1=AvroSchema(json.dumps(AVRO)), n2=JsonSchema())


def told(value: Any, headers: Any = None, wire: str = "auto", schemas: Any = None) -> Any:
    """What becomes of a value (an object is written as JSON, as its fields stand)."""
    data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Decoder(wire, schemas).decode(data, headers)


def detail(became: Any) -> str:
    assert isinstance(became, Fault)
    assert became.reason == "bad_wire"
    return became.detail


SOME: list[tuple[bytes | None, Any]] = [
    (LINE, None),
    (LINE, []),
    (LINE, [("trace", b"1")]),
    (LINE, [("Content-Type", b"application/json"), ("none", None)]),
    (LINE, [("Content-Type", b"application/cloudevents+json")]),
    (LINE, [("__value_schema_id", b"\x00\x00\x00\x00\x02")]),
    (json.dumps(EVENT).encode(), [("ce_id", b"7"), ("ce_specversion", b"1.0")]),
    (b'{"user_id":"u"}', [("ce_id", b"7"), ("ce_source", b"/s")]),
    (None, None),
    (b"", None),
    (b"{", None),
    (b"[1]", None),
    (b"\x00\x00\x00\x00\x02" + LINE, None),
    (b"\x00\x00\x00\x00\x09" + LINE, None),
    (b"\x00", None),
    (b'{"schema":null,"payload":{"a":1}}', None),
    (b'{ "op":"d","before":{}}', None),
    (b'{"a":1,"__deleted":"true"}', None),
    (b'{"a":1,"__deleted":"false"}', None),
]


# -- plain lines -------------------------------------------------------------------


@pytest.mark.parametrize("value", [LINE, b"{nonsense", b"", b"[1]", b" {}", b"\xff", b'{"op":1}'])
@pytest.mark.parametrize("wire", ["auto", "json"])
def test_a_line_stays_as_it_is(value: bytes, wire: str) -> None:
    assert told(value, wire=wire) == value


def test_a_field_named_like_one_of_an_envelope_makes_none() -> None:
    for event in (
        {"schema": "v1", **EVENT},
        {"schema": "v1", "payload": "x"},
        {"source": "web", "op": "click", **EVENT},
        {"specversion": "1.0", **EVENT},
        {"before": 1, **EVENT},
    ):
        assert told(event) == json.dumps(event).encode()


@given(st.binary(max_size=40), st.sampled_from(FORMATS))
def test_any_bytes_are_one_thing(value: bytes, wire: str) -> None:
    became = told(value, wire=wire, schemas=KNOWN)
    assert isinstance(became, bytes | Dropped | Fault)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["schema", "payload", "before", "after", "op", "source", "id", "data",
                         "specversion", "type", "fields", "name", "__deleted", "data_base64"]),
        inner,
        max_size=6,
    ),
    max_leaves=12,
)  # fmt: skip


@given(json_values, st.sampled_from(FORMATS), st.booleans())
def test_any_envelope_is_one_thing(value: Any, wire: str, cloud: bool) -> None:
    headers = [("content-type", b"application/cloudevents+json")] if cloud else None
    became = told(value, headers, wire, KNOWN)
    assert isinstance(became, bytes | Dropped | Fault)


@given(st.lists(st.sampled_from(SOME), max_size=8), st.sampled_from(FORMATS))
def test_many_at_once_are_what_each_is_alone(some: list[Any], wire: str) -> None:
    decoder = Decoder(wire, KNOWN)
    values, headers = [value for value, _ in some], [more for _, more in some]
    alone = [decoder.decode(value, more) for value, more in some]
    found = decoder.sort(values, headers, range(5, 5 + len(some)))
    lines = [(one, n) for n, one in enumerate(alone, 5) if isinstance(one, bytes)]
    assert list(zip(found.lines.to_pylist(), found.positions.to_pylist(), strict=True)) == lines
    faults = [(n, one) for n, one in enumerate(alone, 5) if isinstance(one, Fault)]
    assert [(n, fault) for _, fault, n in found.faults] == faults
    assert all(values[n - 5] == value for value, _, n in found.faults)
    assert sum(found.dropped.values()) == len(some) - len(lines) - len(faults)


@pytest.mark.parametrize("wire", FORMATS)
def test_a_null_value_is_a_tombstone(wire: str) -> None:
    assert told(None, wire=wire) is Dropped.TOMBSTONE


# -- frames ------------------------------------------------------------------------


def test_a_framed_value_of_each_kind() -> None:
    record = {**EVENT, "dwell_ms": None}
    framed = b"\x00\x00\x00\x00\x01" + avro_body(record)
    text = "2026-01-01T00:00:00.123000Z"
    for wire in ("auto", "avro", "debezium"):
        assert json.loads(told(framed, wire=wire, schemas=KNOWN)) == {**record, "event_time": text}
    assert told(b"\x00\x00\x00\x00\x02" + LINE, schemas=KNOWN) == LINE
    assert told(b"\x00\x00\x00\x00\x09" + LINE, wire="json-schema") == LINE
    assert told(b"\x00\x00\x00\x00\x09" + LINE) == LINE  # JSON says itself what it is


def test_a_guid_in_the_header() -> None:
    header = [("__value_schema_id", b"\x01" + GUID.bytes)]
    known = Known(**{f"n{GUID}": KNOWN.schemas["n1"]})
    became = told(avro_body({**EVENT, "dwell_ms": 5}), header, schemas=known)
    assert json.loads(became)["dwell_ms"] == 5


def test_what_cannot_be_unframed_is_told() -> None:
    framed = b"\x00\x00\x00\x00\x01" + avro_body({**EVENT, "dwell_ms": None})
    assert "no schema registry is named; add registry=" in detail(told(framed))
    unknown = b"\x00\x00\x00\x00\x07" + LINE
    assert detail(told(unknown, schemas=KNOWN)) == "schema 7: unknown"
    assert "of type AVRO, but wire=protobuf" in detail(told(framed, wire="protobuf", schemas=KNOWN))
    assert "begins with 7b 22 65 76 65, but wire=avro" in detail(
        told(LINE, wire="avro", schemas=KNOWN)
    )


# -- Debezium and Connect ------------------------------------------------------------


def change(op: str, **more: Any) -> dict[str, Any]:
    return {"before": None, "after": EVENT, "source": {"lsn": 1}, "op": op, "ts_ms": 1} | more


@pytest.mark.parametrize("op", ["c", "r", "u"])
def test_a_row_that_is_there_is_the_record(op: str) -> None:
    assert told(change(op)) == json.dumps(EVENT).encode()
    assert told({"payload": change(op), "schema": None}) == json.dumps(EVENT).encode()


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (change("d", after=None, before=EVENT), Dropped.DELETE),
        ({"source": {}, "op": "t", "ts_ms": 1}, Dropped.NO_ROW),
        ({"op": "m", "source": {}, "message": {}}, Dropped.NO_ROW),
        ({**EVENT, "__deleted": "true", "__op": "d"}, Dropped.DELETE),
        ({**EVENT, "__deleted": True}, Dropped.DELETE),
        ({"schema": {"type": "struct", "fields": []}, "payload": None}, Dropped.TOMBSTONE),
    ],
)
def test_what_is_no_row_is_counted_by_its_kind(value: Any, kind: Dropped) -> None:
    assert told(value) is kind
    assert told(value, wire="debezium") is kind


def test_a_flattened_row_that_is_there_is_a_line() -> None:
    value = {**EVENT, "__deleted": "false", "__op": "u"}
    assert told(value) == json.dumps(value).encode()


def test_a_change_that_is_none_is_told() -> None:
    assert "after: null, but op is c" in detail(told(change("c", after=None)))
    assert "op: got 'x', expected c, r, u, d, t or m" in detail(told(change("x")))


def schema_of(**fields: dict[str, Any]) -> dict[str, Any]:
    named = [{"field": name, **kind} for name, kind in fields.items()]
    return {"type": "struct", "fields": named}


def test_what_only_the_schema_tells_is_put_into_the_record() -> None:
    times = {
        "ms": ("org.apache.kafka.connect.data.Timestamp", 1),
        "dms": ("io.debezium.time.Timestamp", 1),
        "us": ("io.debezium.time.MicroTimestamp", 1_000),
        "ns": ("io.debezium.time.NanoTimestamp", 1_000_000),
    }
    kinds = {name: {"type": "int64", "name": full} for name, (full, _) in times.items()}
    scale = {"parameters": {"scale": "2"}}
    kinds["price"] = {"type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", **scale}
    kinds["n"] = {"type": "int64"}
    payload = {name: EVENT_MS * per for name, (_, per) in times.items()}
    cents = base64.b64encode((1_234).to_bytes(2, "big")).decode()
    schema, value = schema_of(**kinds), payload | {"price": cents, "n": 7}
    got = json.loads(told({"schema": schema, "payload": value}))
    assert got == dict.fromkeys(times, "2026-01-01T00:00:00.123000Z") | {"price": 12.34, "n": 7}
    # The same within a change, and of a value that is null.
    outer = schema_of(after=schema, op={"type": "string"})
    value["us"] = None
    row = json.loads(told({"schema": outer, "payload": change("c", after=value)}))
    assert (row["us"], row["ns"]) == (None, "2026-01-01T00:00:00.123000Z")


def test_a_schema_that_says_nothing_more_leaves_the_bytes() -> None:
    value = b'{"schema":{"type":"struct","fields":[]},"payload":%b}' % LINE
    assert told(value) == LINE


def test_a_change_in_avro() -> None:
    row = {**AVRO, "name": "Value"}
    envelope = {"type": "record", "name": "Envelope", "fields": []}
    envelope["fields"] += [{"name": "before", "type": ["null", row], "default": None}]
    envelope["fields"] += [{"name": "after", "type": ["null", "shop.Value"], "default": None}]
    envelope["fields"] += [{"name": "op", "type": "string"}]
    known = Known(n3=AvroSchema(json.dumps(envelope)))

    def framed(**fields: Any) -> bytes:
        record = {"before": None, "after": None} | fields
        return b"\x00\x00\x00\x00\x03" + avro_body(record, envelope)

    event = {**EVENT, "dwell_ms": 3}
    assert json.loads(told(framed(op="c", after=event), schemas=known))["dwell_ms"] == 3
    assert told(framed(op="d", before=event), schemas=known) is Dropped.DELETE
    assert "after: null" in detail(told(framed(op="u"), schemas=known))


# -- CloudEvents ---------------------------------------------------------------------

CE = {
    "specversion": "1.0",
    "id": "7",
    "source": "/shop",
    "type": "click",
    "time": "2026-01-01T00:00:00Z",
}
BARE = {"user_id": "u", "item_id": "i"}
WHOLE = {**BARE, "event_time": CE["time"], "event_type": "click", "event_id": "/shop|7"}


@pytest.mark.parametrize("kind", [b"application/cloudevents+json", b"Application/CloudEvents; x"])
def test_a_structured_one(kind: bytes) -> None:
    headers = [("Content-Type", kind), ("ce_id", b"not this one")]
    assert json.loads(told({**CE, "data": BARE}, headers)) == WHOLE
    assert json.loads(told({**CE, "data": BARE})) == WHOLE  # its first field says it
    whole = json.dumps(EVENT).encode()
    assert told({**CE, "data": EVENT}, headers) == whole
    encoded = base64.b64encode(whole).decode()
    assert told({**CE, "data_base64": encoded}, headers) == whole
    assert told(CE, headers) is Dropped.TOMBSTONE


def test_a_binary_one() -> None:
    headers = [(f"ce_{name}", text.encode()) for name, text in CE.items()]
    headers.append(("content-type", b"application/json"))
    assert json.loads(told(BARE, headers)) == WHOLE
    assert told(EVENT, headers) == json.dumps(EVENT).encode()
    assert told(None, headers) is Dropped.TOMBSTONE
    framed = b"\x00\x00\x00\x00\x02" + json.dumps(BARE).encode()
    assert json.loads(told(framed, headers, schemas=KNOWN)) == WHOLE


def test_what_is_not_given_is_not_made_up() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"7"), ("ce_source", b"/shop")]
    assert json.loads(told(BARE, headers)) == {**BARE, "event_id": "/shop|7"}


def test_an_id_that_is_too_long_is_hashed() -> None:
    headers = [("ce_id", b"7" * 300), ("ce_source", b"/shop")]
    made = json.loads(told(BARE, headers))["event_id"]
    assert len(made) == 64
    headers[0] = ("ce_id", b"7" * 299 + b"8")
    assert json.loads(told(BARE, headers))["event_id"] != made


def test_a_change_within_keeps_the_time_of_its_row() -> None:
    row = {"event_id": "e", "created": 1}
    value = {**CE, "data": {"payload": change("c", after=row), "schema": None}}
    assert told(value) == json.dumps(row).encode()


def test_what_is_no_cloud_event_is_told() -> None:
    headers = [("content-type", b"application/cloudevents+json")]
    assert "the envelope lacks specversion" in detail(told(EVENT, headers))
    batch = [("content-type", b"application/cloudevents-batch+json")]
    assert "a batch of CloudEvents" in detail(told([], batch))
    assert "data_base64: not base64" in detail(told({**CE, "data_base64": "…"}, headers))
