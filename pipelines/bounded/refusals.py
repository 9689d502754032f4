"""What a run refused, said where nobody overlooks it: a warning, or the end with status 1."""

import gzip
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.errors import JobError
from pipelines.read.find_files import kind_of, open_file

__all__ = ["check_usable", "example", "warn"]

_log = logging.getLogger("rillet")

_TOLD = 10
"""More than a tenth refused: the log is not what it was taken for."""


def warn(told: dict[str, Any], letters: Path) -> None:
    """Warn of what was refused, if much was, and of ids that mean several events.

    Args:
        told: a summary: read, valid, duplicates, duplicates_differ, dead by reason.
        letters: folder of the dead letters.
    """
    dead = sum(told["dead"].values())
    if dead * _TOLD > told["read"] and _usable(told):
        _log.warning(
            "%d of %d records were refused (%s); the first: %s",
            dead,
            told["read"],
            ", ".join(f"{n} {reason}" for reason, n in told["dead"].items()),
            example(letters, told["dead"]),
        )
    if told["duplicates_differ"]:
        _log.warning(
            "%d of %d duplicates differ in user, item or time from the event whose event_id they "
            "repeat: does the event_id start again in each file? Make it unique, by the file's "
            "name or the day before it",
            told["duplicates_differ"],
            told["duplicates"],
        )


def check_usable(told: dict[str, Any], letters: Path) -> None:
    """Refuse to call it a success where not one record could be used.

    Args:
        told: a summary, as for `warn`.
        letters: folder of the dead letters.

    Raises:
        JobError: with the first example.
    """
    if told["read"] and not _usable(told):
        reasons = ", ".join(f"{n} {reason}" for reason, n in told["dead"].items())
        raise JobError(
            f"none of the {told['read']} records could be used ({reasons}); the first: "
            f"{example(letters, told['dead'])}"
        )


def _usable(told: dict[str, Any]) -> bool:
    return sum(told["dead"].values()) < told["read"]


def example(letters: Path, dead: dict[str, int]) -> str:
    """One dead letter, as file, line and what was wrong.

    Args:
        letters: folder of the dead letters.
        dead: reasons of the run; the letters of earlier runs may have others.
    """
    files = sorted(letters.glob("*.parquet"))
    if not files:
        return f"see {letters}"
    table = pq.read_table(files, columns=["reason", "detail", "source", "position", "seen_at"])
    table = table.filter(pc.is_in(table["reason"], value_set=_texts(dead)))
    if not len(table):
        return f"see {letters}"
    # The latest run's. An event that came too late no longer says where it was read.
    order = [("seen_at", "descending"), ("source", "ascending"), ("position", "ascending")]
    row = table.sort_by(order).slice(0, 1).to_pylist()[0]
    if row["source"] == _STREAM:
        return f"see {letters}: {row['detail']}"
    return f"{_place(row['source'], row['position'])}{row['detail']}"


_STREAM = "stream"
"""The source of a letter about an event that came too late (`pipelines.clean.too_late`)."""


def _texts(dead: dict[str, int]) -> Any:
    return pa.array(list(dead), pa.string())


def _place(source: str, position: int) -> str:
    kind = kind_of(source)
    if kind is None:
        return f"{source}, offset {position}: "
    if kind[0] == "parquet":
        return f"{source}, row {position} (the first is 0): "
    line = _line(source, position, gzipped=kind[1])
    return f"{source}, line {line}: " if line else f"{source}, byte {position}: "


def _line(path: str, position: int, *, gzipped: bool) -> int | None:
    """The number of the line that begins at a byte, from 1; None where the file is away."""
    try:
        with open_file(path) as raw:
            file = gzip.GzipFile(fileobj=raw) if gzipped else raw
            line, left = 1, position
            while left > 0 and (data := file.read(min(left, 1 << 20))):
                line, left = line + data.count(b"\n"), left - len(data)
    except (OSError, EOFError) as error:
        _log.debug("%s: %s", path, error)
        return None
    return line
