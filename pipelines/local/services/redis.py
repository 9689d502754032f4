"""Redis, as Debian packages it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from pipelines.local import fetch, readiness
from pipelines.local.process import Program
from pipelines.local.service import HOST, Place

__all__ = ["Redis"]

_PACKAGES = ("redis-server", "redis-tools", "liblzf1", "libjemalloc2")


class Redis:
    """A server on `redis` (6379)."""

    name = "redis"
    needs: tuple[str, ...] = ()

    def fetch(self, place: Place) -> None:
        """Bring Redis, unless the machine has it (5 MB)."""
        self._server(place)

    def _server(self, place: Place) -> tuple[Path, dict[str, str]]:
        """The program, and the environment in which it finds its libraries."""
        installed = shutil.which("redis-server")
        if installed:
            return Path(installed), {}
        home = fetch.cached(
            place.cache, "redis", lambda folder: fetch.debian(self.name, _PACKAGES, folder)
        )
        libraries = ":".join(str(path) for path in sorted((home / "usr" / "lib").glob("*-linux-*")))
        return home / "usr" / "bin" / "redis-server", {"LD_LIBRARY_PATH": libraries}

    def programs(self, place: Place) -> Sequence[Program]:
        """One server that writes every change to its log."""
        server, environment = self._server(place)
        port = place.port("redis", 6379)
        settings = {"bind": HOST, "port": port, "dir": place.data(self.name)}
        settings |= {"appendonly": "yes", "save": "", "daemonize": "no"}
        arguments = [text for key, value in settings.items() for text in (f"--{key}", str(value))]
        return [Program("redis", (str(server), *arguments), environment)]

    def ready(self, place: Place) -> bool:
        """Does it answer PING?"""
        return readiness.await_answer(place.port("redis"), b"PING\r\n").startswith(b"+PONG")

    def address(self, place: Place) -> str:
        """The URI that a sink takes."""
        port = place.ports().get("redis")
        return f"redis://{HOST}:{port}/0" if port else ""
