"""Services, topics and jobs for benchmarks of the live path, and what their processes use."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from live_events import Event

from pipelines.local import PARTS, process, up

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))  # what tests and benchmarks share is in tests/support
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rillet"
JOB = {
    "features": {"window": "fixed:2s", "shards": 2},
    "batch": {"min_rows": 1_000, "max_wait": "2s"},
    "store": {"checkpoint_every": 50, "snapshot_every": 50},
}


class Cluster:
    """Kafka, Flink, Beam's job server and Redis, on free ports, in a folder of their own."""

    def __init__(self, work: Path) -> None:
        self.work, self.directory = work, work / "local"
        names = ["kafka", "flink", "beam", "redis"]
        parts = up(self.directory, only=names, ports=dict.fromkeys(PARTS, 0), timeout_s=300)
        self.address = {part.name: part.address for part in parts}
        self.encode = msgspec.json.Encoder().encode

    def topic(self, name: str, partitions: int) -> str:
        """A fresh topic's URI."""
        brokers = self.address["kafka"]
        admin = AdminClient({"bootstrap.servers": brokers})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(60)
        return f"kafka://{brokers}/{name}"

    def producer(self) -> Producer:
        """One that gathers for 5 ms."""
        settings = {"bootstrap.servers": self.address["kafka"], "linger.ms": 5}
        return Producer({**settings, "queue.buffering.max.messages": 1_000_000})

    def backlog(
        self, name: str, events: list[Event], partitions: int = 2, *, closed_after_ms: int = 0
    ) -> str:
        """A topic with these events, and with closing ones so long after them, if any."""
        if closed_after_ms:
            from tests.support.stream_end import closing_events

            newest = max(event["event_time"] for event in events)
            events = [*events, *closing_events(newest, partitions, closed_after_ms)]
        uri, producer = self.topic(name, partitions), self.producer()
        for number, event in enumerate(events):
            producer.produce(name, self.encode(event), partition=number % partitions)
            if number % 5_000 == 0:
                producer.poll(0)
        if producer.flush(300):
            raise SystemExit(f"Kafka did not take all of {name}")
        return uri

    def processes(self) -> list[psutil.Process]:
        """The TaskManager and its Python workers."""
        pid = process.pid_of(self.directory, "flink-taskmanager")
        if pid is None:
            raise SystemExit(f"the TaskManager has ended; see {self.directory}/logs")
        manager = psutil.Process(pid)
        return [manager, *manager.children(recursive=True)]

    def ask(self, path: str) -> Any:
        """What Flink's REST address says."""
        with urllib.request.urlopen(f"http://{self.address['flink']}{path}", timeout=30) as said:
            return json.load(said)

    def checkpoint_mb(self) -> float | None:
        """Size of the running job's newest checkpoint."""
        for job in self.ask("/jobs")["jobs"]:
            if job["status"] == "RUNNING":
                done = self.ask(f"/jobs/{job['id']}/checkpoints")["latest"]["completed"]
                return done["state_size"] / 1e6 if done else None
        return None

    def run(self, uri: str, store: Path, config: dict[str, Any], *more: str) -> subprocess.Popen:
        """`rillet run` on a stream, in the background, parallelism 1."""
        job = store.with_suffix(".toml")
        job.write_text(toml(config))
        command = [sys.executable, "-m", "pipelines", "run", "--events", uri, "--store", str(store)]
        return subprocess.Popen(
            [*command, "--config", str(job), "--runner=FlinkRunner", "--parallelism=1", *more],
            stdout=store.with_suffix(".out").open("w"),
            stderr=store.with_suffix(".err").open("w"),
        )


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """A job file."""
    lines = []
    for name, fields in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"


class Sampler:
    """CPU and memory of a cluster's processes, also of those that end before it is stopped.

    Args:
        cluster: whose.
        every_s: between two samples.
        also: what else to note with each sample.
    """

    def __init__(
        self,
        cluster: Cluster,
        every_s: float = 1.0,
        also: Callable[[], dict[str, float | None]] = dict,
    ) -> None:
        self.samples: list[dict[str, float | None]] = []
        self._cluster, self._every_s, self._also = cluster, every_s, also
        self._cpu: dict[tuple[int, float], float] = {}
        self._look()
        self._before = sum(self._cpu.values())
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            java, python = self._look()
            told = {"at_s": time.monotonic() - self._began, "java_mb": java, "python_mb": python}
            with suppress(OSError):  # a file or a job has just gone
                self.samples.append({**told, **self._also()})

    def _look(self) -> tuple[float, float]:
        """Resident MB of the TaskManager, and of the Python workers."""
        manager, *rest = self._cluster.processes()
        return self._of(manager), sum(map(self._of, rest))

    def _of(self, one: psutil.Process) -> float:
        try:
            times = one.cpu_times()
            self._cpu[one.pid, one.create_time()] = times.user + times.system
            return one.memory_info().rss / 1e6
        except psutil.NoSuchProcess:
            return 0.0

    def stop(self) -> float:
        """CPU seconds since the start, user and system, of all processes that were ever seen."""
        self._look()
        self._ended.set()
        self._thread.join()
        return sum(self._cpu.values()) - self._before

    def parts(self, name: str, number: int) -> list[float]:
        """The largest sample of each of `number` equal parts of the time since version 1."""
        values = [sample[name] for sample in self.samples if sample.get("versions")]
        size = max(len(values) / number, 1)
        cut = [values[int(i * size) : int((i + 1) * size)] for i in range(number)]
        return [max((v for v in part if v is not None), default=0.0) for part in cut]


def machine() -> dict[str, Any]:
    """What it runs on, and how busy that is."""
    load = [round(value, 2) for value in os.getloadavg()]
    return {"cores": os.cpu_count(), "python": sys.version.split()[0], "load": load}


def cost(count: int, cpu_s: float, wall_s: float) -> dict[str, Any]:
    """Figures of so many events."""
    return {
        "events": count,
        "cpu_s": round(cpu_s, 1),
        "events_per_cpu_s": round(count / cpu_s),
        "wall_s": round(wall_s, 1),
        "events_per_s": round(count / wall_s),
    }
