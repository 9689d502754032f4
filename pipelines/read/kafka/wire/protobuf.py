"""Protobuf bodies: which message of its file a body is, and its fields by name.

Fields that were not set are left out, so that they are unknown and not 0 or "". An
enumeration is given by name, also its first value, for that is a word like any other.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from pipelines.read.kafka.wire.outcome import Node, WireError

__all__ = ["ProtobufSchema", "read_index"]

_KNOWN = "google/protobuf/"
_MAX_VARINT = 10  # bytes
_MAX_DEPTH = 100  # of an index


class ProtobufSchema:
    """A file of messages, and those that it imports."""

    kind = "PROTOBUF"

    def __init__(self, encoded: str, imports: Mapping[str, str] | None = None) -> None:
        """Read a file's descriptor.

        Args:
            encoded: base64 of its FileDescriptorProto, as a registry gives it.
            imports: path → the same of each file that is imported, directly or not.

        Raises:
            WireError: it is none, or imports what is not given.
        """
        from google.protobuf import descriptor_pool

        self._pool = descriptor_pool.DescriptorPool()
        self._imports = dict(imports or {})
        self._added: set[str] = set()
        self._file = self._read("schema.proto", encoded)
        self._classes: dict[tuple[int, ...], Any] = {}
        self._add(self._file)

    def decode(self, body: bytes, index: bytes | None = None) -> Node:
        """A body → its record.

        Args:
            body: begins with the message's index, unless that is in `index`.
            index: as the header has it.

        Raises:
            WireError: it is not of this schema.
        """
        from google.protobuf.message import DecodeError

        path, rest = read_index(body if index is None else index)
        kind = self._class(path)
        try:
            message = kind.FromString(rest if index is None else body)
        except (DecodeError, RecursionError, ValueError) as error:
            raise WireError(f"value: not of its Protobuf schema ({error})") from None
        return _record(message)

    def _read(self, name: str, encoded: str) -> Any:
        from google.protobuf.descriptor_pb2 import FileDescriptorProto
        from google.protobuf.message import DecodeError

        try:
            file = FileDescriptorProto.FromString(base64.b64decode(encoded, validate=True))
        except (binascii.Error, ValueError, DecodeError) as error:
            raise WireError(
                f"schema: not a Protobuf descriptor ({error}); the registry has to know "
                "?format=serialized"
            ) from None
        file.name = name
        return file

    def _add(self, file: Any) -> None:
        """Put a file into the pool, after those that it imports."""
        self._added.add(file.name)
        for name in file.dependency:
            if name not in self._added:
                self._add(self._import(name))
        try:
            self._pool.Add(file)
            self._pool.FindFileByName(file.name)
        except (TypeError, KeyError) as error:
            raise WireError(f"schema: Protobuf refuses it ({error})") from None

    def _import(self, name: str) -> Any:
        if name in self._imports:
            return self._read(name, self._imports[name])
        if name.startswith(_KNOWN):
            return _known(name)
        raise WireError(f"schema: imports {name}, which is not among its references")

    def _class(self, path: tuple[int, ...]) -> Any:
        """The class of the message at a path of the file."""
        from google.protobuf import message_factory

        if path not in self._classes:
            names, inner = [self._file.package] if self._file.package else [], self._file
            for depth, number in enumerate(path):
                messages = inner.nested_type if depth else inner.message_type
                if not 0 <= number < len(messages):
                    raise WireError(f"value: its schema has no message at {list(path)}")
                inner = messages[number]
                names.append(inner.name)
            found = self._pool.FindMessageTypeByName(".".join(names))
            self._classes[path] = message_factory.GetMessageClass(found)
        return self._classes[path]


def read_index(data: bytes) -> tuple[tuple[int, ...], bytes]:
    """(Where the message stands in its file, what follows); `00` is short for the first one.

    >>> read_index(bytes([4, 4, 2]) + b"body")
    ((2, 1), b'body')

    Raises:
        WireError: it is none.
    """
    count, at = _zigzag(data, 0)
    if not 0 <= count <= _MAX_DEPTH:
        raise WireError(f"value: a Protobuf index of {count} steps, expected 0 to {_MAX_DEPTH}")
    path = []
    for _ in range(count):
        number, at = _zigzag(data, at)
        path.append(number)
    return tuple(path) or (0,), data[at:]


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    """(Number at a place, the place after it)."""
    number = 0
    for shift, byte in enumerate(data[at : at + _MAX_VARINT]):
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), at + shift + 1
    raise WireError("value: ends within its Protobuf index")


def _known(name: str) -> Any:
    """A file that comes with Protobuf itself."""
    import importlib

    from google.protobuf import descriptor_pool
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    module = name.removesuffix(".proto").replace("/", ".") + "_pb2"
    try:
        importlib.import_module(module)
        found = descriptor_pool.Default().FindFileByName(name)
    except (ImportError, KeyError):
        raise WireError(f"schema: imports {name}, which Protobuf does not have") from None
    file = FileDescriptorProto()
    found.CopyToProto(file)
    return file


def _record(message: Any) -> Any:
    kind = message.DESCRIPTOR
    if kind.full_name.startswith("google.protobuf."):
        return _known_value(message)
    record = {}
    for field in kind.fields:
        if field.is_repeated:
            values = getattr(message, field.name)
            if len(values):
                record[field.name] = _several(field, values)
        elif _is_set(message, field):
            record[field.name] = _one(field, getattr(message, field.name))
    return record


def _is_set(message: Any, field: Any) -> bool:
    if field.has_presence:
        return bool(message.HasField(field.name))
    return field.enum_type is not None or getattr(message, field.name) != field.default_value


def _several(field: Any, values: Any) -> Any:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        of = field.message_type.fields_by_name["value"]
        return {_key(key): _one(of, values[key]) for key in values}
    return [_one(field, value) for value in values]


def _key(key: Any) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _record(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name
    return value


def _known_value(message: Any) -> Any:
    """A timestamp as RFC 3339, a wrapped value as itself, others as JSON has them."""
    from google.protobuf import json_format

    if message.DESCRIPTOR.name.endswith("Value") and "value" in message.DESCRIPTOR.fields_by_name:
        return message.value  # Int64Value and its like: a number, where JSON has text
    try:
        return json_format.MessageToDict(message)
    except (ValueError, TypeError, json_format.Error) as error:
        raise WireError(f"{message.DESCRIPTOR.full_name}: {error}") from None
