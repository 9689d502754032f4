"""Pieces of a shuffle in files: what goes through the runner is where they lie.

A runner in one process keeps three or four copies of what it groups, in memory. A
folder that all workers see, such as the one that they write their results to, holds
it once, on disk.
"""

import os
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from pipelines.arrow.ipc import concat, decode
from pipelines.errors import JobError

__all__ = ["Place", "gather", "spill"]

Place = tuple[str, int, int]
"""File, position and length in bytes of an encoded batch."""


def spill(
    folder: Path, pieces: Iterable[tuple[int, pa.RecordBatch]]
) -> Iterator[tuple[int, Place]]:
    """Write (shard, piece) to one new file in `folder` → (shard, where the piece lies).

    Raises:
        JobError: the folder cannot be written to, or its disk is full.
    """
    path = folder / f"{uuid.uuid4().hex}.pieces"
    found, at = [], 0
    try:
        with path.open("wb") as file:
            for shard, piece in pieces:
                # Uncompressed: a page cache is cheaper than LZ4, there and back.
                with pa.ipc.new_stream(file, piece.schema) as writer:
                    writer.write_batch(piece)
                end = file.tell()
                found.append((shard, (str(path), at, end - at)))
                at = end
    except OSError as error:
        raise JobError(
            f"intermediate data cannot be written to {folder} "
            f"({os.strerror(error.errno or 0)}): make room there"
        ) from None
    yield from found


def gather(places: Iterable[Place], schema: pa.Schema) -> pa.RecordBatch:
    """Where pieces lie → one batch of them; see `pipelines.arrow.ipc.concat`."""
    return concat((_read(*place) for place in places), schema)


def _read(path: str, at: int, length: int) -> pa.RecordBatch:
    with Path(path).open("rb") as file:
        file.seek(at)
        return decode(file.read(length))
