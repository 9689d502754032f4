"""What the live path costs and how fresh it is: Kafka, Flink, Python workers, one machine.

    .venv/bin/python benchmarks/live.py [features] [latency] [catchup] [--seconds 600]

Starts its own services on free ports. `features`: events per CPU-second of feature rows
from Kafka on Flink, parallelism 1 (compare with `pyflink` in benchmarks/features.py, whose
events per CPU-second `--pyflink` takes for the ratio). `latency`: the whole loop with the
real trainer at `--rate` events a second and 2 s windows: event time → version on record, over
all rows, for each minute. `catchup`: a backlog of a million events, and the memory of the
workers while it is worked off. CPU is user + system of TaskManager and Python workers.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec
import numpy as np
import psutil
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from models.store import Store
from pipelines.config import JobConfig
from pipelines.local import PARTS, down, status, up

HERE = Path(__file__).parent
KINDS = ("impression", "view", "click", "like", "purchase")
JOB = {
    "features": {"window": "fixed:2s", "shards": 2},
    "batch": {"min_rows": 1_000, "max_wait": "2s"},
    "store": {"checkpoint_every": 50, "snapshot_every": 50},
}


def events(rate: float, dice: random.Random, begin: int = 0) -> Iterator[tuple[int, dict]]:
    """(Offset in ms of event time, event without its time), for ever."""
    number = begin
    while True:
        yield (
            int(number * 1_000 / rate),
            {
                "event_id": f"e{number}",
                "user_id": f"u{min(dice.randrange(20_000), dice.randrange(20_000))}",
                "item_id": f"i{min(dice.randrange(2_000), dice.randrange(2_000))}",
                "event_type": dice.choice(KINDS),
            },
        )
        number += 1


class Bench:
    """Services, topics and what the processes use."""

    def __init__(self, work: Path) -> None:
        self.work, self.directory = work, work / "local"
        parts = up(self.directory, only=["kafka", "flink", "beam"], ports=dict.fromkeys(PARTS, 0))
        self.brokers = next(part.address for part in parts if part.name == "kafka")
        self.encode = msgspec.json.Encoder().encode

    def topic(self, name: str, partitions: int) -> str:
        """A fresh topic's URI."""
        admin = AdminClient({"bootstrap.servers": self.brokers})
        admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
        return f"kafka://{self.brokers}/{name}"

    def producer(self) -> Producer:
        """One that gathers for 5 ms."""
        settings = {"bootstrap.servers": self.brokers, "linger.ms": 5}
        return Producer({**settings, "queue.buffering.max.messages": 1_000_000})

    def backlog(self, name: str, count: int, partitions: int = 2) -> str:
        """A topic with so many events, 1,000 to a second of event time, out of order by 4 s."""
        uri, producer, dice = self.topic(name, partitions), self.producer(), random.Random(7)
        begin = int(time.time() * 1_000) - count - 60_000
        for number, (offset, event) in enumerate(events(1_000, dice)):
            if number == count:
                break
            event["event_time"] = begin + offset - dice.randrange(4_000)
            producer.produce(name, self.encode(event), partition=number % partitions)
            if number % 5_000 == 0:
                producer.poll(0)
        producer.flush(120)
        return uri

    def processes(self) -> list[psutil.Process]:
        """The TaskManager and its Python workers."""
        pid = {p.name: p for p in status(self.directory)}["flink"].pids["flink-taskmanager"]
        manager = psutil.Process(pid)
        return [manager, *manager.children(recursive=True)]

    def used(self) -> tuple[float, float]:
        """(CPU seconds so far, resident MB) of those processes."""
        cpu, memory = 0.0, 0.0
        for process in self.processes():
            try:
                times = process.cpu_times()
                cpu += times.user + times.system
                memory += process.memory_info().rss / 1e6
            except psutil.NoSuchProcess:
                continue
        return cpu, memory


def features(bench: Bench, count: int, pyflink: float | None) -> dict[str, Any]:
    """Kafka → deduplicated features on Flink, nothing after."""
    from pipelines.live.launch import live_options
    from pipelines.live.stages import DedupeLive, FeaturizeLive
    from pipelines.read.kafka import ReadKafka
    from pipelines.read.kafka_uri import KafkaSource

    uri = bench.backlog("features", count)
    source = KafkaSource.parse(f"{uri}?until=now")
    config = JobConfig.model_validate({"features": {"window": "fixed:5m", "shards": 4}}).features
    options = live_options(["--runner=FlinkRunner", "--parallelism=1"], source)
    before, begun = bench.used()[0], time.monotonic()
    seen = Sampler(bench)
    with beam.Pipeline(options=options) as pipeline:
        read = pipeline | ReadKafka(source=source)
        settled = read.valid | DedupeLive(config=config)
        _ = settled.unique | FeaturizeLive(config=config) | beam.Map(len_of)
    cpu = seen.stop() - before
    wall = time.monotonic() - begun
    told = {"events": count, "cpu_s": cpu, "events_per_cpu_s": count / cpu, "wall_s": wall}
    if pyflink:
        told["times_pyflink"] = told["events_per_cpu_s"] / pyflink
    return told


def len_of(keyed: tuple[int, bytes]) -> int:
    """Stands for a sink."""
    return len(keyed[1])


class Sampler:
    """CPU and memory of the processes, also of those that end before the job does."""

    def __init__(self, bench: Bench, every_s: float = 1.0) -> None:
        self.memory: list[float] = []
        self._cpu: dict[int, float] = {}
        self._bench, self._every_s = bench, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            total = 0.0
            for process in self._bench.processes():
                try:
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    total += process.memory_info().rss / 1e6
                except psutil.NoSuchProcess:
                    continue
            self.memory.append(total)

    def stop(self) -> float:
        """CPU seconds of all processes that were ever seen."""
        self._ended.set()
        self._thread.join()
        return sum(self._cpu.values())


def job(bench: Bench, uri: str, store: Path, *more: str) -> subprocess.Popen:
    """`rillet run` on a stream, in the background."""
    config = store.with_suffix(".toml")
    config.write_text(toml(JOB))
    command = [sys.executable, "-m", "pipelines", "run", "--events", uri, "--store", str(store)]
    return subprocess.Popen(
        [*command, "--config", str(config), "--runner=FlinkRunner", "--parallelism=1", *more],
        stdout=store.with_suffix(".out").open("w"),
        stderr=store.with_suffix(".err").open("w"),
    )


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """The job file."""
    lines = []
    for name, fields in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
    return "\n".join(lines) + "\n"


def latency(bench: Bench, rate: float, seconds: float) -> dict[str, Any]:
    """Events as they would happen; how old each row was when its version was on record."""
    uri = bench.topic("latency", 1)
    store = bench.work / "latency"
    running = job(bench, f"{uri}?disorder=200ms&idle=5s", store)
    producer, dice, begin = bench.producer(), random.Random(3), time.time()
    try:
        for offset, event in events(rate, dice):
            now = time.time()
            if now - begin > seconds or running.poll() is not None:
                break
            if offset / 1_000 > now - begin:
                producer.poll(0)
                time.sleep(offset / 1_000 - (now - begin))
            event["event_time"] = int(time.time() * 1_000)
            producer.produce("latency", bench.encode(event), partition=0)
        producer.flush(30)
        time.sleep(10)
    finally:
        running.terminate()
        running.wait()
    return ages(Store(store), begin)


def ages(store: Store, begin: float) -> dict[str, Any]:
    """p50 and p95 of event time → version on record, in seconds; and minute by minute."""
    minutes: dict[int, list[np.ndarray]] = {}
    for number in store.versions():
        manifest = store.manifest(number)
        if manifest.published_at is None:
            continue
        rows, _ = store.read_batch(number)
        published = manifest.published_at.timestamp() * 1_000
        age = (published - rows.column("anchor_time").view("int64").to_numpy()) / 1_000
        minutes.setdefault(int((published / 1_000 - begin) // 60), []).append(age)
    flat = {m: np.concatenate(parts) for m, parts in sorted(minutes.items())}
    warm = np.concatenate([age for m, age in flat.items() if m >= 1] or list(flat.values()))
    return {
        "rows": len(warm),
        "p50_s": float(np.percentile(warm, 50)),
        "p95_s": float(np.percentile(warm, 95)),
        "by_minute_p95_s": {m: float(np.percentile(age, 95)) for m, age in flat.items()},
    }


def catchup(bench: Bench, count: int) -> dict[str, Any]:
    """A backlog, worked off with the real trainer; memory by fifths of the way."""
    uri = bench.backlog("catchup", count)
    begun, seen = time.monotonic(), Sampler(bench)
    running = job(bench, f"{uri}?until=now", bench.work / "catchup")
    if running.wait():
        raise SystemExit((bench.work / "catchup.err").read_text())
    cpu, wall = seen.stop(), time.monotonic() - begun
    fifths = np.array_split(np.array(seen.memory), 5)
    return {
        "events": count,
        "wall_s": wall,
        "events_per_s": count / wall,
        "cpu_s": cpu,
        "peak_mb_by_fifth": [float(part.max(initial=0)) for part in fifths],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["features", "latency", "catchup"])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=1_000)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--pyflink", type=float, help="events per CPU-second of PyFlink")
    given = parser.parse_args()
    os.environ["PYTHONPATH"] = str(HERE.parent)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="rillet-bench-") as folder:
        work = Path(folder)
        os.environ["RILLET_LOCAL"] = str(work / "local")
        runs: dict[str, Callable[[Bench], dict[str, Any]]] = {
            "features": lambda bench: features(bench, given.events, given.pyflink),
            "latency": lambda bench: latency(bench, given.rate, given.seconds),
            "catchup": lambda bench: catchup(bench, given.events),
        }
        try:
            bench = Bench(work)
            for name in given.what:
                print(name, json.dumps(runs[name](bench)), flush=True)
        finally:
            down(work / "local")


if __name__ == "__main__":
    main()
