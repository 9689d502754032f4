"""The frame that Confluent's serializers put around a value: which schema it was written with.

Source: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SCHEMA_HEADER", "Frame", "FrameError", "is_framed", "message_index", "unframe"]

SCHEMA_HEADER = "__value_schema_id"
"""Header that holds the GUID of the value's schema; the value is then bare."""

_ID, _GUID = 0, 1  # magic bytes
_ID_BYTES, _GUID_BYTES = 5, 17  # magic byte included


class FrameError(ValueError):
    """A frame that ends too early, or begins with an unknown byte."""


@dataclass(frozen=True)
class Frame:
    """A value without its frame.

    Attributes:
        schema: the registry's number for it, or its GUID.
        body: the value itself; of Protobuf the message's index stands before it.
        index: the message's index, where it stood in the header; None: in the body.
    """

    schema: int | str
    body: bytes
    index: bytes | None = None


def is_framed(value: bytes) -> bool:
    """Whether a value begins as a frame does; JSON never does.

    >>> is_framed(bytes([0, 0, 0, 0, 7]) + b"{}"), is_framed(b"{}")
    (True, False)
    """
    return value[:1] in {b"\x00", b"\x01"}


def unframe(value: bytes, headers: Mapping[str, bytes]) -> Frame | None:
    """Take a value out of its frame; None where there is none.

    Args:
        value: as received.
        headers: of the record, by name.

    Raises:
        FrameError: the frame is cut off.

    >>> unframe(bytes([0, 0, 0, 0, 7]) + b"{}", {})
    Frame(schema=7, body=b'{}', index=None)
    """
    header = headers.get(SCHEMA_HEADER)
    if header is not None:
        guid, index = _guid(header)
        return Frame(guid, value, index or None)
    if not is_framed(value):
        return None
    if value[0] == _GUID:
        guid, body = _guid(value)
        return Frame(guid, body)
    if len(value) < _ID_BYTES:
        raise FrameError(f"got {len(value)} bytes, expected a zero and a schema id of 4 bytes")
    return Frame(int.from_bytes(value[1:_ID_BYTES], "big"), value[_ID_BYTES:])


def _guid(data: bytes) -> tuple[str, bytes]:
    if data[:1] != bytes([_GUID]) or len(data) < _GUID_BYTES:
        raise FrameError(
            f"got {data[:_GUID_BYTES]!r}, expected a one and a schema GUID of 16 bytes"
        )
    return str(uuid.UUID(bytes=data[1:_GUID_BYTES])), data[_GUID_BYTES:]


def message_index(data: bytes) -> tuple[list[int], bytes]:
    """Which message of a Protobuf file a value is, and what follows.

    The numbers are zigzag varints, their count first; a lone zero stands for the first message.

    >>> message_index(bytes([0]) + b"x"), message_index(bytes([4, 4, 2]))
    (([0], b'x'), ([2, 1], b''))

    Raises:
        FrameError: it is cut off.
    """
    count, at = _varint(data, 0)
    if count == 0:
        return [0], data[at:]
    index = []
    for _ in range(count):
        number, at = _varint(data, at)
        index.append(number)
    return index, data[at:]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint at a place, and the place after it."""
    raw = shift = 0
    while True:
        if at >= len(data) or shift > 28:
            raise FrameError("the index of the Protobuf message is cut off")
        raw |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not data[at - 1] & 0x80:
            return (raw >> 1) ^ -(raw & 1), at
