"""A file of any container → batches of records, in the source's own columns."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pipelines.errors import SourceError
from pipelines.read.containers import tables
from pipelines.read.containers.compression import DAMAGE, unpacked
from pipelines.read.containers.delimited import read_delimited
from pipelines.read.containers.find import Found
from pipelines.read.containers.json_values import read_json
from pipelines.read.containers.records import Records, row_as_json
from pipelines.read.find_files import open_file
from pipelines.read.mapping.paths import Tree
from pipelines.read.mapping.spec import Layout

__all__ = ["container_of", "read_records", "sniffed"]

_MAGIC = {b"PAR1": "parquet", b"Obj\x01": "avro", b"ORC": "orc", b"ARROW1": "arrow"}
_STREAM = b"\xff\xff\xff\xff"  # an Arrow IPC stream
_TABLES: dict[str, Any] = {
    "parquet": tables.read_parquet,
    "orc": tables.read_orc,
    "arrow": tables.read_arrow,
    "avro": tables.read_avro,
}


def sniffed(first: bytes) -> str:
    """The container of a file by its first bytes, unpacked; text that is no JSON is csv."""
    for magic, name in _MAGIC.items():
        if first.startswith(magic):
            return name
    if first.startswith(_STREAM):
        return "arrow"
    text = first.removeprefix(b"\xef\xbb\xbf").lstrip()
    return "json" if text[:1] in {b"{", b"["} and text[:2] != b"[]" else "csv"


def container_of(found: Found, layout: Layout) -> str:
    """The container of a file: as stated, or by its first bytes.

    Raises:
        SourceError: it is empty, cannot be opened, or is none of the container that is stated.
    """
    with open_file(found.path) as file:
        first = _start(unpacked(file, found.path, found.size), found.path)
    seen = sniffed(first)
    stated = layout.container
    if stated is None or stated == seen or not first:
        return stated or seen
    if {stated, seen} == {"csv", "json"}:  # both are text: the mapping knows
        return stated
    raise SourceError(f"{found.path} is {seen}, not {stated} as the mapping says; correct either")


def _start(stream: BinaryIO, path: str) -> bytes:
    try:
        return stream.read(64)
    except DAMAGE as error:
        raise SourceError(f"{path} is damaged ({_line(error)}); fetch or write it again") from None


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]


def read_records(
    found: Found, layout: Layout, tree: Tree, own: Sequence[str], *, block: int | None = None
) -> Iterator[Records]:
    """The records of a file.

    Args:
        found: the file.
        layout: how they lie in it.
        tree: the fields that are wanted; columns at the top.
        own: those of `$record`, `$file` and `$row` that are wanted, too.
        block: bytes of text that are read at once.

    Raises:
        SourceError: the file is damaged, or not what it is said to be.
    """
    container = container_of(found, layout)
    with open_file(found.path) as file:
        try:
            stream = unpacked(file, found.path, found.size)
            for records in _records(stream, found, layout, container, tree, own, block):
                yield _with_own(records, found, own)
        except SourceError:
            raise
        except DAMAGE as error:
            raise SourceError(
                f"{found.path} is damaged ({_line(error)}); fetch or write it again"
            ) from None


def _records(
    stream: BinaryIO,
    found: Found,
    layout: Layout,
    container: str,
    tree: Tree,
    own: Sequence[str],
    block: int | None,
) -> Iterator[Records]:
    if container == "csv":
        wanted = [*tree, *own]
        yield from read_delimited(stream, found.path, layout, wanted, block=block)
    elif container == "json":
        yield from read_json(
            stream, found.path, encoding=layout.encoding, tree=tree, record="$record" in own
        )
    else:
        wanted_columns = None if "$record" in own else list(tree)
        row = 0
        for batch in _TABLES[container](_seekable(stream, found), found.path, wanted_columns):
            yield Records(batch, row + np.arange(batch.num_rows), row_as_json(batch))
            row += batch.num_rows


def _seekable(stream: BinaryIO, found: Found) -> BinaryIO:
    """The stream; one that was packed is read whole."""
    if stream.seekable():
        return stream
    data = bytearray()
    while part := stream.read(8 << 20):
        data += part
    return pa.BufferReader(bytes(data))


def _with_own(records: Records, found: Found, own: Sequence[str]) -> Records:
    batch = records.batch
    count = batch.num_rows
    for name, value in found.partitions:
        if name not in batch.schema.names:
            batch = batch.append_column(name, pa.repeat(pa.scalar(value), count))
    if "$file" in own:
        batch = batch.append_column("$file", pa.repeat(pa.scalar(found.name), count))
    if "$row" in own:
        batch = batch.append_column("$row", pa.array(records.positions).cast(pa.string()))
    return replace(records, batch=batch)
