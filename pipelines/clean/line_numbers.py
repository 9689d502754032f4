"""At which line of a text file a record begins: dead letters know only the byte.

A file may have been changed or taken away since. So a number is given only where the
line that begins at that byte still begins with what the letter holds: it is never a guess.
"""

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

__all__ = ["Place", "line_numbers"]

Place = tuple[int, bytes]
"""(byte at which a record begins, the record or its beginning)."""

_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 20


def line_numbers(path: Path, places: Sequence[Place]) -> list[int | None]:
    """Places in a text file, plain or gzip → the number of each one's line, from 1.

    None where the file cannot be read, or holds something else there. The file is
    read once, up to the last place, in blocks.
    """
    found: list[int | None] = [None] * len(places)
    order = sorted(range(len(places)), key=lambda one: places[one][0])
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP
            file.seek(0)
            text: BinaryIO = gzip.GzipFile(fileobj=file) if zipped else file  # type: ignore[assignment]
            line, at, begun, here = 1, 0, -1, b""
            for one in order:
                begins, record = places[one]
                if begins != begun:
                    line += here.count(b"\n") + _line_ends(text, begins - at)
                    begun, here = begins, text.read(len(record))
                    at = begins + len(here)
                if record and here == record:
                    found[one] = line
    except (OSError, EOFError, zlib.error):
        return found  # what was found before the damage holds
    return found


def _line_ends(text: BinaryIO, length: int) -> int:
    """Line ends in the next `length` bytes, which are read."""
    ends = 0
    while length > 0 and (block := text.read(min(length, _BLOCK))):
        ends += block.count(b"\n")
        length -= len(block)
    return ends
