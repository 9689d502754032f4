"""Kill what a live job stands on, at random moments, and see that nothing came of it.

`python -m tests.integration.chaos [--kills 20] [--events 300000] [--seed 0]` starts its
own services, and prints what was killed when and how long recovery took.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from models.store import Store
from pipelines.local import PARTS, down, process, up
from tests.integration import stream

VICTIMS = ("taskmanager", "worker", "trainer", "broker")


@dataclass(frozen=True)
class Kill:
    """One kill: how many versions there were, and how long until there was another one."""

    victim: str
    versions: int
    recovery_s: float

    def __str__(self) -> str:
        return f"{self.victim:<12} at version {self.versions:>4}, next one {self.recovery_s:5.1f} s"


class Chaos:
    """Kills parts of a running job."""

    def __init__(self, directory: Path, store: Path) -> None:
        self.directory, self.store = directory, store

    def kill(self, victim: str) -> bool:
        """`kill -9`, and start again what nobody else starts; False when it is not there."""
        if victim in {"taskmanager", "broker"}:
            part = "flink" if victim == "taskmanager" else "kafka"
            name = "flink-taskmanager" if victim == "taskmanager" else "kafka"
            killed = process.kill(self.directory, name)
            up(self.directory, only=[part], timeout_s=120)
            return killed
        pids = [self._trainer()] if victim == "trainer" else list(workers())
        pids = [pid for pid in pids if pid is not None]
        if not pids:
            return False
        try:
            os.kill(random.choice(pids), 9)
        except ProcessLookupError:
            return False
        return True

    def _trainer(self) -> int | None:
        """Who holds the store."""
        try:
            return int((self.store / ".rillet-writer.pid").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def versions(self) -> int:
        """How many there are."""
        return len(Store(self.store).versions())


def workers() -> Iterator[int]:
    """Process ids of Beam's Python workers that a TaskManager of ours started."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"pipelines/local/boot.py" in path.read_bytes():
                yield int(path.parent.name)
        except OSError:
            continue


def wait_for(what: Callable[[], bool], running: Callable[[], bool], limit_s: float) -> float:
    """Seconds until it was so, or the job had ended."""
    began = time.monotonic()
    while running() and not what():
        if time.monotonic() - began > limit_s:
            raise AssertionError(f"nothing happened for {limit_s} s")
        time.sleep(0.05)
    return time.monotonic() - began


def torment(
    chaos: Chaos, victims: list[str], moments: list[int], running: Callable[[], bool]
) -> list[Kill]:
    """Kill each victim once the store has so many versions; waits for the recovery."""
    told = []
    for victim, moment in zip(victims, moments, strict=True):
        wait_for(lambda at=moment: chaos.versions() >= at, running, 180)
        if not running():
            break
        before, began = chaos.versions(), time.monotonic()
        if not chaos.kill(victim):
            continue
        wait_for(lambda n=before: chaos.versions() > n, running, 180)
        kill = Kill(victim, before, time.monotonic() - began)
        print(kill, flush=True)
        told.append(kill)
    return told


def ordeal(
    directory: Path, brokers: str, work: Path, *, events: int, victims: list[str], seed: int
) -> list[Kill]:
    """A stream with kills against the same stream undisturbed: asserts that they are equal."""
    name = stream.topic(brokers, 2)
    stream.produce(brokers, name, stream.payloads(events, seed=seed), 2)
    uri = f"kafka://{brokers}/{name}?until=now"
    calm, log = work / "calm", work / "calm.log"
    wanted = stream.finish(stream.launch(uri, calm, log=log), log, 300)
    print(f"undisturbed: {wanted['versions']} versions, {wanted['rows']} rows", flush=True)
    dice = random.Random(seed)
    last = max(wanted["versions"] - 3, len(victims))
    moments = sorted(dice.sample(range(1, last), len(victims)))
    wild, log = work / "wild", work / "wild.log"
    # Small reads: there is a checkpoint every few thousand events, and time to kill.
    job = stream.launch(
        f"{uri}&batch=4000&stay=0",
        wild,
        "--runner=FlinkRunner",
        "--parallelism=2",
        "--trainer_min_ram=1GB",
        log=log,
    )
    kills = torment(Chaos(directory, wild), victims, moments, lambda: job.poll() is None)
    got = stream.finish(job, log, 600)
    assert stream.lineage(wild) == stream.lineage(calm), "the lineages differ"
    steps = stream.trained(wild)
    assert steps == list(range(1, len(steps) + 1)), f"trained twice or skipped: {steps}"
    assert got["digest"] == wanted["digest"]
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    dice = random.Random(given.seed)
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(given.kills)]
    dice.shuffle(victims)
    with tempfile.TemporaryDirectory(prefix="rillet-chaos-") as folder:
        directory = Path(folder) / "local"
        os.environ["RILLET_LOCAL"] = str(directory)
        os.environ["PYTHONPATH"] = str(stream.REPOSITORY)
        ports = dict.fromkeys(PARTS, 0)
        try:
            parts = up(directory, only=["kafka", "flink", "beam"], ports=ports)
            brokers = next(part.address for part in parts if part.name == "kafka")
            kills = ordeal(
                directory,
                brokers,
                Path(folder),
                events=given.events,
                victims=victims,
                seed=given.seed,
            )
        finally:
            down(directory)
    slowest = max((kill.recovery_s for kill in kills), default=0.0)
    print(f"{len(kills)} kills, same lineage, slowest recovery {slowest:.1f} s")
    sys.exit(len(kills) < given.kills)


if __name__ == "__main__":
    main()
