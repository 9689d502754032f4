"""Arrow record batches as Beam elements: their coder, registered on import.

What needs no Beam (`encode`, `concat`, …) lives in `pipelines.arrow.ipc` and is
named here too.
"""

import apache_beam as beam
import pyarrow as pa

from pipelines.arrow.ipc import concat, conform_to_schema, decode, encode, without_dictionaries

__all__ = [
    "RecordBatchCoder",
    "concat",
    "conform_to_schema",
    "decode",
    "encode",
    "without_dictionaries",
]


class RecordBatchCoder(beam.coders.Coder):
    """Beam's coder for `pyarrow.RecordBatch`: an Arrow IPC stream."""

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Batch → bytes."""
        return encode(value)

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """Bytes → batch."""
        return decode(encoded)

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Bytes of the columns; the schema and its frame are left out."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        """Equal batches may differ in bytes (padding, dictionaries): never a key."""
        return False

    def to_type_hint(self) -> type[pa.RecordBatch]:
        """The type that this coder is registered for."""
        return pa.RecordBatch

    def __eq__(self, other: object) -> bool:
        """All of them are alike."""
        return type(self) is type(other)

    def __hash__(self) -> int:
        """All of them are alike."""
        return hash(type(self))


beam.coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
