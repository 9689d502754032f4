"""What a part of the local set-up says of itself, and where it may live."""

import json
import os
import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.errors import RequestError
from pipelines.local.process import Program

__all__ = ["HOST", "Place", "Service", "ServiceStatus", "cache_folder"]

HOST = "127.0.0.1"
"""The one address that anything listens on."""


def cache_folder() -> Path:
    """Where programs are kept: `RILLET_CACHE`, or `rillet` in the user's cache folder."""
    own = os.environ.get("RILLET_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rillet"


@dataclass(frozen=True)
class Place:
    """Where one set of services lives.

    Attributes:
        directory: data, logs, process ids and the ports in use.
        cache: downloaded programs, shared by all directories.
        wanted: ports that were asked for, by name; 0 picks a free one.
    """

    directory: Path
    cache: Path
    wanted: Mapping[str, int] = field(default_factory=dict)

    def data(self, part: str) -> Path:
        """Folder of a part's own files; made when missing."""
        folder = self.directory / part
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def port(self, name: str, default: int = 0) -> int:
        """The port `name`: as it was, as asked for, or `default` (0: any free one).

        Raises:
            RequestError: somebody else listens on the port that was asked for.
        """
        ports = self.ports()
        if name in ports and self.wanted.get(name, ports[name]) in {0, ports[name]}:
            return ports[name]
        port = free_port(name, self.wanted.get(name, default))
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._file.write_text(json.dumps({**ports, name: port}, indent=1) + "\n", encoding="utf-8")
        return port

    def ports(self) -> dict[str, int]:
        """The ports that were given out so far, by name."""
        try:
            ports: dict[str, int] = json.loads(self._file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return ports

    @property
    def _file(self) -> Path:
        return self.directory / "ports.json"


def free_port(name: str, port: int) -> int:
    """`port` when nobody listens there, or any free one for 0.

    Raises:
        RequestError: the port is taken.
    """
    # Not from where the system takes ports for outgoing connections: one of those could
    # have it by the time that the service starts, and when it starts again.
    wanted = [port] if port else random.sample(range(15_000, 32_000), 100)
    for candidate in wanted:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    taken = f"port {port} for {name} is taken" if port else f"no port is free for {name}"
    raise RequestError(f"{taken}; choose another with --port {name}=N, 0 for any")


class Service(Protocol):
    """One service; a new one is a new file and a line in `control.PARTS`."""

    name: str
    needs: tuple[str, ...]
    """Parts that have to be up before."""

    def fetch(self, place: Place) -> None:
        """Bring the programs into the cache; does nothing when they are there.

        Raises:
            RequestError: they cannot be had; says what is missing and how to get it.
        """

    def programs(self, place: Place) -> Sequence[Program]:
        """Write the configuration and say what to start, in this order.

        Called for a part that is down or that has lost a process.
        """

    def ready(self, place: Place) -> bool:
        """Does it answer? Asked again and again, so it must not block for long."""

    def address(self, place: Place) -> str:
        """What a client connects to; empty while nobody gave out a port."""


@dataclass(frozen=True)
class ServiceStatus:
    """How a part is: `up` answers, `starting` runs but does not answer yet."""

    name: str
    state: Literal["up", "starting", "broken", "down"]
    address: str
    pids: dict[str, int]
    logs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)
