"""What is in a folder of dead letters: counts, examples with file and line, records to mend."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.store import atomic_files
from pipelines.clean.line_numbers import line_numbers
from pipelines.errors import RequestError
from pipelines.schema import DEAD_LETTERS

__all__ = ["Export", "Letter", "Report", "export", "letters_of", "report"]

_BREAKS = re.compile(rb"[\r\n]+")
_ROWS = 4_096
_HEAD_BYTES = 17  # of a frame; no text has a NUL there
_CUT_BYTES = 1 << 20
"""Longest payload that a letter holds; of longer records only the beginning is there."""


@dataclass(frozen=True)
class Letter:
    """One dead letter, and where its record is to be found.

    Attributes:
        reason: one of `pipelines.schema.DEAD_REASONS`.
        detail: which field, what was received, what was expected.
        source: file, or topic/partition.
        position: byte, row or offset in the source; from 0.
        line: of a text file that is still there, from 1.
        payload: the record as it was received.
    """

    reason: str
    detail: str
    source: str
    position: int
    line: int | None
    payload: bytes

    @property
    def where(self) -> str:
        """Source and place, as a person looks for it.

        >>> Letter("bad_json", "", "a.jsonl", 40, 2, b"").where
        'a.jsonl, line 2'
        >>> Letter("bad_json", "", "clicks/0", 7, None, b"").where
        'clicks/0, position 7'
        """
        if self.line is not None:
            return f"{self.source}, line {self.line}"
        unit = "row" if self.source.endswith(".parquet") else "position"
        return f"{self.source}, {unit} {self.position}"

    def told(self) -> dict[str, Any]:
        """For `--json`; bytes that are no UTF-8 are written with a backslash."""
        return {
            "reason": self.reason,
            "detail": self.detail,
            "source": self.source,
            "position": self.position,
            "line": self.line,
            "payload": self.payload.decode("utf-8", "backslashreplace"),
        }


@dataclass
class Report:
    """Letters by reason, and the first few of each."""

    reasons: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    examples: list[Letter] = field(default_factory=list)

    @property
    def letters(self) -> int:
        """How many there are."""
        return sum(self.reasons.values())


@dataclass(frozen=True)
class Export:
    """What was written to be mended.

    Attributes:
        records: how many.
        cut: how many of them are not whole.
        binary: how many were left out, for they are no text: a topic's values, which come
            back when the topic is read again.
    """

    records: int
    cut: int
    binary: int


def letters_of(place: Path, reason: str | None = None) -> Iterator[pa.RecordBatch]:
    """A store, or the folder of `rillet features` → its letters, of schema DEAD_LETTERS.

    Args:
        place: the folder that has `dead_letters/`.
        reason: only these; None for all.

    Raises:
        RequestError: it is neither, or a file of it is no file of dead letters.
    """
    if not any((place / name).is_file() for name in ("meta.json", "summary.json")):
        raise RequestError(
            f"{place} is neither a store nor a folder that rillet features wrote; give what was "
            "given with --store or --out"
        )
    return _read(sorted((place / "dead_letters").glob("*.parquet")), reason)


def _read(files: list[Path], reason: str | None) -> Iterator[pa.RecordBatch]:
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                for batch in opened.iter_batches(_ROWS, columns=DEAD_LETTERS.names):
                    yield batch if reason is None else _of_reason(batch, reason)
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            first = str(error).partition("\n")[0]
            raise RequestError(
                f"{file} is no file of dead letters ({first}); take it away"
            ) from None


def _of_reason(batch: pa.RecordBatch, reason: str) -> pa.RecordBatch:
    return batch.filter(pc.equal(batch["reason"], reason))


def report(batches: Iterable[pa.RecordBatch], examples: int) -> Report:
    """Count letters, and keep the first `examples` of each reason."""
    made = Report()
    for batch in batches:
        _count(made.sources, batch["source"])
        for reason in _count(made.reasons, batch["reason"]):
            kept = sum(one.reason == reason for one in made.examples)
            some = _of_reason(batch, reason).slice(0, max(examples - kept, 0))
            made.examples += [_letter(row) for row in some.to_pylist()]
    made.reasons = dict(sorted(made.reasons.items(), key=lambda one: (-one[1], one[0])))
    made.examples = sorted(_numbered(made.examples), key=_order(list(made.reasons)))
    return made


def _count(counts: dict[str, int], column: pa.Array) -> list[str]:
    """Add a column's values to `counts`; which ones there are."""
    found = {one["values"]: one["counts"] for one in column.value_counts().to_pylist()}
    for value, number in found.items():
        counts[value] = counts.get(value, 0) + number
    return list(found)


def _letter(row: dict[str, Any]) -> Letter:
    names = ("reason", "detail", "source", "position", "payload")
    return Letter(line=None, **{name: row[name] for name in names})


def _order(reasons: list[str]) -> Any:
    return lambda one: (reasons.index(one.reason), one.source, one.position)


def _numbered(letters: list[Letter]) -> list[Letter]:
    """With the number of the line, for those of text files that are still there."""
    by_source: dict[str, list[Letter]] = {}
    for letter in letters:
        by_source.setdefault(letter.source, []).append(letter)
    found = []
    for source, some in by_source.items():
        lines: list[int | None] = [None] * len(some)
        if not source.endswith(".parquet") and Path(source).is_file():
            lines = line_numbers(Path(source), [(one.position, one.payload) for one in some])
        found += [
            Letter(one.reason, one.detail, one.source, one.position, line, one.payload)
            for one, line in zip(some, lines, strict=True)
        ]
    return found


def export(batches: Iterable[pa.RecordBatch], path: Path) -> Export:
    """Write the letters' records to a file, one a line, to be mended there.

    What is JSON over several lines becomes one line; of other records, which are no
    JSON, line breaks become spaces. The file is there whole, or not at all.

    Raises:
        RequestError: it cannot be written there.
    """
    counted = [0, 0, 0]

    def write(file: Any) -> None:
        for batch in batches:
            for payload in batch["payload"].to_pylist():
                if b"\0" in payload[:_HEAD_BYTES]:
                    counted[2] += 1
                    continue
                file.write(_line(payload) + b"\n")
                counted[0] += 1
                counted[1] += len(payload) >= _CUT_BYTES

    if path.is_dir():
        raise RequestError(f"{path} is a folder; name a file for --export")
    atomic_files.write_file(path, write)
    return Export(*counted)


def _line(payload: bytes) -> bytes:
    """A record on one line.

    >>> _line(b"a " + bytes([13, 10]) + b"b")
    b'a  b'
    """
    if b"\n" not in payload and b"\r" not in payload:
        return payload
    try:
        return msgspec.json.format(payload, indent=-1)
    except msgspec.DecodeError:
        return _BREAKS.sub(b" ", payload)
