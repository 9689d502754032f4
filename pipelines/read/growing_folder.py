"""A growing folder as a source: `dir:PATH`, new files as they come, complete ones only.

A splittable DoFn whose restriction holds which files are done. A file counts as
complete when its name is no draft's, it has not changed for `settle_ms`, and,
for Parquet, its footer is there. Writers that rename a finished file into the
folder are read at once after `settle_ms`; the others are waited for.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import apache_beam as beam
from apache_beam.coders import Coder
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.utils.timestamp import Duration, Timestamp

from pipelines.clock import wall_clock_ms
from pipelines.config import parse_duration
from pipelines.errors import SourceError
from pipelines.metrics import count
from pipelines.read.bounded_source import read_unit
from pipelines.read.find_files import SourceFile, Unit, kind_of
from pipelines.read.parse.parsed import Parsed
from pipelines.read.parse_at_source import (
    COUNTS,
    DEAD,
    VALID,
    advance,
    as_outputs,
    newest_ms,
    outputs,
    parse,
)
from pipelines.read.partition_progress import Partition, watermark_ms

__all__ = ["DirectorySource", "ReadDirectory", "list_folder"]

_log = logging.getLogger("rillet")
_TRACKER: Any = beam.DoFn.RestrictionParam()
_WATERMARK: Any = beam.DoFn.WatermarkEstimatorParam(ManualWatermarkEstimator.default_provider())
_DRAFTS = (".tmp", ".part", ".partial", ".crdownload", ".inprogress", "~")


@dataclass(frozen=True)
class DirectorySource:
    """A folder to watch.

    Attributes:
        path: the folder; files in folders below it are read too.
        disorder_ms: how far behind the newest event read so far an event may lie.
        idle_ms: silence after which the clock moves the watermark on. 30 s.
        settle_ms: how long a file has to stay unchanged to be complete. 2 s.
        poll_s: pause between two looks.
    """

    path: str
    disorder_ms: int = 5_000
    idle_ms: int = 30_000
    settle_ms: int = 2_000
    poll_s: float = 0.2

    @property
    def endless(self) -> bool:
        """Always."""
        return True

    @classmethod
    def parse(cls, text: str) -> "DirectorySource":
        """Read `dir:PATH`, with `?disorder=5s&idle=30s&settle=2s` if wanted.

        Raises:
            SourceError: the folder is not there, or an option is unknown.
        """
        path, _, query = text.removeprefix("dir:").partition("?")
        if not path or not Path(path).is_dir():
            raise SourceError(f"{text!r}: {path or 'nothing'} is no folder; make it first")
        given: dict[str, int] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in {"disorder", "idle", "settle"}:
                raise SourceError(f"dir: has no option {name}; choose from disorder, idle, settle")
            try:
                given[f"{name}_ms"] = parse_duration(value)
            except ValueError as error:
                raise SourceError(f"{name}={value}: {error}") from None
        return cls(str(Path(path).absolute()), **given)


@dataclass(frozen=True)
class FolderListing:
    """What a look at the folder found.

    Attributes:
        marks: of everything that is complete, done or not.
        new: files that are not done, oldest first, each with its mark.
    """

    marks: frozenset[int]
    new: tuple[tuple[int, SourceFile], ...]


def list_folder(source: DirectorySource, now_ms: int, done: Set[int]) -> FolderListing:
    """Which files are complete, and which of those are not done.

    A mark is a 64-bit number of name, size and time: a file that is written anew
    under an old name is read again (its events are known by their ids).
    """
    root, marks, new = Path(source.path), set(), []
    for path in root.rglob("*"):
        kind = kind_of(path.name)
        hidden = any(part[0] in "._" for part in path.relative_to(root).parts)
        if kind is None or hidden or path.name.endswith(_DRAFTS):
            continue
        try:
            stat = path.stat()
        except OSError:  # gone since it was listed
            continue
        if not path.is_file() or now_ms - stat.st_mtime_ns // 1_000_000 < source.settle_ms:
            continue
        mark = _mark(f"{path.relative_to(root)}\0{stat.st_size}\0{stat.st_mtime_ns}")
        if mark in done:
            marks.add(mark)
        elif _whole(path, kind[0], stat.st_size):
            marks.add(mark)
            new.append((stat.st_mtime_ns, str(path), mark, kind, stat.st_size))
    ordered = sorted(new)
    return FolderListing(
        frozenset(marks),
        tuple((mark, SourceFile(path, size, *kind)) for _, path, mark, kind, size in ordered),
    )


def _mark(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _whole(path: Path, kind: str, size: int) -> bool:
    """Whether a Parquet file has its footer; text is believed once it has settled."""
    if kind != "parquet":
        return True
    if size < 12:
        return False
    with path.open("rb") as file:
        file.seek(-4, 2)
        return file.read() == b"PAR1"


@dataclass(frozen=True)
class FilesDone:
    """The restriction: marks of the files that are done, and the newest event time (ms)."""

    marks: frozenset[int] = frozenset()
    newest_ms: int | None = None
    stopped: bool = False


class FilesDoneCoder(Coder):
    """Beam's coder for `FilesDone`: eight bytes a file."""

    def encode(self, value: FilesDone) -> bytes:
        """Restriction → bytes."""
        newest = -(2**63) if value.newest_ms is None else value.newest_ms
        head = newest.to_bytes(8, "big", signed=True) + bytes([value.stopped])
        return head + b"".join(mark.to_bytes(8, "big") for mark in sorted(value.marks))

    def decode(self, encoded: bytes) -> FilesDone:
        """Bytes → restriction."""
        newest = int.from_bytes(encoded[:8], "big", signed=True)
        marks = (encoded[at : at + 8] for at in range(9, len(encoded), 8))
        return FilesDone(
            frozenset(int.from_bytes(mark, "big") for mark in marks),
            None if newest == -(2**63) else newest,
            bool(encoded[8]),
        )

    def is_deterministic(self) -> bool:
        """Equal values have equal bytes."""
        return True


class FilesDoneTracker(RestrictionTracker):
    """Claims a file as a whole; can be stopped between two files."""

    def __init__(self, done: FilesDone) -> None:
        self._done = done

    def current_restriction(self) -> FilesDone:
        """What is done."""
        return self._done

    def current_progress(self) -> RestrictionProgress:
        """A folder that is watched is never done."""
        return RestrictionProgress(fraction=1.0 if self._done.stopped else 0.5)

    def try_claim(self, position: FilesDone) -> bool:
        """Move on to `position`; False once stopped."""
        if self._done.stopped:
            return False
        self._done = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[FilesDone, FilesDone] | None:
        """Stop here (fraction 0); a folder cannot be cut in two."""
        if fraction_of_remainder != 0 or self._done.stopped:
            return None
        left = self._done
        self._done = FilesDone(left.marks, left.newest_ms, stopped=True)
        return self._done, left

    def check_done(self) -> bool:
        """Whether the rest was handed back.

        Raises:
            ValueError: it was not.
        """
        if not self._done.stopped:
            raise ValueError("the folder was left while it is still watched")
        return True

    def is_bounded(self) -> bool:
        """Never."""
        return False


class _WatchDoFn(beam.DoFn, RestrictionProvider):
    """Folder → batches, for ever."""

    def __init__(self, source: DirectorySource) -> None:
        self.source = source

    def initial_restriction(self, element: str) -> FilesDone:
        """Nothing is done."""
        return FilesDone()

    def create_tracker(self, restriction: FilesDone) -> FilesDoneTracker:
        """Claims files."""
        return FilesDoneTracker(restriction)

    def restriction_size(self, element: str, restriction: FilesDone) -> float:
        """Unknown."""
        return 1.0

    def restriction_coder(self) -> FilesDoneCoder:
        """Marks as bytes."""
        return FilesDoneCoder()

    def setup(self) -> None:
        """Silence is counted from the start of the worker."""
        self.heard = time.monotonic()

    @beam.DoFn.unbounded_per_element()
    def process(
        self, element: str, tracker: Any = _TRACKER, estimator: Any = _WATERMARK
    ) -> Iterator[Any]:
        """Read one complete file after another; hand the rest back when there is none."""
        done: FilesDone = tracker.current_restriction()
        found = list_folder(self.source, wall_clock_ms(), done.marks)
        # Files that were taken away need not be remembered: the state stays bounded.
        done = FilesDone(done.marks & found.marks, done.newest_ms)
        for mark, file in found.new:
            done = FilesDone(done.marks | {mark}, done.newest_ms)
            if not tracker.try_claim(done):
                return
            newest = done.newest_ms
            for parsed in _parsed(file):
                newest = max((t for t in (newest, newest_ms(parsed.valid)) if t), default=None)
                yield from outputs(parsed, estimator.current_watermark() or Timestamp(0))
            self.heard = time.monotonic()
            done = FilesDone(done.marks, newest)
            if not tracker.try_claim(done):
                return
            advance(estimator, self._watermark(done))
        advance(estimator, self._watermark(done))
        tracker.defer_remainder(Duration(seconds=self.source.poll_s))

    def _watermark(self, done: FilesDone) -> int | None:
        silent = (time.monotonic() - self.heard) * 1_000 >= self.source.idle_ms
        return watermark_ms(
            {0: Partition(0, None, done.newest_ms)},
            {0} if silent else (),
            now_ms=wall_clock_ms(),
            disorder_ms=self.source.disorder_ms,
            idle_ms=self.source.idle_ms,
        )


def _parsed(file: SourceFile) -> Iterator[Parsed]:
    """A file's batches; one that is damaged is reported and counted, and what it had is kept."""
    try:
        yield from map(parse, read_unit(Unit(file)))
    except SourceError as error:
        _log.error("%s", error)
        count("damaged_files")


@dataclass(eq=False, kw_only=True)
class ReadDirectory(beam.PTransform):
    """A folder → `.valid` (events, schema CODED_EVENTS), `.dead` and `.counts`, for ever."""

    source: DirectorySource

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.pvalue.DoOutputsTuple:
        """One watcher."""
        return as_outputs(
            pbegin
            | "Folder" >> beam.Create([self.source.path], reshuffle=False)
            | "Watch" >> beam.ParDo(_WatchDoFn(self.source)).with_outputs(DEAD, COUNTS, main=VALID)
        )
