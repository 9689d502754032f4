"""What a source names: files, their kind, and pieces of them that can be read apart.

Nothing here needs Beam, but for remote paths (`gs://`, `s3://`, …).
"""

import glob
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pipelines.errors import SourceError
from pipelines.read import parquet_files

__all__ = [
    "SourceFile",
    "Unit",
    "check_sources",
    "find_files",
    "kind_of",
    "left_out",
    "open_file",
    "units",
]

_log = logging.getLogger("rillet")

RANGE_BYTES = 64 << 20
"""Longest stretch of a text file that one worker reads; cut at line ends."""

_KINDS = {
    ".parquet": ("parquet", False),
    ".jsonl": ("lines", False),
    ".ndjson": ("lines", False),
    ".json": ("lines", False),
    ".jsonl.gz": ("lines", True),
    ".ndjson.gz": ("lines", True),
    ".json.gz": ("lines", True),
}
_NAMED = 3
"""Names in a message; the rest is counted."""

_ENDINGS = ".parquet, .jsonl or .jsonl.gz"


@dataclass(frozen=True, order=True)
class SourceFile:
    """One file and how it is read."""

    path: str
    size: int  # bytes
    kind: str  # parquet | lines
    gzip: bool = False


@dataclass(frozen=True, order=True)
class Unit:
    """A piece of a file for one worker: bytes of text, or row groups of Parquet."""

    file: SourceFile
    start: int = 0  # first byte or row group
    end: int | None = None  # first one not to read; None: to the end


def find_files(sources: Sequence[str]) -> list[SourceFile]:
    """Files, globs and folders → the files, each once, in order of their paths.

    Raises:
        SourceError: a source is missing, matches nothing or holds no feedback files, or a
            file's name does not say what it is.
    """
    found = {_same(file.path): file for source in sources for file in _find(source)}
    if not found:
        raise SourceError("no source is given; name a file, a glob or a folder with --events")
    return [found[path] for path in sorted(found)]


def _same(path: str) -> str:
    """What a path is known by, however it is written: `./a.jsonl` and a link to it are one."""
    return path if "://" in path else str(Path(path).resolve())


def _find(source: str) -> list[SourceFile]:
    source = source.removeprefix("file://")
    matched = _remote(source) if "://" in source else _local(source)
    files = []
    for path, size in matched:
        kind = kind_of(path)
        if kind is None:
            raise SourceError(
                f"{path} is none of {_ENDINGS}: see what it holds with rillet inspect, then read"
                " it with --format NAME or [source] of a job file"
            )
        files.append(SourceFile(path, size, *kind))
    return files


def kind_of(path: str) -> tuple[str, bool] | None:
    """(`parquet` or `lines`, whether gzipped) as the file's name says; None: no feedback file."""
    lower = path.lower()
    return next((kind for ending, kind in _KINDS.items() if lower.endswith(ending)), None)


def _local(source: str) -> list[tuple[str, int]]:
    if not source.strip():  # not the current folder, which is what Path("") means
        raise SourceError("--events is empty; give a file, a glob or a folder")
    path = Path(source)
    if path.is_dir():
        inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p, path))
        kept = [p for p in inside if kind_of(p.name)]
        if not kept:
            raise SourceError(
                f"folder {source} holds no {_ENDINGS} file{_others(inside)}; check the path, or "
                "see with rillet inspect what it holds and read that with --format NAME"
            )
    elif path.exists():
        kept = [path]
    elif glob.has_magic(source):
        matched = (Path(name) for name in sorted(glob.glob(source, recursive=True)))  # noqa: PTH207
        kept = [p for p in matched if p.is_file() and p.name[0] not in "._"]
        if not kept:
            raise SourceError(f"glob {source} matches no file; quote it and check the path")
    else:
        raise SourceError(f"{source} does not exist; check the path")
    return [(str(p), p.stat().st_size) for p in kept]


def _others(files: Sequence[Path]) -> str:
    names = ", ".join(path.name for path in files[:_NAMED])
    return f", but {len(files)} others ({names}{', …' * (len(files) > _NAMED)})" if files else ""


def left_out(sources: Sequence[str]) -> list[Path]:
    """Files of folders among the sources that are not read, for their names end otherwise."""
    folders = (Path(source.removeprefix("file://")) for source in sources if "://" not in source)
    found = (
        path
        for folder in folders
        if folder.is_dir()
        for path in folder.rglob("*")
        if path.is_file() and not _hidden(path, folder) and not kind_of(path.name)
    )
    return sorted(set(found))


def _hidden(path: Path, root: Path) -> bool:
    return any(part[0] in "._" for part in path.relative_to(root).parts)


def _remote(source: str) -> list[tuple[str, int]]:
    from apache_beam.io.filesystems import FileSystems

    scheme = source.partition("://")[0]
    try:
        found = FileSystems.match([source])[0].metadata_list
        if not found:  # a folder has no entry of its own in an object store
            inside = FileSystems.match([source.rstrip("/") + "/**"])[0].metadata_list
            found = [entry for entry in inside if kind_of(entry.path)]
    except ValueError as error:
        raise SourceError(
            f"{source} cannot be read ({_brief(error)}); install Beam's part for {scheme}://"
        ) from None
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        raise SourceError(
            f"{source} cannot be listed ({_brief(error)}); check the path and your credentials"
        ) from None
    if not found:
        raise SourceError(f"{source} matches no file; check the path")
    return [(entry.path, int(entry.size_in_bytes)) for entry in found]


def _brief(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def open_file(path: str) -> BinaryIO:
    """A local or remote file's bytes, as they lie there.

    Raises:
        SourceError: the file cannot be opened.
    """
    try:
        if "://" not in path:
            return Path(path).open("rb")
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems

        return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    except OSError as error:
        raise SourceError(
            f"{path} cannot be opened: {error.strerror or error}; check its permissions"
        ) from None


def check_sources(sources: Sequence[str]) -> list[SourceFile]:
    """Refuse at the door what a job would stumble over; the files if all is well.

    Raises:
        SourceError: as `find_files`; or a Parquet file is empty, truncated, foreign, lacks a
            required column or has one of an impossible type; or a text file is gzip and
            not named so, or the other way round.
    """
    files = find_files(sources)
    for file in files:
        with open_file(file.path) as opened:
            if file.kind == "parquet":
                parquet_files.check(file.path, file.size, opened)
            elif file.size and file.gzip != (opened.read(2) == b"\x1f\x8b"):
                found = "is not gzip, as" if file.gzip else "is gzip, not text, as"
                raise SourceError(f"{file.path} {found} its name says; rename it")
    others = left_out(sources)
    if others:
        names = ", ".join(map(str, others[:_NAMED])) + ", …" * (len(others) > _NAMED)
        _log.warning(
            "%d file%s left out, being none of %s: %s",
            len(others),
            " is" if len(others) == 1 else "s are",
            _ENDINGS,
            names,
        )
    return files


def units(file: SourceFile) -> list[Unit]:
    """A file → pieces that can be read apart, in order."""
    if file.kind == "parquet":
        with open_file(file.path) as opened:
            return [
                Unit(file, i, i + 1) for i in range(parquet_files.row_groups(file.path, opened))
            ]
    if file.gzip or file.size <= RANGE_BYTES:
        return [Unit(file)]
    return [Unit(file, at, at + RANGE_BYTES) for at in range(0, file.size, RANGE_BYTES)]
