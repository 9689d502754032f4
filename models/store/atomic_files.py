"""Writing so that a reader, a crash or a full disk never meets half a file.

A file is written beside its place under a temporary name, synced, renamed, and
its folder synced; a folder likewise. Whatever fails leaves what was there.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from models.errors import JobError, StoreError

__all__ = [
    "Fill",
    "explained",
    "remove",
    "replace_folder",
    "sweep",
    "write_bytes",
    "write_file",
    "write_files",
]

Fill = Callable[[BinaryIO], object]
"""Writes the content of a file."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PREFIX, _SUFFIX = ".", ".tmp"


def write_bytes(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all; see `write_file`."""
    write_file(path, lambda file: file.write(data))


def write_file(path: Path, fill: Fill) -> None:
    """Let `fill` write a new file, then move it to `path` (replacing one that is there).

    Raises:
        JobError: the disk is full.
        StoreError: the folder cannot be written to.
    """
    write_files([(path, fill)])


def write_files(files: Sequence[tuple[Path, Fill]]) -> None:
    """Write several files for little more than the wait of one: all written, synced, then moved.

    They appear in the order given; a crash leaves the first so many of them.

    Raises:
        JobError: the disk is full; none of them is there.
        StoreError: a folder cannot be written to; none of them is there.
    """
    temporary = {path: _temporary(path) for path, _ in files}
    at = files[0][0] if files else Path()
    with explained(at):
        try:
            for path, fill in files:
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary[path].open("wb") as file:
                    fill(file)
            for written in temporary.values():
                _sync(written)
            for path, written in temporary.items():
                written.replace(path)
            for folder in {path.parent for path in temporary}:
                _sync(folder)
        except BaseException:
            for path in temporary.values():
                path.unlink(missing_ok=True)
            raise


def replace_folder(path: Path, fill: Callable[[Path], object]) -> None:
    """Let `fill` write files into a new folder, then move it to `path`.

    A folder that is there is taken away first: between the two moves there is
    none, so a folder counts only once something else (a manifest) names it.

    Raises:
        JobError: the disk is full.
        StoreError: the folder cannot be written to.
    """
    temporary = _temporary(path)
    with explained(path):
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            fill(temporary)
            for inner in sorted(temporary.rglob("*"), reverse=True):
                _sync(inner)
            _sync(temporary)
            remove(path)
            temporary.rename(path)
            _sync(path.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def remove(path: Path) -> None:
    """Take a file or folder away; nothing there is fine. A folder goes in one move."""
    if path.is_dir():
        doomed = _temporary(path.with_name(path.name + "-old"))
        shutil.rmtree(doomed, ignore_errors=True)
        path.rename(doomed)
        shutil.rmtree(doomed)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what interrupted writes left in `folder` and one level below."""
    for pattern in (f"{_PREFIX}*{_SUFFIX}", f"*/{_PREFIX}*{_SUFFIX}"):
        for path in folder.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_PREFIX}{path.name}{_SUFFIX}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the disk says into one line for the user."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise JobError(
                f"no space left to write {path} ({error.strerror}): free some, "
                "then give the same command again; what was committed stays"
            ) from error
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}): "
            "check the folder and its permissions"
        ) from error
