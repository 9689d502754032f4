"""A Kafka value and its headers → a line of JSON, a reason to leave it out, or a fault.

`auto` looks only where nothing can be mistaken: at bytes with which no JSON begins, at
headers that say what the value is, and at objects whose first field is that of an
envelope and whose fields are all there. Any other value is a line as it stands.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa

from pipelines.read.kafka.wire import cloudevents, connect, debezium, framing
from pipelines.read.kafka.wire.outcome import Dropped, Node, WireError, as_line, fields_of
from pipelines.read.kafka.wire.registry import JsonSchema, Schemas
from pipelines.read.parse.event_rules import Fault

__all__ = ["FORMATS", "NEED_REGISTRY", "Decoder", "Header", "Sorted"]

FORMATS = ("auto", "json", "json-schema", "avro", "protobuf", "connect", "debezium", "cloudevents")
NEED_REGISTRY = ("avro", "protobuf")
_FRAMED = {"json-schema": "JSON", "avro": "AVRO", "protobuf": "PROTOBUF"}
_ENVELOPES = tuple(
    b'{%b"%b"' % (space, name)
    for space in (b"", b" ")
    for name in (b"schema", b"payload", b"before", b"after", b"op", b"source", b"specversion")
)
_GONE = b'"__deleted"'
_BEGINNINGS = np.zeros(256, bool)  # third letters of values that may be envelopes
_BEGINNINGS[[name[2] for name in _ENVELOPES]] = True

Header = tuple[str, bytes | None]


@dataclass(frozen=True)
class Sorted:
    """What became of some records.

    Attributes:
        lines: `[n]` binary, those that are lines now.
        positions: `[n]` int64, of each.
        faults: (payload as it was received, why, position) of those that cannot be decoded.
        dropped: how many were left out, by reason.
    """

    lines: pa.BinaryArray
    positions: pa.Int64Array
    faults: list[tuple[bytes, Fault, int]] = field(default_factory=list)
    dropped: dict[str, int] = field(default_factory=dict)


@dataclass
class Decoder:
    """Knows how the values of a topic are wrapped.

    Attributes:
        wire: one of FORMATS.
        schemas: where schemas are looked up; None: nowhere.
    """

    wire: str = "auto"
    schemas: Schemas | None = None

    def sort(
        self,
        values: Sequence[bytes | None],
        headers: Sequence[Sequence[Header] | None],
        positions: Sequence[int],
    ) -> Sorted:
        """Values `[n]` with their headers and positions → what becomes of each.

        Where all are lines as they stand, which is usual, none is looked at by itself.

        Raises:
            RilletError: the schema registry cannot be asked.
        """
        payload = pa.array(values, pa.binary())
        odd = self._suspects(payload, headers)
        odd = [n for n in odd if not self.is_plain(values[n], headers[n])]
        if not odd:
            return Sorted(payload, pa.array(positions, pa.int64()))
        became: list[bytes | Dropped | Fault | None] = list(values)
        for n in odd:
            became[n] = self.decode(values[n], headers[n])
        kept = [n for n, one in enumerate(became) if isinstance(one, bytes)]
        return Sorted(
            lines=pa.array([became[n] for n in kept], pa.binary()),
            positions=pa.array([positions[n] for n in kept], pa.int64()),
            faults=[
                (values[n] or b"", one, positions[n])
                for n in odd
                if isinstance(one := became[n], Fault)
            ],
            dropped=dict(Counter(one.value for one in became if isinstance(one, Dropped))),
        )

    def _suspects(
        self, payload: pa.BinaryArray, headers: Sequence[Sequence[Header] | None]
    ) -> list[int]:
        """Places of values that may not be plain: all that are not are among them."""
        null = payload.is_null().to_numpy(zero_copy_only=False)
        if self.wire == "json":
            return np.flatnonzero(null).tolist()
        _, offsets, data = payload.buffers()
        empty = data is None or not data.size
        if self.wire != "auto" or empty or data.to_pybytes().find(_GONE) >= 0:
            return list(range(len(payload)))
        letters = np.frombuffer(data, np.uint8)
        starts = np.frombuffer(offsets, np.int32)[: len(payload)]
        first, third = (letters[np.minimum(starts + n, len(letters) - 1)] for n in (0, 2))
        odd = null | (first != ord("{")) | _BEGINNINGS[third]
        if any(headers):
            odd |= np.array([bool(one) for one in headers])
        return np.flatnonzero(odd).tolist()

    def is_plain(self, value: bytes | None, headers: Iterable[Header] | None) -> bool:
        """Whether the value is a line as it stands."""
        if value is None or self.wire == "json":
            return value is not None
        if self.wire != "auto" or (headers and _says_how(headers)):
            return False
        return value[:1] == b"{" and not value.startswith(_ENVELOPES) and _GONE not in value

    def decode(
        self, value: bytes | None, headers: Iterable[Header] | None
    ) -> bytes | Dropped | Fault:
        """What becomes of a value.

        Raises:
            RilletError: the schema registry cannot be asked.
        """
        if value is None:
            return Dropped.TOMBSTONE
        if self.is_plain(value, headers):
            return value
        told = {name.lower(): text for name, text in headers or () if text is not None}
        try:
            became = self._unwrapped(value, told)
            return became if isinstance(became, Dropped) else as_line(became)
        except WireError as error:
            return Fault("bad_wire", str(error))

    def _unwrapped(self, value: bytes, headers: Mapping[str, bytes]) -> Node | Dropped:
        node = self._body(value, headers)
        attributes = cloudevents.attributes_of(headers)
        structured, fields = cloudevents.is_structured(headers), fields_of(node)
        if structured and fields is None:
            raise WireError(
                "value: no JSON object, but its content-type is application/cloudevents"
            )
        if fields is not None and (structured or self._is_cloud_event(fields)):
            node, attributes = cloudevents.opened(fields)
            if isinstance(node, Dropped):
                return node
        row = self._row(node)
        if row is node and attributes:
            return cloudevents.completed(node, attributes)
        return row

    def _is_cloud_event(self, fields: Mapping[str, Node]) -> bool:
        return self.wire in {"auto", "cloudevents"} and cloudevents.is_envelope(fields)

    def _body(self, value: bytes, headers: Mapping[str, bytes]) -> Node:
        """The record in a value's frame, or the value as JSON text."""
        framed = framing.split(value, headers)
        wanted = _FRAMED.get(self.wire)
        if framed is None:
            if wanted:
                raise WireError(
                    f"value: begins with {value[:5].hex(' ') or 'nothing'}, but wire={self.wire}: "
                    "expected 00 and a schema id, or a header __value_schema_id"
                )
            return msgspec.Raw(value)
        if wanted == "JSON":
            return JsonSchema().decode(framed.body)
        if self.schemas is None:
            return _without_schema(framed)
        schema = self.schemas.schema(framed.key)
        if wanted and schema.kind != wanted:
            raise WireError(
                f"schema {framed.key}: of type {schema.kind}, but wire={self.wire}: leave wire= out"
            )
        return schema.decode(framed.body, framed.index)

    def _row(self, node: Node) -> Node | Dropped:
        """The record within the envelopes of Connect and Debezium."""
        fields = fields_of(node)
        if fields is not None and connect.is_envelope(fields):
            node = connect.payload(fields)
            fields = None if isinstance(node, Dropped) else fields_of(node)
        if fields is None:
            return node
        if debezium.is_change(fields):
            return debezium.row(fields)
        return Dropped.DELETE if debezium.is_deleted(fields) else node


def _says_how(headers: Iterable[Header]) -> bool:
    """Whether headers tell how a value is wrapped; most are about something else."""
    told = {name.lower(): text or b"" for name, text in headers}
    if framing.HEADER in told or cloudevents.attributes_of(told):
        return True
    return told.get("content-type", b"").lower().startswith(cloudevents.CONTENT_TYPE)


def _without_schema(framed: framing.Framed) -> Node:
    """JSON says itself what it is; anything else cannot be read without its schema."""
    if fields_of(msgspec.Raw(framed.body)) is not None:
        return msgspec.Raw(framed.body)
    raise WireError(
        f"schema {framed.key}: no schema registry is named; add registry=http://host:port to the "
        "source"
    )
