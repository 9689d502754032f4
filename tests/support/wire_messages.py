"""Messages of a topic as the client hands them over, and frames put around values by hand."""

import base64
import uuid
from dataclasses import dataclass

from google.protobuf import descriptor_pb2

GUID = "3f2a9c1e-0d4b-4c5a-9e77-1b2c3d4e5f60"


@dataclass(frozen=True)
class Message:
    body: bytes | None
    about: tuple[tuple[str, bytes], ...] = ()
    place: int = 0

    def value(self) -> bytes | None:
        return self.body

    def offset(self) -> int:
        return self.place

    def headers(self) -> list[tuple[str, bytes]] | None:
        return list(self.about) or None


def framed(body: bytes, number: int = 7) -> bytes:
    return b"\x00" + number.to_bytes(4, "big") + body


def guid_header(index: bytes = b"") -> tuple[str, bytes]:
    return ("__value_schema_id", b"\x01" + uuid.UUID(GUID).bytes + index)


AVRO = """{"type": "record", "name": "Event", "fields": [
  {"name": "event_id", "type": "string"},
  {"name": "user_id", "type": ["null", "string"]},
  {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
  {"name": "local", "type": {"type": "long", "logicalType": "local-timestamp-millis"}},
  {"name": "value", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}}
]}"""


def proto_file(name: str = "event.proto") -> descriptor_pb2.FileDescriptorProto:
    """`Other`, then `Event` with an `Inner` and an enumeration."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name=name, package="shop", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.message_type.add(name="Other")
    event = file.message_type.add(name="Event")
    event.field.add(name="event_id", number=1, type=kinds.TYPE_STRING, label=1)
    event.field.add(
        name="at",
        number=2,
        type=kinds.TYPE_MESSAGE,
        label=1,
        type_name=".google.protobuf.Timestamp",
    )
    event.field.add(name="dwell_ms", number=3, type=kinds.TYPE_INT64, label=1)
    event.field.add(
        name="kind", number=4, type=kinds.TYPE_ENUM, label=1, type_name=".shop.Event.Kind"
    )
    event.field.add(name="tags", number=5, type=kinds.TYPE_STRING, label=3)
    kind = event.enum_type.add(name="Kind")
    for number, word in enumerate(("none", "click", "view")):
        kind.value.add(name=word, number=number)
    event.nested_type.add(name="Inner").field.add(
        name="event_id", number=1, type=kinds.TYPE_STRING, label=1
    )
    return file


def serialized(file: descriptor_pb2.FileDescriptorProto) -> str:
    return base64.b64encode(file.SerializeToString()).decode()
