"""Embedding rows in the binary format of PostgreSQL's COPY.

See "Binary Format" in PostgreSQL's documentation of COPY; pgvector's own
format is dimensions and zero (int16 each), then float32, all big-endian.
"""

import struct
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

__all__ = ["copy_rows"]

_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)
_END = struct.pack("!h", -1)
_NULL = struct.pack("!i", -1)
_EPOCH_MS = 946_684_800_000
"""2000-01-01, from which PostgreSQL counts microseconds."""
_FLOAT4 = 700
"""PostgreSQL's number of the type `real`."""


def copy_rows(rows: pa.Table, *, pgvector: bool) -> Iterator[bytes]:
    """`[n]` EMBEDDINGS → the stream that COPY reads: entity, id, embedding, version, time, deleted.

    A tombstone's embedding is null.
    """
    yield _HEADER
    for batch in rows.to_batches(max_chunksize=1_000):
        columns = batch.to_pydict()
        times = batch.column("updated_at").cast(pa.int64()).to_pylist()
        yield b"".join(
            b"".join(
                (
                    struct.pack("!h", 6),
                    _text(columns["entity"][i]),
                    _text(columns["id"][i]),
                    _NULL if columns["deleted"][i] else _vector(columns["embedding"][i], pgvector),
                    struct.pack("!iq", 8, columns["version"][i]),
                    struct.pack("!iq", 8, (times[i] - _EPOCH_MS) * 1_000),
                    struct.pack("!i?", 1, columns["deleted"][i]),
                )
            )
            for i in range(len(batch))
        )
    yield _END


def _text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("!i", len(data)) + data


def _vector(values: list[float], pgvector: bool) -> bytes:
    """The field with its length in front.

    >>> _vector([1.0], pgvector=True).hex(" ", 4)
    '00000008 00010000 3f800000'
    """
    numbers = np.asarray(values, ">f4")
    if pgvector:
        data = struct.pack("!hh", len(numbers), 0) + numbers.tobytes()
    else:
        each = np.empty((len(numbers), 2), ">i4")
        each[:, 0] = 4  # bytes of the value that follows
        each[:, 1] = numbers.view(">i4")
        data = struct.pack("!iiiii", 1, 0, _FLOAT4, len(numbers), 1) + each.tobytes()
    return struct.pack("!i", len(data)) + data
