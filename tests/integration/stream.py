"""Streams in a real Kafka, and the job on them in a process of its own.

As a program: `stream.py EVENTS STORE [--sink=URI] [--flush-s=60] BEAM…` runs the job with a
trainer that only counts, and prints its summary.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow as pa
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from models.store.embeddings import read_embeddings
from models.store.store import Store
from pipelines.config import JobConfig
from pipelines.publish import SinkError, open_sink
from pipelines.schema import EVENTS
from tests.support import oracle
from tests.support.fake_trainer import FakeTrainer
from tests.support.stream_end import closing_events

REPOSITORY = Path(__file__).parents[2]
START_MS = 1_767_225_600_000  # 2026-01-01
KINDS = ("impression", "view", "click", "like", "purchase", "rating", "cart")
JOB = {
    "features": {"window": "fixed:10s", "shards": 4, "history": 10, "dedupe_horizon": "1h"},
    "batch": {"min_rows": 2_000, "max_rows": 4_000, "max_wait": "2m"},
    "store": {"checkpoint_every": 5, "snapshot_every": 5},
}


class SlowTrainer(FakeTrainer):
    """A step takes a while, so that a kill can hit the middle of one; see `pace`."""

    def step(self, number, rows, *, predictions=False):
        local = Path(os.environ.get("RILLET_LOCAL", tempfile.gettempdir()))
        marker, slow = stepping(local), pace(local)
        marker.write_text(str(os.getpid()))
        while slow.exists() and number > float(slow.read_text().split()[1]):
            time.sleep(0.05)
        time.sleep(float(slow.read_text().split()[0]) if slow.exists() else 0.05)
        made = super().step(number, rows, predictions=predictions)
        marker.unlink(missing_ok=True)
        return made


def stepping(directory: Path) -> Path:
    """The file that is there during a step; holds the process id."""
    return directory / "stepping"


def pace(directory: Path) -> Path:
    """The file that may say how many seconds a step takes, and after which one to wait."""
    return directory / "pace"


def payloads(n: int, *, seed: int = 0, disorder_ms: int = 4_000) -> list[bytes]:
    """Some events a second of event time apart by 10 ms, out of order, 2 % of them twice."""
    dice = random.Random(seed)
    encode = msgspec.json.Encoder().encode
    told = []
    for i in range(n):
        kind = dice.choice(KINDS)
        event = {
            "event_id": f"e{i}",
            "user_id": f"u{min(dice.randrange(2_000), dice.randrange(2_000))}",
            "item_id": f"i{min(dice.randrange(500), dice.randrange(500))}",
            "event_type": kind,
            "event_time": START_MS + i * 10 - dice.randrange(disorder_ms),
        }
        if kind in {"purchase", "rating"}:
            event["value"] = dice.randrange(1, 6)
        told.append(encode(event))
        if dice.random() < 0.02:
            told.append(told[-1])
    return told


def closing(messages: list[bytes], partitions: int) -> list[bytes]:
    """One event for each partition, an hour after all others: it has all before it told."""
    newest = max(msgspec.json.decode(one)["event_time"] for one in messages)
    events = closing_events(newest, partitions, 3_600_000)
    return [msgspec.json.encode(event) for event in events]


def topic(brokers: str, partitions: int) -> str:
    """A fresh topic; its name."""
    name = f"stream-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": brokers})
    admin.create_topics([NewTopic(name, partitions, 1)])[name].result(30)
    return name


def produce(brokers: str, name: str, messages: list[bytes], partitions: int) -> None:
    """Deal the messages out to the partitions, in their order."""
    settings = {"bootstrap.servers": brokers, "queue.buffering.max.messages": 1_000_000}
    producer = Producer(settings)
    for i, message in enumerate(messages):
        producer.produce(name, message, partition=i % partitions)
        if i % 10_000 == 0:
            producer.poll(0)
    assert producer.flush(120) == 0


def launch(uri: str, store: Path, *beam: str, log: Path) -> subprocess.Popen:
    """The job on a stream, in the background; its output goes to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__)), uri, str(store), *beam],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
        )


def finish(job: subprocess.Popen, log: Path, timeout_s: float) -> dict:
    """Wait for its end; its summary."""
    try:
        status = job.wait(timeout_s)
    except subprocess.TimeoutExpired:
        job.kill()
        job.wait()
        raise AssertionError(f"the job did not end in {timeout_s} s:\n{log.read_text()}") from None
    assert status == 0, log.read_text()
    return json.loads(log.read_text().strip().splitlines()[-1])


def lineage(store: Path) -> tuple[list[str], str]:
    """(Hash of every micro-batch, digest of the newest version) of a store."""
    found = Store(store)
    hashes = [found.read_batch(n)[1] for n in range(1, found.last_batch() + 1)]
    versions = found.versions()
    assert versions == list(range(1, len(hashes) + 1)), "a batch was skipped"
    return hashes, found.manifest(versions[-1]).digest


def trained(store: Path) -> list[int]:
    """The batches that the model of the newest checkpoint was trained on, in order."""
    found = Store(store)
    newest = found.checkpoints()[-1]
    return json.loads((found.checkpoint_path(newest) / "fake.json").read_text())["stepped"]


def assert_rows(store: Path, messages: list[bytes]) -> None:
    """The rows of the training log are the oracle's."""
    found = Store(store)
    config = JobConfig.model_validate(JOB).features
    blank = dict.fromkeys(EVENTS.names)
    told: dict[str, list[dict]] = {}
    for event in map(msgspec.json.decode, messages):
        told.setdefault(event["user_id"], []).append(blank | event)
    logged = pa.Table.from_batches(
        [found.read_batch(n)[0] for n in range(1, found.last_batch() + 1)]
    )
    order = [(name, "ascending") for name in ("user_id", "item_id", "window_start", "revision")]
    got = iter(_users(logged.sort_by(order)))
    for user in sorted(told):
        wanted = oracle.feature_rows(told[user], config)
        rows = next(got)
        for row in (*rows, *wanted):
            row["confidence"] = round(row["confidence"], 9)
        assert rows == wanted, f"the rows of {user} are not the oracle's"
    assert next(got, None) is None


def _users(rows: pa.Table) -> Iterator[list[dict]]:
    """The rows of one user after another, as the oracle has them; sorted ones."""
    names = rows["user_id"].to_pylist()
    first = 0
    for i in range(1, len(names) + 1):
        if i == len(names) or names[i] != names[first]:
            yield oracle.from_batch(rows.slice(first, i - first))
            first = i


def served(sink: str) -> int:
    """The version that a sink serves; -1 while it is away."""
    opened = open_sink(sink)
    try:
        held = opened.held()
    except SinkError:
        return -1
    finally:
        opened.close()
    return held.served.version if held.served else 0


def assert_served(sink: str, store: Path) -> None:
    """The sink serves what the store does, to the bit, versions and times too."""
    version, wanted = read_embeddings(Store(store))
    opened = open_sink(sink)
    for entity in ("item", "user"):
        rows = [row for row in wanted.to_pylist() if row["entity"] == entity]
        told, got = opened.read(entity, [row["id"] for row in rows])
        assert told == version
        assert sorted(got.to_pylist(), key=lambda row: row["id"]) == rows
    opened.close()


def main() -> None:
    from pipelines.job import RunRequest, run_job

    events, store, *more = sys.argv[1:]
    sinks = [arg.removeprefix("--sink=") for arg in more if arg.startswith("--sink=")]
    flush_s = [float(arg.removeprefix("--flush-s=")) for arg in more if "--flush-s=" in arg]
    beam = [arg for arg in more if not arg.startswith(("--sink=", "--flush-s="))]
    request = RunRequest(
        events=(events,),
        items=None,
        users=None,
        store=Path(store),
        config=JobConfig.model_validate(JOB),
        predictions=None,
        beam_args=tuple(beam),
        now_ms=time.time_ns() // 1_000_000,
        trainer="tests.integration.stream:SlowTrainer",
        sinks=tuple(sinks),
        flush_s=flush_s[0] if flush_s else 60.0,
    )
    print(json.dumps(run_job(request)))


if __name__ == "__main__":
    main()
