"""Where the rows of a delimited text begin and end, also where fields hold line ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipelines.read.parse.event_rules import MAX_LINE_BYTES

__all__ = ["Rows", "Stream", "text_rows"]

BLOCK_BYTES = 8 << 20
_BOM = b"\xef\xbb\xbf"


class Stream(Protocol):
    """What is read from."""

    def read(self, size: int = -1, /) -> bytes:
        """At most so many bytes; none only at the end."""
        ...


@dataclass(frozen=True)
class Rows:
    """Whole rows of a text: row i is `data[starts[i]:ends[i]]`, its line end left out."""

    data: bytes
    starts: np.ndarray  # int64 [rows]
    ends: np.ndarray  # int64 [rows]
    lines: np.ndarray  # int64 [rows]: the number of the line, from 0

    def __len__(self) -> int:
        return len(self.starts)

    def row(self, index: int) -> bytes:
        """One row as it was read."""
        return self.data[self.starts[index] : self.ends[index]]

    def kept(self, mask: np.ndarray) -> "Rows":
        """Some of the rows."""
        return Rows(self.data, self.starts[mask], self.ends[mask], self.lines[mask])

    def block(self) -> bytes:
        """The rows alone, each with its line end."""
        if len(self) and self.ends[-1] <= len(self.data):
            whole = self.starts[0] == 0 and (self.starts[1:] - self.ends[:-1] <= 2).all()
            if whole and self.data.endswith(b"\n"):
                return self.data
        return b"".join(self.row(i) + b"\n" for i in range(len(self)))


def text_rows(
    stream: Stream, *, quote: bytes, comment: bytes = b"", size: int = BLOCK_BYTES
) -> Iterator[Rows]:
    """A text → its rows in blocks of about `size` bytes; blank lines and comments are left out.

    A quote that is open over more than a mebibyte, or at the end of the file, is taken for
    data: its line is a row, whatever is in it.
    """
    line, rest, begun = 0, b"", False
    while True:
        data = stream.read(size)
        if not begun:
            data, begun = data.removeprefix(_BOM), True
        buffer = rest + data if rest else data
        if not buffer:
            return
        ends = _row_ends(buffer, quote, final=not data)
        cut = int(ends[-1]) + 1 if len(ends) else 0
        if not data and cut < len(buffer):  # the last row lacks its line end
            ends = np.append(ends, len(buffer))
            cut = len(buffer)
        rest = buffer[cut:]
        if len(ends):
            rows, line = _rows(buffer[:cut], ends, line)
            rows = rows.kept(_told(rows, comment))
            if len(rows):
                yield rows
        if not data:
            return


def _rows(data: bytes, ends: np.ndarray, line: int) -> tuple[Rows, int]:
    letters = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(letters == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lines = line + np.searchsorted(newlines, starts)
    before = letters[np.maximum(ends - 1, 0)]
    shorter = (before == 13) & (ends > starts)
    return Rows(data, starts, ends - shorter, lines), line + len(newlines)


def _told(rows: Rows, comment: bytes) -> np.ndarray:
    letters = np.frombuffer(rows.data, np.uint8)
    mask = rows.ends > rows.starts
    firsts = letters[np.minimum(rows.starts, max(len(letters) - 1, 0))]
    for row in np.flatnonzero(mask & (firsts <= 32)):
        mask[row] = bool(rows.row(int(row)).strip(b" \r\n\v\f"))
    if comment:
        for row in np.flatnonzero(mask & (firsts == comment[0])):
            mask[row] = not rows.row(int(row)).startswith(comment)
    return mask


def _row_ends(data: bytes, quote: bytes, *, final: bool) -> np.ndarray:
    """The places of the line ends that end a row: those outside of quotes."""
    letters = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(letters == 10)
    quotes = np.flatnonzero(letters == quote[0]) if quote else np.empty(0, np.int64)
    if not len(quotes):
        return newlines
    found: list[np.ndarray] = []
    base = 0
    while True:
        later = newlines[np.searchsorted(newlines, base) :]
        inside = np.searchsorted(quotes, later) - np.searchsorted(quotes, base)
        ends = later[inside % 2 == 0]
        bounds = np.concatenate([[base], ends + 1])
        sizes = np.diff(np.append(bounds, len(data)))
        odd = sizes > MAX_LINE_BYTES
        if final and sizes[-1] and np.searchsorted(later, bounds[-1]) < len(later):
            odd[-1] = True
        if not odd.any():
            return np.concatenate([*found, ends]).astype(np.int64)
        first = int(np.argmax(odd))
        forced = newlines[np.searchsorted(newlines, bounds[first]) :][:1]
        if not len(forced):
            return np.concatenate([*found, ends[:first]]).astype(np.int64)
        found += [ends[:first], forced]
        base = int(forced[0]) + 1
