"""Processes that outlive the command that started them, and are known again.

A process id alone is not enough to end a process: it may have been given to
somebody else since. The file beside it therefore holds the start time too.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Program", "alive", "kill", "pid_of", "start", "started_at", "stop"]


@dataclass(frozen=True)
class Program:
    """A command to be started; `name` is unique within the directory.

    Attributes:
        name: names the log and the pid file.
        argv: the command.
        env: added to the environment.
        uid: user to run as; None for one's own (PostgreSQL refuses root).
        end: the signal that asks it to end.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = None
    end: signal.Signals = signal.SIGTERM


def log_file(directory: Path, name: str) -> Path:
    """Where a program's output goes."""
    return directory / "logs" / f"{name}.log"


def start(directory: Path, program: Program) -> int:
    """Start in the background, with output to its log; returns the process id.

    A program of that name that still runs is left as it is.
    """
    running = pid_of(directory, program.name)
    if running is not None:
        return running
    log = log_file(directory, program.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        child = subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **program.env},
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
            user=program.uid,
            group=program.uid,
            extra_groups=None if program.uid is None else [],
        )
    child.returncode = 0  # it outlives this process on purpose: nobody waits for it
    _write(_pid_file(directory, program.name), child.pid, program.end)
    return child.pid


def _pid_file(directory: Path, name: str) -> Path:
    return directory / "run" / f"{name}.pid"


def _write(path: Path, pid: int, end: signal.Signals) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".tmp")
    draft.write_text(
        json.dumps({"pid": pid, "started": _started(pid), "end": end}), encoding="utf-8"
    )
    draft.replace(path)


def _started(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"


def pid_of(directory: Path, name: str) -> int | None:
    """Process id of a program that this directory started and that still runs."""
    try:
        note = json.loads(_pid_file(directory, name).read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    pid = int(note["pid"])
    with suppress(ChildProcessError):  # our own children stay zombies until waited for
        os.waitpid(pid, os.WNOHANG)
    started = _started(pid)
    return pid if started is not None and started == note["started"] else None


def started_at(directory: Path, name: str) -> float:
    """When a program was last started, in seconds since 1970; 0 for never."""
    try:
        return _pid_file(directory, name).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def alive(directory: Path) -> dict[str, int]:
    """Name → process id of everything that this directory started and that runs."""
    names = sorted(path.stem for path in (directory / "run").glob("*.pid"))
    found = {name: pid_of(directory, name) for name in names}
    return {name: pid for name, pid in found.items() if pid is not None}


def stop(directory: Path, name: str, timeout_s: float = 20.0) -> bool:
    """Ask a program to end, and make it after `timeout_s`; False when it did not run."""
    pid = pid_of(directory, name)
    if pid is None:
        return False
    note = json.loads(_pid_file(directory, name).read_text(encoding="utf-8"))
    os.kill(pid, note.get("end", signal.SIGTERM))
    deadline = time.monotonic() + timeout_s
    while pid_of(directory, name) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    # What it started stays in its process group: a worker must not outlive it.
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    while pid_of(directory, name) is not None:
        time.sleep(0.01)
    _pid_file(directory, name).unlink(missing_ok=True)
    return True


def kill(directory: Path, name: str) -> bool:
    """`kill -9` this one program, as a crash would; False when it did not run."""
    pid = pid_of(directory, name)
    if pid is None:
        return False
    os.kill(pid, signal.SIGKILL)
    while pid_of(directory, name) is not None:
        time.sleep(0.01)
    return True
