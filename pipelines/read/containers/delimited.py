"""Delimited text of any dialect → columns of text, by Arrow's reader, in blocks."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc_csv

from pipelines.errors import SourceError
from pipelines.read.containers.compression import recoded
from pipelines.read.containers.records import Lost, Records
from pipelines.read.containers.text_rows import Rows, text_rows
from pipelines.read.mapping.spec import Layout
from pipelines.read.parse.event_rules import Fault, excerpt

__all__ = ["delimiter_of", "names_of", "read_delimited"]

_ENDINGS = {".tsv": "\t", ".tab": "\t", ".inter": "\t"}
_STAND_INS = (b"\x1f", b"\x1e", b"\x1d", b"\x1c", b"\x01", b"\x02", b"\x03")


def delimiter_of(layout: Layout, path: str) -> str:
    """The delimiter that is stated, or that the file's name says; a comma otherwise."""
    if layout.delimiter is not None:
        return layout.delimiter
    lower = path.lower()
    for ending, delimiter in _ENDINGS.items():
        if ending in lower[-12:]:
            return delimiter
    return ","


@dataclass(frozen=True)
class _Dialect:
    """How a block is read."""

    path: str
    delimiter: bytes
    quote: bytes
    escape: bytes
    names: tuple[str, ...]

    def single(self, block: bytes) -> tuple[bytes, bytes]:
        """(the block with a delimiter of one byte, that one)."""
        if len(self.delimiter) == 1:
            return block, self.delimiter
        for letter in _STAND_INS:
            if letter not in block:
                return block.replace(self.delimiter, letter), letter
        raise SourceError(
            f"{self.path} holds all of the control characters that could stand for the delimiter"
            f" {self.delimiter.decode()!r}; rewrite it with one of one letter"
        )

    def split(self, row: bytes) -> list[str]:
        """One row → its fields.

        Raises:
            ValueError: it is not of this dialect; the message says why.
        """
        row, delimiter = self.single(row)
        text = row.decode()
        if not self.quote:
            return text.split(delimiter.decode())
        try:
            fields = list(
                csv.reader(
                    [text],
                    delimiter=delimiter.decode(),
                    quotechar=self.quote.decode(),
                    escapechar=self.escape.decode() or None,
                    strict=True,
                )
            )
        except csv.Error as error:
            raise ValueError(str(error)) from None
        return fields[0] if fields else []


def read_delimited(
    stream: BinaryIO, path: str, layout: Layout, wanted: Sequence[str], *, block: int | None = None
) -> Iterator[Records]:
    """A text → its rows; those of another number of fields are lost, never shifted.

    Args:
        stream: the bytes, unpacked.
        path: for messages; its ending says the delimiter, where the layout does not.
        layout: the dialect.
        wanted: columns to read; `$record` is the row as it stands.
        block: bytes that are read at once.

    Raises:
        SourceError: the header cannot be used.
    """
    delimiter = delimiter_of(layout, path).encode()
    quote = b"" if len(delimiter) > 1 else layout.quote.encode()
    dialect = _Dialect(path, delimiter, quote, layout.escape.encode(), layout.columns)
    sizes = {} if block is None else {"size": block}
    rows_of = text_rows(
        recoded(stream, layout.encoding), quote=quote, comment=layout.comment.encode(), **sizes
    )
    for whole in rows_of:
        rows = whole
        if not dialect.names:
            names = names_of(dialect, rows.row(0), layout)
            dialect = _Dialect(path, delimiter, quote, layout.escape.encode(), names)
            if layout.header:
                rows = rows.kept(np.arange(len(rows)) > 0)
        if len(rows):
            yield _records(rows, dialect, wanted)


def names_of(dialect: _Dialect, first: bytes, layout: Layout) -> tuple[str, ...]:
    """The names of the columns, of the header or by number.

    Raises:
        SourceError: the header is unreadable, or names a column twice.
    """
    try:
        fields = [name.strip() for name in dialect.split(first)]
    except ValueError as error:
        raise SourceError(f"{dialect.path}: its first line cannot be read ({error})") from None
    if not layout.header:
        return tuple(f"column{n + 1}" for n in range(len(fields)))
    if layout.header == "typed":
        fields = [name.partition(":")[0] for name in fields]
    twice = [name for name in fields if fields.count(name) > 1]
    if twice:
        raise SourceError(
            f"{dialect.path}: its header names {twice[0]!r} twice; give names with header = false"
            " and columns = […]"
        )
    return tuple(fields)


def _records(rows: Rows, dialect: _Dialect, wanted: Sequence[str]) -> Records:
    block, delimiter = dialect.single(rows.block())
    lost: dict[int, Fault] = {}
    table = None
    if _is_utf8(block):
        table = _parsed(block, delimiter, dialect, wanted, lost)
    if table is None or table.num_rows + len(lost) != len(rows):
        lost.clear()
        table = _one_by_one(rows, dialect, wanted, lost)
    mask = np.ones(len(rows), bool)
    mask[list(lost)] = False
    good = rows.kept(mask)
    batch = _with_record(table, good, wanted)
    faults = tuple(
        Lost(rows.row(row), int(rows.lines[row]), fault) for row, fault in sorted(lost.items())
    )
    return Records(batch, good.lines, good.row, faults, dialect.names)


def _is_utf8(block: bytes) -> bool:
    try:
        block.decode()
    except UnicodeDecodeError:
        return False
    return True


def _uneven(dialect: _Dialect, found: int, line: bytes) -> Fault:
    told = excerpt(line[:60].decode(errors="replace"))
    return Fault("bad_row", f"row: got {found} fields, expected {len(dialect.names)}: {told}")


def _parsed(
    block: bytes,
    delimiter: bytes,
    dialect: _Dialect,
    wanted: Sequence[str],
    lost: dict[int, Fault],
) -> pa.Table | None:
    """The block by Arrow's reader; None where it is not of this dialect."""
    uneven: list[tuple[int, int, str]] = []

    def skip(row: pc_csv.InvalidRow) -> str:
        uneven.append((row.number or 0, row.actual_columns, row.text))
        return "skip"

    names = [name for name in dialect.names if name in wanted] or [dialect.names[0]]
    quote = dialect.quote.decode() or False
    try:
        table = pc_csv.read_csv(
            pa.BufferReader(block),
            pc_csv.ReadOptions(
                use_threads=False, column_names=list(dialect.names), block_size=len(block) + 1
            ),
            pc_csv.ParseOptions(
                delimiter=delimiter.decode(),
                quote_char=quote,
                escape_char=dialect.escape.decode() or False,
                newlines_in_values=bool(quote),
                ignore_empty_lines=False,
                invalid_row_handler=skip,
            ),
            pc_csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=names,
                null_values=[],
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    for number, found, text in uneven:
        lost[number - 1] = _uneven(dialect, found, text.encode())
    return table


def _one_by_one(
    rows: Rows, dialect: _Dialect, wanted: Sequence[str], lost: dict[int, Fault]
) -> pa.Table:
    """Row by row, for a block with rows that are not of this dialect."""
    names = [name for name in dialect.names if name in wanted] or [dialect.names[0]]
    places = [dialect.names.index(name) for name in names]
    kept: list[list[str]] = []
    for index in range(len(rows)):
        row = rows.row(index)
        try:
            fields = dialect.split(row)
        except UnicodeDecodeError as error:
            lost[index] = Fault(
                "bad_row", f"row: not UTF-8 at byte {error.start}; state its encoding"
            )
            continue
        except ValueError as error:
            lost[index] = Fault("bad_row", f'row: {error}; write quote = "" if quotes are data')
            continue
        if len(fields) != len(dialect.names):
            lost[index] = _uneven(dialect, len(fields), row)
        else:
            kept.append([fields[place] for place in places])
    columns = list(zip(*kept, strict=True)) or [() for _ in names]
    return pa.table([pa.array(column, pa.string()) for column in columns], names=names)


def _with_record(table: pa.Table, rows: Rows, wanted: Sequence[str]) -> pa.RecordBatch:
    table = table.combine_chunks()
    batches = table.to_batches()
    batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    if "$record" not in wanted:
        return batch
    texts = pa.array([rows.row(i) for i in range(len(rows))], pa.binary()).cast(pa.string())
    return batch.append_column("$record", texts)
