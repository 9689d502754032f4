"""Avro bodies: binary, without a file's header; the schema comes from a registry."""

import json
import struct
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from pipelines.read.kafka.wire.outcome import Node, WireError

__all__ = ["AvroSchema"]

_FAULTS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)
"""What fastavro raises where bytes are not of their schema."""


class AvroSchema:
    """A schema, and those that it refers to.

    A logical time with a zone becomes an instant; `local-timestamp-…` stays without zone.
    """

    kind = "AVRO"

    def __init__(self, text: str, references: Sequence[str] = ()) -> None:
        """Read a schema.

        Args:
            text: the schema.
            references: texts of those whose names it uses, each after those that it uses.

        Raises:
            WireError: it is no Avro schema.
        """
        import fastavro
        from fastavro.schema import SchemaParseException

        named: dict[str, Any] = {}
        try:
            for one in (*references, text):
                self._schema = fastavro.parse_schema(json.loads(one), named_schemas=named)
        except (SchemaParseException, *_FAULTS) as error:
            raise WireError(f"schema: not Avro ({_line(error)})") from None

    def decode(self, body: bytes, index: bytes | None = None) -> Node:
        """A body → its record.

        Raises:
            WireError: it is not of this schema.
        """
        import fastavro

        stream = BytesIO(body)
        try:
            record = fastavro.schemaless_reader(stream, self._schema, None)
        except _FAULTS as error:
            raise WireError(
                f"value: not of its Avro schema ({type(error).__name__} {_line(error)})"
            ) from None
        left = len(body) - stream.tell()
        if left:
            raise WireError(f"value: {left} bytes are left after its Avro record, expected none")
        return record


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200]
