"""Files of a simulation: complete or not there at all, the same bytes each time."""

import gzip
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Self, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.errors import JobError, RequestError

__all__ = ["EventFile", "TableFile", "folder", "write_table"]

_GROUP_ROWS = 131_072  # rows a Parquet row group: bounds memory, still compresses


@contextmanager
def folder(out: Path) -> Iterator[Path]:
    """Make `out` and its `truth`; an error of the file system becomes one line.

    Raises:
        RequestError: `out` is no folder or may not be written.
        JobError: writing failed, as on a full disk.
    """
    try:
        (out / "truth").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{out} cannot be made a folder: {error.strerror}; choose another --out"
        ) from None
    try:
        yield out
    except OSError as error:
        raise JobError(
            f"writing to {out} failed: {error.strerror}; free some space or choose another --out"
        ) from None


class _Draft:
    """A file that takes its name only when it is complete."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.draft = path.with_name(f".{path.name}.partial")

    def settle(self, failed: bool) -> None:
        if failed:
            self.draft.unlink(missing_ok=True)
        else:
            self.draft.replace(self.path)


class TableFile(_Draft):
    """A Parquet file that grows batch by batch, in row groups of `_GROUP_ROWS`."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Open the draft beside `path`."""
        super().__init__(path)
        self._schema, self._rows = schema, 0
        self._held: list[pa.RecordBatch] = []

    def __enter__(self) -> Self:
        self._writer = pq.ParquetWriter(self.draft, self._schema, compression="zstd")
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append rows; they are written when enough have come together."""
        self._held.append(batch)
        self._rows += len(batch)
        if self._rows >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held, self._schema))
        self._held, self._rows = [], 0

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with ExitStack() as after:
            after.callback(self.settle, kind is not None)
            after.callback(self._writer.close)
            if kind is None:
                self._flush()


class EventFile(_Draft):
    """`events.jsonl`, plain or gzipped: lines appended as Arrow binary arrays."""

    def __enter__(self) -> Self:
        self._raw = self.draft.open("wb")
        self._position = 0
        self._file: IO[bytes] = self._raw
        if self.path.suffix == ".gz":
            # No name and no time inside: the same bytes each time.
            self._file = cast(
                IO[bytes], gzip.GzipFile("", "wb", compresslevel=4, fileobj=self._raw, mtime=0)
            )
        return self

    def write(self, lines: pa.BinaryArray) -> NDArray[np.int64]:
        """Append `[n]` lines without nulls, each with its own end; where each begins.

        Returns:
            `[n]` bytes from the start of the text (of a gzipped file: unpacked).
        """
        _, offsets, data = lines.buffers()
        ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
        self._file.write(memoryview(data)[ends[0] : ends[-1]])
        starts = self._position + ends[:-1].astype(np.int64) - ends[0]
        self._position += int(ends[-1] - ends[0])
        return starts

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with ExitStack() as after:
            after.callback(self.settle, kind is not None)
            after.callback(self._raw.close)
            if self._file is not self._raw:
                after.callback(self._file.close)


def write_table(table: pa.Table, path: Path) -> None:
    """A whole Parquet file at once."""
    with TableFile(path, table.schema) as file:
        for batch in table.to_batches():
            file.write(batch)
