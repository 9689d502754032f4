"""Kafka Connect's JSON with schemas: `{"schema": …, "payload": …}`; the payload is the record.

What only the schema tells is put into the record: a time whose unit it states becomes
RFC 3339, a decimal, which is bytes in base64, a number.
"""

import base64
import binascii
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from pipelines.read.kafka.wire.outcome import Dropped, Node, WireError, as_value, is_null

__all__ = ["is_envelope", "payload"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES_PER_MS = {
    "org.apache.kafka.connect.data.Timestamp": 1,
    "io.debezium.time.Timestamp": 1,
    "io.debezium.time.MicroTimestamp": 1_000,
    "io.debezium.time.NanoTimestamp": 1_000_000,
}
_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_MAX_SCALE = 1_000

Convert = Callable[[Any], Any]
"""A value as it was received → what it says."""


def is_envelope(fields: Mapping[str, Node]) -> bool:
    """Whether these are the fields of an envelope: these two, and a schema that is one."""
    if fields.keys() != {"schema", "payload"}:
        return False
    schema = fields["schema"]
    if is_null(schema):
        return True
    return isinstance(as_value(schema), dict) and "type" in as_value(schema)


def payload(fields: Mapping[str, Node]) -> Node | Dropped:
    """An envelope → its record; JSON text stays as it is where the schema changes nothing.

    Raises:
        WireError: the payload is not what the schema says.
    """
    found, schema = fields["payload"], fields["schema"]
    if is_null(found):
        return Dropped.TOMBSTONE
    convert = None if is_null(schema) else _of_text(msgspec.json.encode(schema))
    return found if convert is None else convert(as_value(found))


@lru_cache(maxsize=256)
def _of_text(schema: bytes) -> Convert | None:
    """What a schema changes in a value; None: nothing."""
    return _of(msgspec.json.decode(schema))


def _of(schema: Any) -> Convert | None:
    if not isinstance(schema, dict):
        return None
    name = schema.get("name")
    if name in _TIMES_PER_MS:
        return _time(name, _TIMES_PER_MS[name])
    if name == _DECIMAL:
        return _decimal(schema)
    if schema.get("type") == "struct":
        return _struct(schema.get("fields"))
    if schema.get("type") == "array":
        return _array(_of(schema.get("items")))
    return None


def _struct(fields: Any) -> Convert | None:
    found = {
        field["field"]: convert
        for field in fields or ()
        if isinstance(field, dict) and "field" in field and (convert := _of(field)) is not None
    }

    def change(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: found[name](v) if name in found else v for name, v in value.items()}

    return change if found else None


def _array(of: Convert | None) -> Convert | None:
    if of is None:
        return None
    return lambda value: [of(one) for one in value] if isinstance(value, list) else value


def _time(name: str, per_ms: int) -> Convert:
    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        try:
            return _EPOCH + timedelta(milliseconds=value // per_ms)
        except OverflowError:
            raise WireError(f"{name.rpartition('.')[2]}: got {value}, which is no time") from None

    return convert


def _decimal(schema: Mapping[str, Any]) -> Convert | None:
    given = (schema.get("parameters") or {}).get("scale", "0")
    if not str(given).isdigit() or int(given) > _MAX_SCALE:
        return None
    scale = int(given)

    def convert(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        try:
            unscaled = int.from_bytes(base64.b64decode(value, validate=True), "big", signed=True)
        except (binascii.Error, ValueError):
            raise WireError(f"Decimal: got {value[:40]!r}, expected base64") from None
        return Decimal(unscaled).scaleb(-scale)

    return convert
