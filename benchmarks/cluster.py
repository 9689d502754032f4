"""Services, topics and jobs for benchmarks of the live path, and what their processes use."""

import json
import os
import random
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipelines.local import PARTS, process, up

KINDS = ("impression", "view", "click", "like", "purchase")
Event = dict[str, Any]


def settled(rate: float, dice: random.Random) -> Iterator[tuple[int, Event]]:
    """(Offset in ms, event without its time), for ever: 20,000 users and 2,000 items."""

    def often(n: int) -> int:
        return min(dice.randrange(n), dice.randrange(n))

    return _events(rate, dice, lambda _: (often(20_000), often(2_000)))


def passing(rate: float, dice: random.Random) -> Iterator[tuple[int, Event]]:
    """The same, but nobody stays: a user has some 20 events, an item some 100, then never again."""

    def near(n: int, events: int) -> int:
        return (n + dice.randrange(200 * events)) // events

    return _events(rate, dice, lambda n: (near(n, 20), near(n, 100)))


def _events(
    rate: float, dice: random.Random, pair: Callable[[int], tuple[int, int]]
) -> Iterator[tuple[int, Event]]:
    """`pair`: number of an event → numbers of its user and its item."""
    for number in count():
        user, item = pair(number)
        yield (
            int(number * 1_000 / rate),
            {
                "event_id": f"e{number}",
                "user_id": f"u{user}",
                "item_id": f"i{item}",
                "event_type": dice.choice(KINDS),
            },
        )


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

    def backlog(self, name: str, events: list[Event], partitions: int = 2) -> str:
        """A topic with these events."""
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
