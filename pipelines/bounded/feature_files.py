"""Feature rows as Parquet files, and how a finished set of files takes its place."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import JobError, RequestError
from pipelines.features.rows import FeatureRows
from pipelines.schema import DEAD_LETTERS, FEATURES

__all__ = ["WriteRows", "publish", "work_folder", "write_rows"]

_CHUNK_VALUES = 1 << 21
"""Values of a history column written at once: bounds the memory of a shard's histories."""

_CHUNK_ROWS = 1 << 17

_DELTAS = ("window_start", "window_end", "anchor_time", "history_age_ms.list.element")
"""Columns of near neighbours: smaller and cheaper to write as differences."""

_DICTIONARIES = (
    "user_id",
    "item_id",
    "platform",
    "context.key_value.key",
    "context.key_value.value",
    "history_items.list.element",
    "history_types.list.element",
)
"""Columns that come dictionary-encoded and are written so, without a look at their strings."""

_SUMMARY = "summary.json"
_PART = re.compile(r"part-\d{5,}\.parquet")
_FOLDERS = {"features": FEATURES, "dead_letters": DEAD_LETTERS}


def write_rows(path: Path, rows: FeatureRows, history: int) -> None:
    """Write a file with the columns of FEATURES; histories hold at most `history` events."""
    step = max(1, min(_CHUNK_ROWS, _CHUNK_VALUES // max(history, 1)))
    batches = (
        rows.slice(start, step).materialise(history, encoded=True)
        for start in range(0, max(len(rows), 1), step)
    )
    first = next(batches)
    try:
        with _writer(path, first.schema) as writer:
            writer.write_batch(first)
            for batch in batches:
                writer.write_batch(batch)
    except OSError as error:
        raise JobError(
            f"feature rows cannot be written ({os.strerror(error.errno or errno.EIO)}): "
            f"make room on the disk of {path.parents[2]}, or choose another --out"
        ) from None


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="snappy",  # with histories zstd takes 12 % more time, snappy 40 % more room
        store_schema=False,  # dictionaries are how we write, not what a reader should see
        dictionary_pagesize_limit=1 << 26,  # falling back to plain strings costs far more
        use_dictionary=list(_DICTIONARIES),
        column_encoding=dict.fromkeys(_DELTAS, "DELTA_BINARY_PACKED"),
        write_statistics=False,
        write_batch_size=1 << 16,  # values at once; lists of 50 fill the default of 1,024 at once
    )


class _Write(beam.DoFn):
    """(shard, rows) → the path of their file."""

    def __init__(self, folder: Path, history: int) -> None:
        self._folder, self._history = folder, history

    def process(self, numbered: tuple[int, FeatureRows]) -> Iterator[str]:
        """Write the file of a shard; again, if the runner says so."""
        shard, rows = numbered
        path = self._folder / f"part-{shard:05d}.parquet"
        if len(rows):
            write_rows(path, rows, self._history)
            yield str(path)


@dataclass(eq=False, kw_only=True)
class WriteRows(beam.PTransform):
    """(shard, FeatureRows) → the paths of the files written, one a shard."""

    folder: Path  # exists, and every worker sees it
    history: int  # entries

    def expand(self, rows: beam.PCollection[tuple[int, FeatureRows]]) -> beam.PCollection[str]:
        """One file per shard."""
        return rows | "File" >> beam.ParDo(_Write(self.folder, self.history)).with_output_types(str)


@contextmanager
def work_folder(out: Path) -> Iterator[Path]:
    """A folder inside `out` to write into; it is gone at the end, whatever happens.

    In it are the folders `features`, `dead_letters` and `shuffle`.

    Raises:
        RequestError: `out` cannot be written to, or holds files of somebody else.
    """
    missing = not out.exists()
    _refuse_others(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _sweep(out)
        work = Path(tempfile.mkdtemp(prefix=f".work-{os.getpid()}-", dir=out))
        for name in (*_FOLDERS, "shuffle"):
            (work / name).mkdir()
    except OSError as error:
        raise RequestError(
            f"{out} cannot be written to: {error.strerror or error}; choose another --out"
        ) from None
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if missing and not any(out.iterdir()):
            out.rmdir()


def _refuse_others(out: Path) -> None:
    """The folders that will be replaced may hold nothing but what a run wrote."""
    for name in _FOLDERS:
        for path in sorted((out / name).iterdir()) if (out / name).is_dir() else ():
            if not _PART.fullmatch(path.name):
                raise RequestError(
                    f"{path} was not written by rillet features, which replaces that folder; "
                    "move it away, or choose another --out"
                )


def _sweep(out: Path) -> None:
    """Take away what killed runs left."""
    for left in out.glob(".work-*"):
        pid = left.name.split("-")[1]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)


def publish(work: Path, out: Path, summary: dict[str, Any]) -> None:
    """Put the folders of a finished run in the place of an earlier run's.

    Files are named part-00000.parquet, …; there is at least one in each folder, without
    rows if need be. The summary is taken away first and comes back last: where it stands,
    the folders beside it are whole and of one run.
    """
    (work / _SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    for name, schema in _FOLDERS.items():
        files = sorted((work / name).glob("*.parquet"))
        if not files:
            files = [work / name / "empty.parquet"]
            pq.write_table(schema.empty_table(), files[0], store_schema=False)
        for number, file in enumerate(files):
            file.rename(work / name / f"part-{number:05d}.parquet")
    (out / _SUMMARY).unlink(missing_ok=True)
    for name in _FOLDERS:
        if (out / name).exists():
            (out / name).rename(work / f"old-{name}")
        (work / name).rename(out / name)
    (work / _SUMMARY).replace(out / _SUMMARY)
