"""JSON lines in files, plain or gzip → batches of lines. Memory: two blocks, whatever the line."""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from pipelines.errors import SourceError
from pipelines.read.parse.event_rules import MAX_LINE_BYTES
from pipelines.read.parse.json_lines import LINES

__all__ = ["BLOCK_BYTES", "blocks", "read_lines"]

BLOCK_BYTES = 8 << 20
"""Bytes parsed at once, about 30,000 events: measured best between 2 and 16 MiB."""

_BOM = b"\xef\xbb\xbf"


def read_lines(
    file: BinaryIO, path: str, *, gzipped: bool, start: int, end: int | None
) -> Iterator[pa.RecordBatch]:
    """The lines that begin in bytes [start, end) → batches of schema LINES.

    Blank lines are left out. Of a line over the limit only its beginning is kept, one byte
    more than is allowed.

    Raises:
        SourceError: the gzip stream is damaged or ends early.
    """
    opened: BinaryIO = gzip.GzipFile(fileobj=file) if gzipped else file  # type: ignore[assignment]
    schema = LINES.with_metadata({"source": path})
    try:
        for position, block in blocks(opened, start=start, end=end):
            batch = _batch(block, position, schema)
            if batch.num_rows:
                yield batch
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(f"{path} is damaged gzip ({error}); fetch or write it again") from None


def blocks(
    file: BinaryIO, *, start: int = 0, end: int | None = None, size: int = BLOCK_BYTES
) -> Iterator[tuple[int, bytes]]:
    """The lines that begin in [start, end) → (position, whole lines) of about `size` bytes."""
    at, buffer = start, b""
    if start > 0:  # the line that holds the byte before belongs to another
        file.seek(start - 1)
        at, buffer = _after_line(file, start - 1, size)
    while end is None or at < end:
        data = file.read(size)
        buffer = buffer + data if buffer else data
        if at == 0 and buffer.startswith(_BOM):
            at, buffer = len(_BOM), buffer[len(_BOM) :]
        last = -1 if end is None else buffer.find(b"\n", end - 1 - at)
        cut = (last if last >= 0 else buffer.rfind(b"\n")) + 1
        if not data and last < 0:
            cut = len(buffer)
        if cut:
            yield at, buffer[:cut]
        if last >= 0 or not data:
            return
        at, buffer = at + cut, buffer[cut:]
        if len(buffer) > MAX_LINE_BYTES:
            yield at, buffer[: MAX_LINE_BYTES + 1]
            at, buffer = _after_line(file, at + len(buffer), size)


def _after_line(file: BinaryIO, at: int, size: int) -> tuple[int, bytes]:
    """Skip to behind the next line end: (position there, what was read beyond it)."""
    while data := file.read(size):
        cut = data.find(b"\n") + 1
        if cut:
            return at + cut, data[cut:]
        at += len(data)
    return at, b""


def _batch(block: bytes, position: int, schema: pa.Schema) -> pa.RecordBatch:
    letters = np.frombuffer(block, np.uint8)
    stops = (np.flatnonzero(letters == ord("\n")) + 1).astype(np.int32)
    bounds = np.concatenate([np.zeros(1, np.int32), stops])
    if bounds[-1] != len(block):  # the last line of a file may lack its end
        bounds = np.append(bounds, np.int32(len(block)))
    count = len(bounds) - 1
    lines = pa.Array.from_buffers(
        pa.binary(), count, [None, pa.py_buffer(bounds), pa.py_buffer(block)]
    )
    positions = bounds[:-1].astype(np.int64) + position
    begun = np.flatnonzero(letters[bounds[:-1]] == _BOM[0])
    marked = [i for i in begun if block[bounds[i] : bounds[i] + len(_BOM)] == _BOM]
    if marked:  # where a file begins that was put behind another
        lines = pa.array([line.removeprefix(_BOM) for line in lines.to_pylist()], pa.binary())
        positions[marked] += len(_BOM)
    batch = pa.RecordBatch.from_arrays([lines, pa.array(positions)], schema=schema)
    suspects = np.flatnonzero(letters[bounds[:-1]] <= ord(" "))
    blank = [i for i in suspects if not block[bounds[i] : bounds[i + 1]].strip()]
    if blank:
        kept = np.ones(count, bool)
        kept[blank] = False
        batch = batch.filter(pa.array(kept))
    return batch
