"""The store: training log, checkpoints, versions, embeddings; atomic and numbered.

::

    store/
      meta.json                    format of the store and the configuration it was made with
      batches/000042.arrow         micro-batch 42: immutable; version 42 is trained on it
                                   (after a retrain 43: see `models.store.version_numbers`)
      checkpoints/000040/          the trainer as of version 40
      versions/000042.json         the manifest of version 42
      embeddings/snapshot-000040.parquet  delta-000041.parquet …
      serving/000040/              what a query needs beside the vectors
      state/000042/                what the stream knows of its users after batch 42
      catalogue/items.parquet  users.parquet
      dead_letters/*.parquet
      CURRENT                      the version that is served

A version exists once its manifest does; files without one are leftovers of an
interrupted run, to be overwritten. Only the holder of the lock writes.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import msgspec
import pyarrow as pa

from models.errors import StoreError
from models.store import atomic_files
from models.store.manifest import Manifest

__all__ = ["FORMAT", "GENESIS", "Store"]

FORMAT = 1
"""Version of the layout; a store of another one is refused."""

GENESIS = "0" * 64
"""The digest before the first version."""

_FOLDERS = (
    "batches",
    "catalogue",
    "checkpoints",
    "dead_letters",
    "embeddings",
    "serving",
    "state",
    "versions",
)
_LOCKS = tuple(f".rillet-{role}.{kind}" for role in ("run", "writer") for kind in ("lock", "pid"))
_WAIT_S = {"run": 0.0, "writer": 30.0}
_OURS = frozenset({*_LOCKS, ".meta.json.tmp"})
_NUMBERED = re.compile(r"(?:snapshot-|delta-)?(\d{6,})(?:\.\w+)?")


@dataclass(frozen=True)
class Store:
    """A store on a file system: where things lie and how they are read and put.

    A value without open files: it may be pickled and used on a worker.
    """

    root: Path

    # -- the door ------------------------------------------------------------

    @classmethod
    def open(cls, root: Path) -> "Store":
        """An existing store, to read or to go on with.

        Raises:
            StoreError: nothing there, something else there, or another format.
        """
        store = cls(root)
        if not store.is_new():
            store.meta()
            return store
        raise StoreError(f"there is no store at {root}: make one with rillet run --store {root}")

    def is_new(self) -> bool:
        """Whether nothing is stored here yet: no folder, or an empty one.

        Raises:
            StoreError: the folder holds something that is not a store.
        """
        if (self.root / "meta.json").is_file():
            return False
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"{self.root} is a file: give a folder for --store")
        strangers = sorted(set(self._entries()) - _OURS)
        if strangers:
            raise StoreError(
                f"{self.root} is not a Rillet store (it holds {strangers[0]!r}, no meta.json): "
                "give an empty or new folder for --store"
            )
        return True

    def meta(self) -> dict[str, Any]:
        """What `create` recorded.

        Raises:
            StoreError: damaged, or written by another version of the layout.
        """
        path = self.root / "meta.json"
        try:
            meta = msgspec.json.decode(path.read_bytes(), type=dict)
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(
                f"{path} cannot be read ({error}): restore it from a copy of the store"
            ) from None
        if meta.get("format") != FORMAT:
            raise StoreError(
                f"store {self.root} has format {meta.get('format')!r}, this Rillet reads "
                f"{FORMAT}: use the Rillet that made it, or another --store"
            )
        return meta

    def create(self, config: dict[str, Any]) -> None:
        """Lay out a new store made with `config` (JSON-able)."""
        self.put_meta({"format": FORMAT, "config": config})
        for name in _FOLDERS:
            (self.root / name).mkdir(exist_ok=True)

    def discard(self) -> None:
        """Take away a store in which nothing was committed: as if it had not been made."""
        if not self.last_batch() and not self.versions():
            for name in (*_FOLDERS, "meta.json"):
                atomic_files.remove(self.root / name)

    @contextmanager
    def lock(self, role: str = "run") -> Iterator[None]:
        """Hold the store against other runs (`role` run) or other workers (`writer`).

        A worker waits a while for one that outlived its killed run.

        Raises:
            StoreError: somebody else holds it; the message names their pid.
        """
        new = not self.root.exists()
        guard = filelock.FileLock(
            self.root / f".rillet-{role}.lock", timeout=_WAIT_S[role], thread_local=False
        )
        holder = self.root / f".rillet-{role}.pid"
        with atomic_files.explained(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            try:
                guard.acquire()
            except filelock.Timeout:
                pid = holder.read_text().strip() if holder.exists() else "unknown"
                raise StoreError(
                    f"store {self.root} is in use by run with pid {pid}: "
                    "wait for it to end, or give another --store"
                ) from None
        try:
            with atomic_files.explained(holder):
                holder.write_text(f"{os.getpid()}\n")
            yield
        finally:
            holder.unlink(missing_ok=True)
            guard.release()
            if new and self.is_empty():
                shutil.rmtree(self.root)

    def is_empty(self) -> bool:
        """Whether the folder holds nothing but lock files and leftovers."""
        return set(self._entries()) <= _OURS

    def clean(self) -> None:
        """Remove what interrupted writes left; call it with the lock held."""
        atomic_files.sweep(self.root)

    # -- the training log ----------------------------------------------------

    def batch_path(self, number: int) -> Path:
        """Where micro-batch `number` is logged."""
        return self.root / "batches" / f"{number:06d}.arrow"

    def last_batch(self) -> int:
        """Number of the newest logged batch; 0 when there is none."""
        return max(self._numbers("batches"), default=0)

    def batches(self) -> list[int]:
        """Numbers of all logged batches, ascending."""
        return self._numbers("batches")

    def log_batches(self, batches: Sequence[tuple[int, bytes]]) -> None:
        """Log micro-batches (number, Arrow IPC file), but for those that are there.

        Raises:
            StoreError: another batch is logged under a number.
        """
        new = []
        for number, data in batches:
            path = self.batch_path(number)
            if not path.exists():
                new.append((path, partial(_put, data)))
            elif path.read_bytes() != data:
                raise StoreError(
                    f"micro-batch {number} in {self.root} was cut from other events: an "
                    "interrupted run goes on with the --events it began with; give those again"
                )
        atomic_files.write_files(new)

    def read_batch(self, number: int) -> tuple[pa.RecordBatch, str]:
        """Micro-batch `number` and the SHA-256 (hex) of its file.

        Raises:
            StoreError: missing or damaged.
        """
        path = self.batch_path(number)
        try:
            data = path.read_bytes()
            # Small batches: handing columns to threads costs more than it brings.
            options = pa.ipc.IpcReadOptions(use_threads=False)
            batch = pa.ipc.open_file(pa.py_buffer(data), options=options).get_batch(0)
        except (OSError, pa.ArrowInvalid) as error:
            raise StoreError(
                f"micro-batch {path} cannot be read ({error}): restore it from a copy"
            ) from None
        return batch, hashlib.sha256(data).hexdigest()

    def read_trained(self, version: Manifest, number: int) -> pa.RecordBatch:
        """Micro-batch `number`, which a version was trained on.

        Raises:
            StoreError: missing, damaged, or another one now.
        """
        batch, told = self.read_batch(number)
        if told != version.batch_sha256:
            raise StoreError(
                f"micro-batch {self.batch_path(number)} is not the one that version "
                f"{version.version} was trained on: restore it from a copy of the store"
            )
        return batch

    # -- versions ------------------------------------------------------------

    def versions(self) -> list[int]:
        """Numbers of all versions on record, ascending."""
        return self._numbers("versions")

    def has(self, version: int) -> bool:
        """Whether a version is on record, without listing the others."""
        return self._manifest_path(version).is_file()

    def _manifest_path(self, version: int) -> Path:
        return self.root / "versions" / f"{version:06d}.json"

    def manifest(self, version: int) -> Manifest:
        """What is on record about a version.

        Raises:
            StoreError: there is no such version, or its manifest is damaged.
        """
        path = self._manifest_path(version)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            known = self.versions()
            span = f"there are {known[0]} to {known[-1]}" if known else "there are none yet"
            raise StoreError(f"store {self.root} has no version {version}: {span}") from None
        return Manifest.decode(data, str(path))

    def put_meta(self, meta: dict[str, Any]) -> None:
        """Replace what `meta` gives."""
        atomic_files.write_bytes(self.root / "meta.json", _json(meta))

    def drop_after(self, version: int) -> None:
        """Remove files of later versions, which are not on record: call it with the lock held."""
        paths = [self.checkpoint_path(n) for n in self._numbers("checkpoints") if n > version]
        paths += [self.serving_path(n) for n in self._numbers("serving") if n > version]
        for kind in ("snapshot", "delta"):
            paths += [self.embeddings_path(kind, n) for n in self.embeddings(kind) if n > version]
        for path in paths:
            atomic_files.remove(path)

    def put_manifests(self, manifests: Sequence[Manifest]) -> None:
        """Commit versions, in order: from now on they exist."""
        atomic_files.write_files(
            [(self._manifest_path(m.version), partial(_put, m.encode())) for m in manifests]
        )

    def current(self) -> int | None:
        """The version that is served; None before the first.

        Raises:
            StoreError: CURRENT is damaged.
        """
        path = self.root / "CURRENT"
        try:
            return int(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise StoreError(
                f"{path} does not hold the number of a version: write one that has a file "
                f"in {self.root / 'versions'} into it"
            ) from None

    def serve(self, version: int) -> None:
        """Make a version the one that is served."""
        atomic_files.write_bytes(self.root / "CURRENT", f"{version:06d}\n".encode())

    # -- the rest ------------------------------------------------------------

    def checkpoint_path(self, version: int) -> Path:
        """Folder of the trainer as of a version."""
        return self.root / "checkpoints" / f"{version:06d}"

    def checkpoints(self) -> list[int]:
        """Versions with a complete checkpoint (their manifest exists), ascending."""
        return [number for number in self._numbers("checkpoints") if self.has(number)]

    def put_checkpoint(self, version: int, fill: Callable[[Path], object]) -> None:
        """Save the trainer as of a version."""
        atomic_files.replace_folder(self.checkpoint_path(version), fill)

    def serving_path(self, version: int) -> Path:
        """Folder of what a query needs beside the vectors."""
        return self.root / "serving" / f"{version:06d}"

    def put_serving(self, version: int, fill: Callable[[Path], object]) -> None:
        """Write what a query needs beside the vectors."""
        atomic_files.replace_folder(self.serving_path(version), fill)

    def state_path(self, number: int) -> Path:
        """Folder of what the stream knew after batch `number`."""
        return self.root / "state" / f"{number:06d}"

    def last_state(self) -> int:
        """The batch after which the newest completed run ended; 0 when none did."""
        return max(self._numbers("state"), default=0)

    def put_state(self, number: int, fill: Callable[[Path], object]) -> None:
        """Commit the end of a run; earlier states go."""
        atomic_files.replace_folder(self.state_path(number), fill)
        for old in self._numbers("state"):
            if old < number:
                atomic_files.remove(self.state_path(old))

    def catalogue_path(self, entity: str) -> Path:
        """Of the copy of `items` or `users`."""
        return self.root / "catalogue" / f"{entity}.parquet"

    def embeddings_path(self, kind: str, version: int) -> Path:
        """Of a `snapshot` or a `delta`."""
        return self.root / "embeddings" / f"{kind}-{version:06d}.parquet"

    def embeddings(self, kind: str) -> list[int]:
        """Numbers of the `snapshot`s or `delta`s that lie there, ascending."""
        return self._numbers("embeddings", f"{kind}-")

    def _entries(self, folder: str = "") -> list[str]:
        try:
            return [path.name for path in (self.root / folder).iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _numbers(self, folder: str, prefix: str = "") -> list[int]:
        names = (name for name in self._entries(folder) if name.startswith(prefix))
        found = (_NUMBERED.fullmatch(name) for name in names)
        return sorted(int(match[1]) for match in found if match)


def _put(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n"
