"""Messages of a topic → JSON lines, faults and counts; plain JSON passes untouched."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import msgspec

from pipelines.read.kafka.wire.envelopes import from_cloud_event, from_connect, from_debezium
from pipelines.read.kafka.wire.framing import SCHEMA_HEADER, Frame, is_framed, unframe
from pipelines.read.kafka.wire.registry import MissingSchemaError, SchemaRegistry
from pipelines.read.parse.event_rules import Fault

__all__ = ["ENVELOPES", "Decoded", "Decoder", "Envelope"]

Envelope = Literal["none", "connect", "debezium", "cloudevents"]
ENVELOPES: tuple[str, ...] = get_args(Envelope)


class Message(Protocol):
    """What is asked of a message (`confluent_kafka.Message`)."""

    def value(self) -> bytes | None:
        """Its value; None for a tombstone."""

    def offset(self) -> int:
        """Where it stands in its partition."""

    def headers(self) -> Sequence[tuple[str, bytes]] | None:
        """Its headers, in order."""


@dataclass
class Decoded:
    """What became of some messages; each is a line, a fault or counted.

    Attributes:
        lines: JSON, one record each; `offsets`: of their messages.
        faulty: (value, what is wrong with it, offset).
        skipped: how many were no events: tombstones, deletes, control_records.
    """

    lines: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    faulty: list[tuple[bytes, Fault, int]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


@dataclass
class Decoder:
    """Takes records out of what they are wrapped in.

    Attributes:
        envelope: around each record; none: the record itself.
        registry: of the schemas that values are framed with; None: there is none.
    """

    envelope: Envelope = "none"
    registry: SchemaRegistry | None = None
    _readers: dict[int | str, Callable[[Frame], Any]] = field(default_factory=dict, repr=False)

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Decode messages, in order.

        Raises:
            JobError: the registry does not answer: nothing is lost, it is asked again.
        """
        out = Decoded()
        for message in messages:
            value = message.value()
            if value is None:
                out.skipped["tombstones"] += 1
                continue
            try:
                found = self._one(value, message)
            except (ValueError, MissingSchemaError, RecursionError) as error:
                out.faulty.append((value, Fault("bad_wire", f"value: {error}"), message.offset()))
                continue
            if isinstance(found, str):
                out.skipped[found] += 1
            else:
                out.lines.append(found)
                out.offsets.append(message.offset())
        return out

    def _one(self, value: bytes, message: Message) -> bytes | str:
        """A line, or the name of what is counted in its place."""
        if self.envelope == "none" and self.registry is None and not is_framed(value):
            return value
        headers = {name: text for name, text in message.headers() or () if text is not None}
        frame = unframe(value, headers)
        if frame is None and self.envelope == "none":
            return value
        record = json.loads(value) if frame is None else self._read(frame)
        told = self._unwrapped(record, headers)
        return told if isinstance(told, str) else msgspec.json.encode(told)

    def _read(self, frame: Frame) -> Any:
        if self.registry is None:
            raise ValueError(
                f"is framed for a schema registry (schema {frame.schema}, or header "
                f"{SCHEMA_HEADER}); add registry=http://host:port to the source"
            )
        if frame.schema not in self._readers:
            from pipelines.read.kafka.wire.schemas import reader_of

            self._readers[frame.schema] = reader_of(self.registry.schema(frame.schema))
        return self._readers[frame.schema](frame)

    def _unwrapped(self, record: Any, headers: Mapping[str, bytes]) -> Any:
        if self.envelope == "none":
            return record
        if not isinstance(record, dict):
            raise ValueError(f"got a {type(record).__name__}, expected an object")
        if self.envelope == "cloudevents":
            told = from_cloud_event(record, headers)
            if isinstance(told, str) or not {"after", "payload"} & told.keys():
                return told
            record = {name: told[name] for name in told if name in {"op", "after", "payload"}}
            return from_debezium({"op": "c", **record.get("payload", record)})
        record = from_connect(record)
        if record is None:
            return "tombstones"
        return from_debezium(record) if self.envelope == "debezium" else record
