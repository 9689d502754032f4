"""A foreign log: which mapping fits which file, and its records as events and dead letters."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch

import numpy as np
import pyarrow as pa

from pipelines.arrow.ipc import concat
from pipelines.errors import SourceError
from pipelines.read.containers import Found, Lost, Records, find, read_records
from pipelines.read.containers.read import container_of
from pipelines.read.mapping import Mapped, Source, apply
from pipelines.read.mapping.fit import problem
from pipelines.read.parse.event_rules import Fault
from pipelines.read.parse.parquet_rows import parse_rows, rows_schema
from pipelines.read.parse.parsed import Parsed, dead_letters
from pipelines.schema import DEAD_LETTERS

__all__ = ["ForeignParsed", "Piece", "parse_records", "plan", "read_piece", "sample"]

SAMPLE_ROWS = 1_000
SAMPLE_BYTES = 1 << 20

_log = logging.getLogger("rillet")
_OWN = ("$record", "$file", "$row")


@dataclass(frozen=True)
class Piece:
    """A file and the mapping that reads it."""

    found: Found
    spec: Source


@dataclass(frozen=True, kw_only=True)
class ForeignParsed(Parsed):
    """Also what was no event, and why; `read` counts what might have been events."""

    records: int
    noted: Mapping[str, int]  # `skipped_…` and `nulled_…`

    @property
    def counts(self) -> dict[str, int]:
        """Those of `Parsed`, `records`, and what was noted."""
        return {**super().counts, "records": self.records, **self.noted}


def plan(
    sources: Sequence[str], specs: Sequence[Source], label: str, *, tell: bool = True
) -> list[Piece]:
    """Files, globs and folders → each file with the first mapping that fits its first rows.

    Args:
        sources: as given with `--events`.
        specs: the `[[source]]`s.
        label: what they are called in messages.
        tell: whether to log which files of a folder are left out.

    Raises:
        SourceError: a source is missing, or no mapping fits a file; the message says which
            column, row or value does not.
    """
    pieces, left_out = [], []
    for found in find(sources):
        named = [spec for spec in specs if _matches(found, spec)]
        if not named and not found.chosen:
            left_out.append(found.name)
            continue
        pieces.append(_fitting(found, named or list(specs), label))
    if not pieces:
        raise SourceError(
            f"none of the {len(left_out)} files ({_some(left_out)}) is named as {label} has it:"
            f" {_some([glob for spec in specs for glob in spec.match])}; name one with --events"
        )
    if left_out and tell:
        _log.warning("%d files are left out by their names: %s", len(left_out), _some(left_out))
    return pieces


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _matches(found: Found, spec: Source) -> bool:
    return not spec.match or any(fnmatch(found.name.lower(), glob.lower()) for glob in spec.match)


def _fitting(found: Found, specs: Sequence[Source], label: str) -> Piece:
    problems = []
    for spec in specs:
        try:
            stated = _stated(found, spec)
            wrong = problem(stated, sample(found, stated))
        except SourceError as error:
            if len(specs) == 1:
                raise
            wrong = str(error).removeprefix(found.path).strip()
        if wrong is None:
            return Piece(found, stated)
        problems.append(wrong)
    raise SourceError(
        f"{found.path} does not fit {label}: {problems[0]}; correct the mapping, or see what"
        f" the file holds with rillet inspect {found.path}"
    )


def _stated(found: Found, spec: Source) -> Source:
    """The mapping with its container stated: what is null depends on it."""
    return spec.model_copy(update={"container": container_of(found, spec)})


def sample(found: Found, spec: Source) -> Records | None:
    """The first rows of a file, with all of its columns; None: it has none."""
    for records in read_records(found, spec, spec.tree(), _OWN, block=SAMPLE_BYTES):
        rows = min(records.batch.num_rows, SAMPLE_ROWS)
        first = records.batch.slice(0, rows)
        return Records(
            first, records.positions[:rows], records.payload, records.lost, records.columns
        )
    return None


def read_piece(piece: Piece) -> Iterator[Records]:
    """A file's records.

    Raises:
        SourceError: the file went away, or is damaged.
    """
    own = [name for name in _OWN if piece.spec.uses(name)]
    yield from read_records(piece.found, piece.spec, piece.spec.tree(), own)


def parse_records(records: Records, piece: Piece, now_ms: int) -> ForeignParsed:
    """Records → events, dead letters with the records as they were read, and counts.

    A batch with a column of a type that the mapping cannot mean, which the first rows did not
    have, is dead letters.
    """
    mapped = _mapped(records, piece.spec)
    path = piece.found.path
    schema = rows_schema(mapped.rows.schema, source=path, position=0, extra=0)
    parsed = parse_rows(mapped.rows.replace_schema_metadata(schema.metadata), now_ms)
    dead = _readdressed(parsed.dead, mapped, records)
    refused = _refused(mapped, records, path, now_ms)
    letters = concat([one for one in (dead, refused) if one.num_rows], DEAD_LETTERS)
    noted = {f"skipped_{why}": number for why, number in mapped.skipped.items()}
    noted |= {f"nulled_{name}": number for name, number in mapped.nulled.items()}
    read = parsed.read + refused.num_rows
    return ForeignParsed(
        parsed.valid,
        letters,
        read,
        0,
        parsed.unknown_values,
        records=records.count,
        noted=noted,
    )


def _mapped(records: Records, spec: Source) -> Mapped:
    try:
        return apply(spec, records.batch)
    except ValueError as error:
        fault = Fault("bad_type", str(error))
        none = apply(spec, records.batch.slice(0, 0).select([]))
        refused = tuple((row, fault) for row in range(records.batch.num_rows))
        return Mapped(none.rows, none.origin, refused)


def _readdressed(dead: pa.RecordBatch, mapped: Mapped, records: Records) -> pa.RecordBatch:
    """Dead letters of mapped rows → of the records that they are of."""
    if not dead.num_rows:
        return dead
    origin = mapped.origin[dead.column("position").to_numpy()]
    payloads = pa.array([records.payload(int(row)) for row in origin], pa.binary())
    positions = pa.array(records.positions[origin].astype(np.int64))
    columns = {**dict(zip(dead.schema.names, dead.columns, strict=True))}
    columns |= {"payload": payloads, "position": positions}
    return pa.RecordBatch.from_arrays(list(columns.values()), schema=DEAD_LETTERS)


def _refused(mapped: Mapped, records: Records, path: str, now_ms: int) -> pa.RecordBatch:
    """What could not be read, of a record or at all."""
    lost = [
        *records.lost,
        *(
            Lost(records.payload(row), int(records.positions[row]), fault)
            for row, fault in mapped.faults
        ),
    ]
    return dead_letters(
        [one.payload for one in lost],
        [one.fault for one in lost],
        [one.position for one in lost],
        source=path,
        now_ms=now_ms,
    )
