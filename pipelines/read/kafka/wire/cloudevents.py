"""CloudEvents: the record is `data`; what it lacks of an event, the envelope's attributes give.

Structured: the value is the envelope (`content-type: application/cloudevents…`). Binary:
the value is the data, and headers named `ce_…` are the attributes. A record without
event_id gets `source|id`, for only both together are unique; one without event_time gets
`time`, one without event_type `type`.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from pipelines.read.kafka.wire.outcome import Dropped, Node, WireError, as_value, fields_of, is_null
from pipelines.schema import MAX_ID_BYTES

__all__ = ["CONTENT_TYPE", "attributes_of", "completed", "is_envelope", "is_structured", "opened"]

CONTENT_TYPE = b"application/cloudevents"
_BATCH = b"application/cloudevents-batch"
_REQUIRED = ("specversion", "id", "source", "type")
_NAMES = ("id", "source", "time", "type")

Attributes = Mapping[str, str]


def is_structured(headers: Mapping[str, bytes]) -> bool:
    """Whether the headers say that the value is an envelope.

    Raises:
        WireError: it is a batch of envelopes.
    """
    kind = headers.get("content-type", b"").lower()
    if kind.startswith(_BATCH):
        raise WireError("content-type: a batch of CloudEvents, expected one in each value")
    return kind.startswith(CONTENT_TYPE)


def is_envelope(fields: Mapping[str, Node]) -> bool:
    """Whether these are the fields of an envelope."""
    return all(name in fields for name in _REQUIRED)


def attributes_of(headers: Mapping[str, bytes]) -> Attributes:
    """The attributes in headers; empty where the value is no binary CloudEvent."""
    if "ce_specversion" not in headers and "ce_id" not in headers:
        return {}
    found = {name: headers.get(f"ce_{name}") for name in _NAMES}
    return {name: text.decode("utf-8", "replace") for name, text in found.items() if text}


def opened(fields: Mapping[str, Node]) -> tuple[Node | Dropped, Attributes]:
    """An envelope's fields → (its data, its attributes).

    Raises:
        WireError: it is none, or its data cannot be read.
    """
    if not is_envelope(fields):
        lacks = ", ".join(name for name in _REQUIRED if name not in fields)
        raise WireError(f"CloudEvents: the envelope lacks {lacks}")
    found = {name: as_value(fields[name]) for name in _NAMES if name in fields}
    attributes = {name: text for name, text in found.items() if isinstance(text, str)}
    if not is_null(fields.get("data")):
        return fields["data"], attributes
    if is_null(fields.get("data_base64")):
        return Dropped.TOMBSTONE, attributes
    text = as_value(fields["data_base64"])
    try:
        return msgspec.Raw(base64.b64decode(text, validate=True)), attributes
    except (binascii.Error, ValueError, TypeError):
        raise WireError("data_base64: not base64") from None


def completed(node: Node, attributes: Attributes) -> Node:
    """A record with what it lacks of an event; one that lacks nothing stays as it is."""
    fields = fields_of(node)
    if fields is None:
        return node
    told = {"event_time": attributes.get("time"), "event_type": attributes.get("type")}
    if "id" in attributes:
        told["event_id"] = _identity(attributes)
    more: dict[str, Any] = {n: v for n, v in told.items() if v is not None and n not in fields}
    return {**fields, **more} if more else node


def _identity(attributes: Attributes) -> str:
    """`source|id`; of one too long for an id, its hash.

    >>> _identity({"source": "/shop", "id": "7"})
    '/shop|7'
    """
    text = f"{attributes.get('source', '')}|{attributes['id']}"
    data = text.encode("utf-8", "replace")
    return text if len(data) <= MAX_ID_BYTES else hashlib.sha256(data).hexdigest()
