"""A value and the schema that it was written with → a record of plain values.

Instants become epoch milliseconds. A local time (without a zone) stays a text without a
zone, which validation then refuses: it is no instant.
"""

import base64
import datetime
import decimal
import functools
import io
import json
from collections.abc import Callable
from typing import Any

from pipelines.read.kafka.wire.framing import Frame, message_index
from pipelines.read.kafka.wire.registry import Schema

__all__ = ["reader_of"]

Record = Any  # what JSON can hold
_MILLISECOND = datetime.timedelta(milliseconds=1)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def reader_of(schema: Schema) -> Callable[[Frame], Record]:
    """What reads the values of a schema; it raises ValueError for one that does not fit.

    Args:
        schema: as the registry gave it.
    """
    if schema.kind == "JSON":
        return lambda frame: json.loads(frame.body)
    if schema.kind == "PROTOBUF":
        return functools.partial(_protobuf, _message_types(schema))
    if schema.kind == "AVRO":
        return functools.partial(_avro, _parsed(schema))
    raise ValueError(f"a schema of type {schema.kind} is not known")


def _parsed(schema: Schema) -> Any:
    import fastavro

    named: dict[str, Any] = {}
    for _, text in schema.references:
        fastavro.parse_schema(json.loads(text), named_schemas=named)
    return fastavro.parse_schema(json.loads(schema.text), named_schemas=named)


def _avro(schema: Any, frame: Frame) -> Record:
    import fastavro

    body = io.BytesIO(frame.body)
    try:
        record = fastavro.schemaless_reader(body, schema, None)
    except (EOFError, IndexError, KeyError, OverflowError, TypeError, UnicodeError) as error:
        raise ValueError(f"no Avro of its schema ({type(error).__name__})") from None
    left = len(frame.body) - body.tell()
    if left:
        raise ValueError(f"no Avro of its schema ({left} bytes are left over)")
    return _plain(record)


def _plain(value: Any) -> Record:
    """What fastavro gives, as JSON can hold it."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Record:
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return (value - _EPOCH) // _MILLISECOND
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _message_types(schema: Schema) -> list[Any]:
    """Descriptors of a Protobuf file's messages, in order."""
    from google.protobuf import (
        any_pb2,
        descriptor_pb2,
        descriptor_pool,
        duration_pb2,
        struct_pb2,
        timestamp_pb2,
        wrappers_pb2,
    )

    pool = descriptor_pool.DescriptorPool()
    known = (any_pb2, duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)
    for module in known:
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    held = {module.DESCRIPTOR.name for module in known}
    try:
        for name, text in (*schema.references, ("value.proto", schema.text)):
            file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text))
            file.name = name
            if name not in held:
                pool.Add(file)
        return list(pool.FindFileByName("value.proto").message_types_by_name.values())
    except (TypeError, KeyError) as error:
        raise ValueError(f"its Protobuf schema cannot be used ({error})") from None


def _protobuf(messages: list[Any], frame: Frame) -> Record:
    from google.protobuf import message, message_factory

    if frame.index is None:
        index, body = message_index(frame.body)
    else:
        index, body = message_index(frame.index)[0], frame.body
    try:
        found = messages[index[0]]
        for place in index[1:]:
            found = found.nested_types[place]
        return _fields(message_factory.GetMessageClass(found).FromString(body))
    except IndexError:
        raise ValueError(f"its Protobuf schema has no message {index}") from None
    except message.DecodeError:
        raise ValueError("no Protobuf of its schema") from None


def _fields(message: Any) -> Record:
    """A message's fields that are set, by name."""
    name = message.DESCRIPTOR.full_name
    if name == "google.protobuf.Timestamp":
        return message.seconds * 1_000 + message.nanos // 1_000_000
    if name.startswith("google.protobuf.") and name.endswith("Value") and name.count(".") == 2:
        return message.value
    return {field.name: _field(field, value) for field, value in message.ListFields()}


def _field(field: Any, value: Any) -> Record:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        inner = kind.fields_by_name["value"]
        return {str(key): _value(inner, value[key]) for key in value}
    if field.is_repeated:
        return [_value(field, one) for one in value]
    return _value(field, value)


def _value(field: Any, value: Any) -> Record:
    if field.message_type is not None:
        return _fields(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
