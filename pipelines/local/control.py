"""`up`, `status` and `down` of the services on this machine."""

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from pipelines.errors import JobError, RequestError
from pipelines.local import process
from pipelines.local.service import Place, Service, ServiceStatus, cache_folder
from pipelines.local.services.flink import Flink
from pipelines.local.services.job_server import JobServer
from pipelines.local.services.kafka import Kafka
from pipelines.local.services.postgres import Postgres
from pipelines.local.services.redis import Redis

__all__ = ["PARTS", "default_directory", "down", "status", "up"]

_log = logging.getLogger("rillet")

PARTS: dict[str, Service] = {
    part.name: part for part in (Kafka(), Flink(), JobServer(), Redis(), Postgres())
}
"""Every part, in the order in which they start."""


def default_directory() -> Path:
    """Where data, logs and process ids go when no `--dir` is given."""
    return cache_folder() / "local"


def up(
    directory: Path | None = None,
    *,
    only: Sequence[str] = (),
    ports: Mapping[str, int] | None = None,
    cache: Path | None = None,
    timeout_s: float = 120.0,
) -> list[ServiceStatus]:
    """Start what is asked for and wait until it answers; what runs is left as it is.

    Args:
        directory: data, logs, process ids and ports; None: `default_directory()`.
        only: names of parts, and with them what they need; empty: all.
        ports: name → port, such as `{"kafka": 19092}`; 0 picks a free one.
        cache: programs; None: `RILLET_CACHE` or the user's cache folder.
        timeout_s: how long to wait for readiness, downloads apart.

    Returns:
        The parts that were asked for, all `up`.

    Raises:
        RequestError: a name is unknown, a port taken, or a program cannot be
            had; the other parts were started all the same.
        JobError: a part ended or did not answer in time; names its log.
    """
    place = _place(directory, cache, ports)
    place.directory.mkdir(parents=True, exist_ok=True)
    missing: list[str] = []
    with FileLock(place.directory / ".lock"):
        chosen = _chosen(only, with_needs=True)
        for part in chosen:
            try:
                part.fetch(place)
                _start(part, place)
            except RequestError as error:
                missing.append(str(error))
        started = [part for part in chosen if _running(part, place)]
        deadline = time.monotonic() + timeout_s
        for part in started:
            _await(part, place, deadline)
    if missing:
        raise RequestError("; ".join(missing))
    return [_status(part, place) for part in chosen]


def status(
    directory: Path | None = None, *, only: Sequence[str] = (), cache: Path | None = None
) -> list[ServiceStatus]:
    """How the parts are; starts and changes nothing.

    Raises:
        RequestError: a name is unknown.
    """
    place = _place(directory, cache, None)
    return [_status(part, place) for part in _chosen(only)]


def down(
    directory: Path | None = None,
    *,
    only: Sequence[str] = (),
    cache: Path | None = None,
    timeout_s: float = 20.0,
) -> list[ServiceStatus]:
    """End what `up` started in this directory, and nothing else; data and logs stay.

    Raises:
        RequestError: a name is unknown.
    """
    place = _place(directory, cache, None)
    chosen = _chosen(only)
    if place.directory.is_dir():
        with FileLock(place.directory / ".lock"):
            for part in reversed(chosen):
                for name in reversed(_names(part, place)):
                    if process.stop(place.directory, name, timeout_s):
                        _log.info("local: %s ended", name)
    return [_status(part, place) for part in chosen]


def _place(directory: Path | None, cache: Path | None, ports: Mapping[str, int] | None) -> Place:
    return Place(
        directory=(directory or default_directory()).absolute(),
        cache=(cache or cache_folder()).absolute(),
        wanted=dict(ports or {}),
    )


def _chosen(only: Iterable[str], *, with_needs: bool = False) -> list[Service]:
    names = list(only) or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise RequestError(f"{unknown[0]!r} is no part; choose from {', '.join(PARTS)}")
    if with_needs:
        names += [need for name in names for need in PARTS[name].needs]
    return [part for name, part in PARTS.items() if name in names]


def _names(part: Service, place: Place) -> list[str]:
    """The programs of a part that this directory has ever started, in order of starting."""
    found = [path.stem for path in (place.directory / "run").glob("*.pid")]
    return sorted(name for name in found if name == part.name or name.startswith(f"{part.name}-"))


def _logs(part: Service, place: Place) -> list[Path]:
    folder = process.log_file(place.directory, part.name).parent
    return sorted({*folder.glob(f"{part.name}.log"), *folder.glob(f"{part.name}-*.log")})


def _running(part: Service, place: Place) -> dict[str, int]:
    pids = {name: process.pid_of(place.directory, name) for name in _names(part, place)}
    return {name: pid for name, pid in pids.items() if pid is not None}


def _start(part: Service, place: Place) -> None:
    running = _running(part, place)
    if running and len(running) == len(_names(part, place)):
        return
    for program in part.programs(place):
        if program.name not in running:
            _log.info("local: starting %s", program.name)
            process.start(place.directory, program)


def _await(part: Service, place: Place, deadline: float) -> None:
    """Wait until the part answers.

    Raises:
        JobError: one of its processes ended, or time is up.
    """
    told = began = time.monotonic()
    while not part.ready(place):
        names = _names(part, place)
        dead = [name for name in names if name not in _running(part, place)]
        if dead:
            log = process.log_file(place.directory, dead[0])
            raise JobError(f"{dead[0]} ended while starting: {_last_line(log)}; see {log}")
        now = time.monotonic()
        if now > deadline:
            log = process.log_file(place.directory, names[0])
            raise JobError(
                f"{part.name} did not answer at {part.address(place)} in time; see {log}, "
                "or allow more with --timeout"
            )
        if now - told > 5:
            told = now
            _log.info("local: waiting for %s (%.0f s)", part.name, now - began)
        time.sleep(0.1)
    _log.info("local: %s is up at %s", part.name, part.address(place))


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing"


def _status(part: Service, place: Place) -> ServiceStatus:
    pids, names = _running(part, place), _names(part, place)
    if not pids:
        state = "down"
    elif len(pids) < len(names):
        state = "broken"
    else:
        state = "up" if part.ready(place) else "starting"
    return ServiceStatus(
        name=part.name,
        state=state,  # type: ignore[arg-type]
        address=part.address(place) if pids else "",
        pids=pids,
        logs=tuple(str(path) for path in _logs(part, place)),
    )
