"""What becomes of a Kafka value, and the two forms of a record on its way to a line."""

from enum import StrEnum
from typing import Any

import msgspec

__all__ = ["Dropped", "Node", "WireError", "as_line", "as_value", "fields_of", "is_null"]

Node = Any
"""A record or a part of one: `msgspec.Raw` (JSON text as it was received), or Python values."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


class Dropped(StrEnum):
    """Why a value is no event and no mistake; the names are the job's counters."""

    TOMBSTONE = "tombstones"  # a null value
    DELETE = "deletes"  # a row that was deleted
    NO_ROW = "no_rows"  # a message about a stream or a table


class WireError(Exception):
    """A value cannot be decoded: what was received, what was expected."""


def fields_of(node: Node) -> dict[str, Node] | None:
    """The fields of an object; None of what is none.

    >>> fields_of(msgspec.Raw(b"[1]")) is None, list(fields_of({"a": 1}))
    (True, ['a'])
    """
    if isinstance(node, msgspec.Raw):
        try:
            return _decode_fields(node)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
    return node if isinstance(node, dict) else None


def is_null(node: Node) -> bool:
    """Whether there is nothing in it."""
    return node is None or (isinstance(node, msgspec.Raw) and bytes(node) == b"null")


def as_value(node: Node) -> Any:
    """The node as Python values.

    Raises:
        WireError: it is no JSON.
    """
    if not isinstance(node, msgspec.Raw):
        return node
    try:
        return _decode(node)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(f"value: not JSON ({error})") from None


def as_line(node: Node) -> bytes:
    """The node as a line of JSON; JSON text stays as it is, to the byte.

    A time with a zone is written as RFC 3339, a decimal as a number, bytes as base64.

    Raises:
        WireError: it holds something that JSON has no word for.
    """
    if isinstance(node, msgspec.Raw):
        return bytes(node)
    try:
        return _encode(node)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"value: cannot be written as JSON ({error})") from None
