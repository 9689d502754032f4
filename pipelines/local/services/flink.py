"""Apache Flink: a JobManager and a TaskManager with two slots."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.local import fetch, process, readiness
from pipelines.local.process import Program
from pipelines.local.service import HOST, Place

__all__ = ["Flink", "worker_command"]

_VERSION = "1.19.3"
_SLOTS = 2
_TASKMANAGER = "flink-taskmanager"
_KEPT = ("flink-dist-", "log4j-", "bash-java-utils")

_MASTER_MEMORY = ("-Xmx320m", "-XX:MaxMetaspaceSize=256m")

# Flink reaches into these on Java 17, as its own scripts allow it to.
_OPENS = tuple(
    f"--add-opens=java.base/{package}=ALL-UNNAMED"
    for package in (
        "java.lang",
        "java.lang.invoke",
        "java.lang.reflect",
        "java.io",
        "java.net",
        "java.nio",
        "java.text",
        "java.time",
        "java.util",
        "java.util.concurrent",
        "java.util.concurrent.atomic",
        "java.util.concurrent.locks",
        "sun.nio.ch",
    )
)

_LOGGING = """rootLogger.level = INFO
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-40c{1} - %m%n
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
"""


class Flink:
    """A session cluster; `flink` (8081) is its REST address."""

    name = "flink"
    needs: tuple[str, ...] = ()

    def fetch(self, place: Place) -> None:
        """Bring Flink's jars, out of the package that PyFlink uses (130 MB)."""
        fetch.java()
        self._home(place)

    def _home(self, place: Place) -> Path:
        return fetch.cached(place.cache, f"flink-{_VERSION}", self._install) / "pyflink"

    def _install(self, folder: Path) -> None:
        requirement = f"apache-flink-libraries=={_VERSION}"
        fetch.wheel(self.name, requirement, folder, keep=lambda path: path.name.startswith(_KEPT))

    def programs(self, place: Place) -> Sequence[Program]:
        """JobManager first: the TaskManager asks for it."""
        home, folder = self._home(place), place.data(self.name)
        conf = folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "config.yaml").write_text(self._settings(place, folder), encoding="utf-8")
        (conf / "log4j.properties").write_text(_LOGGING, encoding="utf-8")
        java, classes = fetch.java(), f"{home}/lib/*"
        common = (
            f"-Dlog4j.configurationFile=file:{conf}/log4j.properties",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            *_OPENS,
            "-cp",
            classes,
        )
        _write_worker(place)
        memory, dynamic = _taskmanager_memory(java, home, conf)
        master = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        worker = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        where, session = ("--configDir", str(conf)), ("--executionMode", "cluster")
        return [
            Program("flink-jobmanager", (java, *_MASTER_MEMORY, *common, master, *where, *session)),
            Program(_TASKMANAGER, (java, *memory, *common, worker, *where, *dynamic)),
        ]

    def _settings(self, place: Place, folder: Path) -> str:
        rest, rpc = place.port("flink", 8081), place.port("flink-rpc")
        for part in ("checkpoints", "savepoints", "tmp", "web"):
            (folder / part).mkdir(exist_ok=True)
        return "\n".join(
            [
                f"jobmanager.rpc.address: {HOST}",
                f"jobmanager.rpc.port: {rpc}",
                f"jobmanager.bind-host: {HOST}",
                f"taskmanager.host: {HOST}",
                f"taskmanager.bind-host: {HOST}",
                f"rest.address: {HOST}",
                f"rest.bind-address: {HOST}",
                f"rest.port: {rest}",
                f"io.tmp.dirs: {folder / 'tmp'}",
                f"web.upload.dir: {folder / 'web'}",
                f"taskmanager.numberOfTaskSlots: {_SLOTS}",
                "taskmanager.memory.process.size: 1900m",
                # State that a worker reads passes through direct buffers in one piece.
                "taskmanager.memory.task.off-heap.size: 512m",
                "taskmanager.memory.managed.size: 128m",
                "taskmanager.memory.network.min: 64m",
                "taskmanager.memory.network.max: 64m",
                "taskmanager.memory.jvm-metaspace.size: 256m",
                "state.backend.type: hashmap",
                # JobManager's own storage ends at 5 MB a state.
                f"state.checkpoints.dir: file://{folder / 'checkpoints'}",
                f"state.savepoints.dir: file://{folder / 'savepoints'}",
                "state.checkpoints.num-retained: 2",
                # With checkpoints the default restarts for ever, and the job looks healthy. A job
                # of months survives any number of failures, one that cannot run ends in minutes.
                "restart-strategy.type: failure-rate",
                "restart-strategy.failure-rate.max-failures-per-interval: 30",
                "restart-strategy.failure-rate.failure-rate-interval: 5 min",
                "restart-strategy.failure-rate.delay: 1 s",
                "heartbeat.interval: 2000",
                "heartbeat.timeout: 10000",
                "",
            ]
        )

    def ready(self, place: Place) -> bool:
        """Has the TaskManager that runs now offered its slots?"""
        # One that was killed stays in the list until its heartbeat is missed.
        since = process.started_at(place.directory, _TASKMANAGER)
        known = readiness.get_json(place.port("flink"), "/taskmanagers") or {}
        return any(
            worker["slotsNumber"] == _SLOTS and worker["timeSinceLastHeartbeat"] / 1000 > since
            for worker in known.get("taskmanagers", ())
        )

    def address(self, place: Place) -> str:
        """`host:port` of the REST interface, which is what `--flink_master` wants."""
        port = place.ports().get("flink")
        return f"{HOST}:{port}" if port else ""


def worker_command(place: Place) -> Path:
    """What starts a Python worker: the command of `--environment_type=PROCESS`."""
    return place.directory / "flink" / "worker.sh"


def _write_worker(place: Place) -> None:
    boot = Path(__file__).parent.with_name("worker_boot.py")
    log = process.log_file(place.directory, "flink-worker")
    log.parent.mkdir(parents=True, exist_ok=True)
    # -P: the folder of worker_boot.py must not be on the path, its neighbours have famous names.
    run = f"exec {shlex.quote(sys.executable)} -P {shlex.quote(str(boot))}"
    script = f'#!/bin/sh\n{run} "$@" >>{shlex.quote(str(log))} 2>&1\n'
    command = worker_command(place)
    command.write_text(script, encoding="utf-8")
    command.chmod(0o755)


def _taskmanager_memory(java: str, home: Path, conf: Path) -> tuple[list[str], list[str]]:
    """(JVM flags, arguments) that Flink itself derives from the configuration.

    Raises:
        RequestError: Flink does not accept the configuration.
    """
    tool = "org.apache.flink.runtime.util.bash.BashJavaUtils"
    classes = f"{home}/bin/bash-java-utils.jar:{home}/lib/*"
    done = subprocess.run(
        [java, "-cp", classes, tool, "GET_TM_RESOURCE_PARAMS", "--configDir", str(conf)],
        capture_output=True,
        text=True,
        check=False,
    )
    marker = "BASH_JAVA_UTILS_EXEC_RESULT:"
    lines = [
        line.removeprefix(marker) for line in done.stdout.splitlines() if line.startswith(marker)
    ]
    if len(lines) != 2:
        raise RequestError(
            f"flink: {conf}/config.yaml was refused: {done.stderr.strip()[-300:]}; "
            "give another --dir"
        )
    return lines[0].split(), lines[1].split()
