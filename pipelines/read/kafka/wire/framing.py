"""Confluent's framing: which schema a value was written with, and where its body begins.

| where | bytes |
|---|---|
| value | `00`, schema id (4 bytes, big-endian), body |
| value | `01`, schema GUID (16 bytes), body |
| header `__value_schema_id` | `01`, GUID; of Protobuf the message's index; the value is bare |

No JSON text begins with `00` or `01`, so nothing is ever cut from a plain line.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from pipelines.read.kafka.wire.outcome import WireError

__all__ = ["HEADER", "Framed", "SchemaKey", "split"]

SchemaKey = int | UUID
"""A schema's id, or its GUID."""

HEADER = "__value_schema_id"
_ID, _GUID = 0, 1
_LENGTH = {_ID: 5, _GUID: 17}


@dataclass(frozen=True)
class Framed:
    """A value without its frame.

    Attributes:
        key: of the schema that it was written with.
        body: what follows; of Protobuf it begins with the message's index, unless
            `index` has it.
        index: what follows the key in the header; None where the key is in the value.
    """

    key: SchemaKey
    body: bytes
    index: bytes | None = None


def split(value: bytes, headers: Mapping[str, bytes]) -> Framed | None:
    """The frame of a value; None where it has none.

    >>> split(bytes([0, 0, 0, 1, 2]) + b"body", {}).key
    258
    >>> split(b"{}", {}) is None
    True

    Raises:
        WireError: it begins like a frame and ends within it.
    """
    if HEADER in headers:
        key, rest = _cut(headers[HEADER], f"header {HEADER}")
        return Framed(key, value, rest)
    if value[:1] in {b"\x00", b"\x01"}:
        return Framed(*_cut(value, "value"))
    return None


def _cut(data: bytes, what: str) -> tuple[SchemaKey, bytes]:
    """(Key, what follows it)."""
    kind = data[0] if data else -1
    length = _LENGTH.get(kind)
    if length is None or len(data) < length:
        raise WireError(
            f"{what}: got {data[:17].hex(' ') or 'nothing'}, expected 00 and a schema id of 4 "
            "bytes, or 01 and a GUID of 16"
        )
    if kind == _ID:
        return int.from_bytes(data[1:length], "big"), data[length:]
    return UUID(bytes=data[1:length]), data[length:]
