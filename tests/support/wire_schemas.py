"""Schemas and bodies of a feedback event, made by hand, in Avro and Protobuf."""

import base64
from io import BytesIO
from typing import Any

import fastavro
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto

EVENT_MS = 1_767_225_600_123  # 2026-01-01T00:00:00.123Z

AVRO = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        {"name": "event_id", "type": "string"},
        {"name": "user_id", "type": "string"},
        {"name": "item_id", "type": "string"},
        {
            "name": "event_type",
            "type": {"type": "enum", "name": "Kind", "symbols": ["view", "click"]},
        },
        {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "dwell_ms", "type": ["null", "long"], "default": None},
    ],
}

_FIELD = FieldDescriptorProto


def avro_body(record: dict[str, Any], schema: Any = AVRO) -> bytes:
    out = BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema, named_schemas={}), record)
    return out.getvalue()


def proto_file() -> FileDescriptorProto:
    """`message Other { int32 n = 1; message Event {…} }`, `enum Kind`, a Timestamp."""
    file = FileDescriptorProto(name="event.proto", package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.dependency.append("google/protobuf/wrappers.proto")
    kind = file.enum_type.add(name="Kind")
    kind.value.add(name="view", number=0)
    kind.value.add(name="click", number=1)
    other = file.message_type.add(name="Other")
    other.field.add(name="n", number=1, type=_FIELD.TYPE_INT32, label=_FIELD.LABEL_OPTIONAL)
    event = other.nested_type.add(name="Event")
    fields: list[tuple[str, int, str]] = [
        ("event_id", _FIELD.TYPE_STRING, ""),
        ("user_id", _FIELD.TYPE_STRING, ""),
        ("item_id", _FIELD.TYPE_STRING, ""),
        ("event_type", _FIELD.TYPE_ENUM, ".shop.Kind"),
        ("event_time", _FIELD.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
        ("dwell_ms", _FIELD.TYPE_INT64, ""),
        ("value", _FIELD.TYPE_MESSAGE, ".google.protobuf.DoubleValue"),
    ]
    for number, (name, of, type_name) in enumerate(fields, 1):
        event.field.add(
            name=name,
            number=number,
            type=of,
            type_name=type_name or None,
            label=_FIELD.LABEL_OPTIONAL,
        )
    entry = event.nested_type.add(name="ContextEntry")
    entry.options.map_entry = True
    for number, name in enumerate(("key", "value"), 1):
        entry.field.add(
            name=name, number=number, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL
        )
    event.field.add(
        name="context",
        number=8,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".shop.Other.Event.ContextEntry",
        label=_FIELD.LABEL_REPEATED,
    )
    return file


def serialized(file: FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()


def proto_message(**fields: Any) -> bytes:
    """The bytes of `shop.Other.Event`; `event_time` in epoch milliseconds."""
    from google.protobuf import timestamp_pb2, wrappers_pb2

    pool = descriptor_pool.DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2):
        copy = FileDescriptorProto()
        known.DESCRIPTOR.CopyToProto(copy)
        pool.Add(copy)
    pool.Add(proto_file())
    made = message_factory.GetMessageClass(pool.FindMessageTypeByName("shop.Other.Event"))()
    if "event_time" in fields:
        made.event_time.FromMilliseconds(fields.pop("event_time"))
    if "value" in fields:
        made.value.value = fields.pop("value")
    made.context.update(fields.pop("context", {}))
    for name, value in fields.items():
        setattr(made, name, value)
    return made.SerializeToString()
