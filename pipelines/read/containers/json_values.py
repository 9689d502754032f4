"""JSON under any ending: a record a line, arrays of records, records one after another."""

from collections.abc import Iterator
from typing import BinaryIO

import msgspec
import numpy as np
import pyarrow as pa

from pipelines.errors import SourceError
from pipelines.read.containers.compression import recoded
from pipelines.read.containers.records import Lost, Records
from pipelines.read.containers.text_rows import Rows, text_rows
from pipelines.read.mapping.json_columns import read_texts
from pipelines.read.mapping.paths import Tree
from pipelines.read.parse.event_rules import excerpt

__all__ = ["read_json"]

BLOCK_BYTES = 8 << 20
MAX_VALUE_BYTES = 64 << 20
"""Longest record that is looked for the end of."""

_BOM = b"\xef\xbb\xbf"
_QUOTE, _BACKSLASH = ord('"'), ord("\\")


def read_json(
    stream: BinaryIO, path: str, *, encoding: str, tree: Tree, record: bool
) -> Iterator[Records]:
    """A file of JSON → its records.

    Args:
        stream: the bytes, unpacked.
        path: for messages.
        encoding: of the text.
        tree: the fields that are wanted.
        record: whether `$record`, the text of each, is wanted, too.

    Raises:
        SourceError: a record does not end.
    """
    begun = _Begun(recoded(stream, encoding))
    rows_of = text_rows(begun, quote=b"") if begun.is_lines() else _values(begun, path)
    for rows in rows_of:
        yield _records(rows, tree, record=record)


class _Begun:
    """A stream whose beginning has been looked at."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._first = stream, stream.read(1 << 20)

    def read(self, size: int = -1) -> bytes:
        """The beginning, then the rest."""
        if self._first:
            first, self._first = self._first, b""
            return first
        return self._stream.read(size)

    def is_lines(self) -> bool:
        """Whether the first line that holds something is a whole JSON object, or no JSON."""
        text = self._first.removeprefix(_BOM).lstrip()
        if text.startswith(b"["):
            return False
        line, ended, _ = text.partition(b"\n")
        try:
            msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return not text.startswith(b"{") or _looks_like_lines(text)
        return bool(ended) or len(self._first) < 1 << 20


def _looks_like_lines(text: bytes) -> bool:
    """Whether the lines begin with a brace, one as the other: a damaged first line is a line."""
    lines = [line.strip() for line in text.split(b"\n")[:20] if line.strip()]
    return sum(line.startswith(b"{") and line.endswith(b"}") for line in lines) * 2 > len(lines)


def _records(rows: Rows, tree: Tree, *, record: bool) -> Records:
    count = len(rows)
    bounds = np.concatenate([[0], np.cumsum(rows.ends - rows.starts)])
    if count and bounds[-1] >= 1 << 31:
        raise ValueError("a block of JSON is over 2 GiB")
    texts = pa.array([rows.row(i) for i in range(count)], pa.binary())
    read = read_texts(texts, tree)
    batch, origin = read.columns, read.origin
    if record:
        written = texts.take(pa.array(origin)).cast(pa.string())
        batch = batch.append_column("$record", written)
    lost = tuple(Lost(rows.row(row), int(rows.lines[row]), fault) for row, fault in read.faults)
    good = Rows(rows.data, rows.starts[origin], rows.ends[origin], rows.lines[origin])
    return Records(batch, good.lines, good.row, lost)


def _values(stream: "_Begun", path: str) -> Iterator[Rows]:
    """Objects within arrays, or one after another → blocks of them; `lines` number the objects."""
    number, rest, begun = 0, b"", False
    while True:
        data = stream.read(BLOCK_BYTES)
        if not begun:
            data, begun = data.removeprefix(_BOM), True
        buffer = rest + data
        if not buffer.strip(b" \t\r\n,[]"):
            if not data:
                return
            rest = b""
            continue
        starts, ends, used = _objects(buffer, final=not data)
        if len(starts):
            yield Rows(buffer, starts, ends, number + np.arange(len(starts)))
            number += len(starts)
        rest = buffer[used:]
        if not data:
            return
        if len(rest) > MAX_VALUE_BYTES:
            raise SourceError(
                f"{path}: record {number} (from 0) does not end within {MAX_VALUE_BYTES >> 20} MiB;"
                f" it begins {excerpt(rest[:40].decode(errors='replace'))}"
            )


def _objects(data: bytes, *, final: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """Places of whole objects, and of what stands between them: (starts, ends, bytes used up).

    What is no object, but not the white space, commas and brackets of arrays, is a record, too:
    one that cannot be read.
    """
    letters = np.frombuffer(data, np.uint8)
    outside = ~_in_strings(letters)
    opens = outside & (letters == ord("{"))
    closes = outside & (letters == ord("}"))
    depth = np.cumsum(opens.astype(np.int32) - closes.astype(np.int32))
    if len(depth) and depth.min() < 0:  # a brace that closes nothing: up to it, then on from there
        stop = int(np.argmax(depth < 0)) + 1
        starts, ends, _ = _objects(data[: stop - 1], final=True)
        more_starts, more_ends, used = _objects(data[stop:], final=final)
        stray = np.array([stop - 1]), np.array([stop])
        return (
            np.concatenate([starts, stray[0], more_starts + stop]),
            np.concatenate([ends, stray[1], more_ends + stop]),
            used + stop,
        )
    starts = np.flatnonzero(opens & (depth == 1))
    ends = np.flatnonzero(closes & (depth == 0)) + 1
    whole = len(ends)
    used = int(ends[-1]) if whole else 0
    starts_of_all = list(zip(starts[:whole].tolist(), ends.tolist(), strict=True))
    found, at = [], 0
    for start, end in starts_of_all:
        found += _between(data, at, start)
        found.append((start, end))
        at = end
    if final:
        found += _between(data, at, len(data))
        used = len(data)
    pairs = np.array(found, np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1], used


def _between(data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    if end - start <= 2 and data[start:end] in {b"", b",", b"\n", b", ", b",\n"}:
        return []
    text = data[start:end]
    left = text.strip(b" \t\r\n,[]")
    if not left:
        return []
    first = start + text.index(left)
    return [(first, first + len(left))]


def _in_strings(letters: np.ndarray) -> np.ndarray:
    """Bool: whether the letter is within a string, or its opening quote."""
    quotes = letters == _QUOTE
    slashes = letters == _BACKSLASH
    if slashes.any():
        places = np.arange(len(letters))
        last_other = np.maximum.accumulate(np.where(slashes, -1, places))
        run = places - last_other  # slashes that end here
        before = np.concatenate([[0], run[:-1]])
        quotes &= before % 2 == 0
    return np.cumsum(quotes) % 2 == 1
