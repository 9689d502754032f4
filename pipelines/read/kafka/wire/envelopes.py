"""What Connect, Debezium and CloudEvents put around a record.

Sources: Kafka Connect's JsonConverter; Debezium's PostgreSQL connector and event flattening;
CloudEvents 1.0, Kafka protocol binding.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["EnvelopeError", "from_cloud_event", "from_connect", "from_debezium", "is_structured"]

Record = dict[str, Any]

_UNITS = {  # logical types of an int64 → how many are a millisecond
    "org.apache.kafka.connect.data.Timestamp": 1,
    "io.debezium.time.Timestamp": 1,
    "io.debezium.time.MicroTimestamp": 1_000,
    "io.debezium.time.NanoTimestamp": 1_000_000,
}
_DECIMAL = "org.apache.kafka.connect.data.Decimal"


class EnvelopeError(ValueError):
    """A record that is not wrapped as it was said to be."""


def from_connect(record: Any) -> Any:
    """The payload of `{schema, payload}`, its times and decimals as the schema says them.

    A record without these two is one that was written without schemas.

    >>> from_connect({"schema": None, "payload": {"a": 1}})
    {'a': 1}
    """
    if not isinstance(record, dict) or set(record) != {"schema", "payload"}:
        return record
    return _converted(record["payload"], record["schema"])


def _converted(value: Any, schema: Any) -> Any:
    if value is None or not isinstance(schema, dict):
        return value
    if isinstance(value, dict) and schema.get("type") == "struct":
        kinds = {field.get("field"): field for field in schema.get("fields") or []}
        return {name: _converted(inner, kinds.get(name)) for name, inner in value.items()}
    name = schema.get("name")
    if name in _UNITS and isinstance(value, int):
        return value // _UNITS[name]
    if name == _DECIMAL and isinstance(value, str):
        scale = int((schema.get("parameters") or {}).get("scale", 0))
        return int.from_bytes(base64.b64decode(value), "big", signed=True) / 10**scale
    return value


def from_debezium(record: Record) -> Record | str:
    """The row that a change leaves behind, or what is counted in its place.

    A created row and one of a snapshot are events; an updated one is too, and repeats the
    event_id of the row that it corrects. Nothing comes of a deleted one.

    >>> from_debezium({"op": "c", "before": None, "after": {"a": 1}})
    {'a': 1}
    >>> from_debezium({"op": "d", "before": {"a": 1}, "after": None})
    'deletes'

    Raises:
        EnvelopeError: it is no change.
    """
    if "__deleted" in record or "__op" in record:
        if str(record.get("__deleted")).lower() == "true" or record.get("__op") == "d":
            return "deletes"
        return {name: value for name, value in record.items() if not name.startswith("__")}
    op = record.get("op")
    if op == "d":
        return "deletes"
    if op in {"t", "m"}:
        return "control_records"
    if op in {"c", "r", "u"} and isinstance(record.get("after"), dict):
        return dict(record["after"])
    raise EnvelopeError(f"op: got {op!r} without a row, expected a change of Debezium's")


def is_structured(headers: Mapping[str, bytes]) -> bool:
    """Whether a record's headers say that its value is a CloudEvent with its attributes."""
    kind = headers.get("content-type", b"").decode("utf-8", "replace")
    return kind.lower().startswith("application/cloudevents")


def from_cloud_event(record: Record, headers: Mapping[str, bytes]) -> Record | str:
    """The data of a CloudEvent; its id and time stand in where the data has none of its own.

    What is unique is source and id together.

    Args:
        record: the value: the event (structured), or its data (binary).
        headers: of the record.

    >>> from_cloud_event({"user_id": "u"}, {"ce_id": b"7", "ce_source": b"/shop"})
    {'event_id': '/shop|7', 'user_id': 'u'}

    Raises:
        EnvelopeError: there is no data in it that is an object.
    """
    if is_structured(headers):
        about = {name: str(record[name]) for name in ("id", "source", "time") if record.get(name)}
        data: Any = record.get("data")
        if "data_base64" in record:
            data = json.loads(base64.b64decode(record["data_base64"]))
        if data is None:
            return "tombstones"
    else:
        names = ("id", "source", "time")
        found = {name: headers.get(f"ce_{name}") for name in names}
        about = {name: text.decode() for name, text in found.items() if text}
        data = record
    if not isinstance(data, dict):
        raise EnvelopeError(f"data: got a {type(data).__name__}, expected an object")
    told: Record = {}
    if "id" in about:
        told["event_id"] = "|".join(filter(None, (about.get("source"), about["id"])))
    if "time" in about:
        told["event_time"] = about["time"]
    return told | data
