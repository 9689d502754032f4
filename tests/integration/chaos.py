"""Kill what a live job stands on, at random moments, and see that nothing came of it.

`python -m tests.integration.chaos [--kills 20] [--events 300000] [--seed 0] [--away 60]`
starts its own services, and prints what was killed when and how long recovery took.
"""

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from models.store.store import Store
from pipelines.local import PARTS, down, flink_address, process, stop_with_savepoint, up
from pipelines.publish import catch_up_sinks
from tests.integration import stream

VICTIMS = ("taskmanager", "worker", "trainer", "broker", "sink")
PARTS_OF = {
    "taskmanager": ("flink", "flink-taskmanager"),
    "broker": ("kafka", "kafka"),
    "sink": ("redis", "redis"),
}
"""Victim → the part that starts it again, and its program."""

LIMIT_S = 240.0

READ, READING_S = 2_000, 10.0
"""Events in one read; seconds of reading for each kill, recoveries apart."""

STEP_S = 0.4
"""Of a training step: versions come no faster, so that the kills fall among them."""

AWAY = 3
"""Versions that are made without the sink before it comes back."""

MISSED_S = 8.0
"""After a worker's death, until a further version is let through."""


@dataclass(frozen=True)
class Kill:
    """One kill: when, how many versions there were, and how long until it was made good."""

    victim: str
    at_s: float
    versions: int
    recovery_s: float

    def __str__(self) -> str:
        return (
            f"{self.at_s:7.1f} s  {self.victim:<12} at version {self.versions:>4}, "
            f"recovered in {self.recovery_s:5.1f} s"
        )


class Chaos:
    """Kills parts of a running job.

    Args:
        directory: of the services.
        store: that the job writes to.
        sink: that it publishes to.
        running: whether the job still runs.
        total: versions that there will be in the end.
        seed: of what is left to chance.
        away_s: seconds that a killed sink stays away, at least.
    """

    def __init__(
        self,
        directory: Path,
        store: Path,
        sink: str,
        running: Callable[[], bool],
        *,
        total: int,
        seed: int,
        away_s: float = 0.0,
    ) -> None:
        self.directory, self.store, self.sink = directory, Store(store), sink
        self.running, self._total, self._dice = running, total, random.Random(seed)
        self._began, self._away_s = time.monotonic(), away_s

    def torment(self, victims: list[str], moments: list[int]) -> list[Kill]:
        """Kill each victim once the store has so many versions; waits for the recovery."""
        told = []
        for victim, moment in zip(victims, moments, strict=True):
            self.hold(max(moment, self.versions()) + 1)
            wait_for(lambda at=moment: self.versions() >= at, self.running, LIMIT_S)
            at_s, old = time.monotonic() - self._began, set(self._workers())
            wait_for(lambda who=victim: self._kill(who), self.running, LIMIT_S)
            if not self.running():
                break
            before, began = self.versions(), time.monotonic()
            self._make_good(victim, before, old)
            kill = Kill(victim, at_s, before, time.monotonic() - began)
            print(kill, flush=True)
            told.append(kill)
        self.hold(self._total)
        return told

    def hold(self, last: int) -> None:
        """No version after `last` until told otherwise: no end before it was killed."""
        pace = stream.pace(self.directory)
        draft = pace.with_suffix(".draft")
        draft.write_text(f"{STEP_S} {last}")
        draft.replace(pace)

    def _kill(self, victim: str) -> bool:
        """`kill -9`; False when it is not there just now."""
        if victim in PARTS_OF:
            return process.kill(self.directory, PARTS_OF[victim][1])
        pids = [self._stepping()] if victim == "trainer" else self._workers()
        pids = [pid for pid in pids if pid is not None]
        if not pids:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._dice.choice(pids), signal.SIGKILL)
            return True
        return False

    def _make_good(self, victim: str, before: int, old: set[int]) -> None:
        """Start again what nobody else starts, and wait until things go on.

        Args:
            victim: what was killed.
            before: versions at that time.
            old: process ids of the workers at that time.
        """
        if victim == "sink":  # the job goes on without it
            self.hold(before + AWAY + 1)
            enough, since = min(before + AWAY, self._total), time.monotonic()
            wait_for(lambda: self.versions() >= enough, self.running, LIMIT_S)
            away_s = self._away_s
            wait_for(lambda: time.monotonic() - since >= away_s, self.running, LIMIT_S)
        if victim in PARTS_OF:
            up(self.directory, only=[PARTS_OF[victim][0]], timeout_s=LIMIT_S)
        if victim in {"taskmanager", "worker", "trainer"}:  # what the dead had done is no recovery
            wait_for(self._replaced(old, before), self.running, LIMIT_S)
            before = self.versions()
        self.hold(before + AWAY + 1)
        wait_for(lambda: self.versions() > before, self.running, LIMIT_S)
        wait_for(lambda: stream.served(self.sink) > before, self.running, LIMIT_S)

    def _replaced(self, old: set[int], before: int) -> Callable[[], bool]:
        """Whether there is a worker that is not in `old`, or the job has shown that it needs none.

        A worker that idles is missed by nobody until there is work for it: a further version
        is let through every few seconds.
        """
        began = time.monotonic()

        def replaced() -> bool:
            self.hold(before + 1 + int((time.monotonic() - began) / MISSED_S))
            return not old.issuperset(self._workers()) or self.versions() > before + AWAY

        return replaced

    def _stepping(self) -> int | None:
        """The process that is in the middle of a step."""
        try:
            pid = int(stream.stepping(self.directory).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid in self._workers() else None

    def _workers(self) -> list[int]:
        """Process ids of the TaskManager's Python workers."""
        manager = process.pid_of(self.directory, PARTS_OF["taskmanager"][1])
        if manager is None:
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            below = psutil.Process(manager).children(recursive=True)
            return [one.pid for one in below if b"boot.py" in _command(one.pid)]
        return []

    def versions(self) -> int:
        """How many there are."""
        return len(self.store.versions())


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(what: Callable[[], bool], running: Callable[[], bool], limit_s: float) -> float:
    """Seconds until it was so, or the job had ended."""
    began = time.monotonic()
    while running() and not what():
        if time.monotonic() - began > limit_s:
            raise AssertionError(f"nothing happened for {limit_s} s")
        time.sleep(0.05)
    return time.monotonic() - began


def ordeal(
    directory: Path,
    brokers: str,
    sink: str,
    work: Path,
    *,
    events: int,
    victims: list[str],
    seed: int,
    away_s: float = 0.0,
) -> list[Kill]:
    """A stream with kills against the same stream undisturbed: asserts that they are equal.

    The stream has no end: at its end a runner would work off all that is left without a
    checkpoint. A last event in each partition, an hour later, has all before it told; a run
    up to now tells the two themselves, too, in a last batch.
    """
    name, messages = stream.topic(brokers, 2), stream.payloads(events, seed=seed)
    stream.produce(brokers, name, [*messages, *stream.closing(messages, 2)], 2)
    uri = f"kafka://{brokers}/{name}"
    calm, log = work / "calm", work / "calm.log"
    stream.finish(stream.launch(f"{uri}?until=now", calm, log=log), log, 300)
    hashes, _ = stream.lineage(calm)
    wanted = Store(calm).manifest(len(hashes) - 1)
    print(f"undisturbed: {wanted.version} versions", flush=True)
    dice = random.Random(seed)
    last = max(round(0.8 * wanted.version), len(victims) + 1)
    moments = sorted(dice.sample(range(1, last), len(victims)))
    wild, log = work / "wild", work / "wild.log"
    # Small reads with pauses: there is a checkpoint every few thousand events, and time to kill.
    pause_s = READING_S * len(victims) / (len(messages) / 2 / READ)
    job = stream.launch(
        f"{uri}?idle=1h&batch={READ}&stay=0&defer={round(pause_s * 1_000)}ms",
        wild,
        f"--sink={sink}",
        "--runner=FlinkRunner",
        "--parallelism=2",
        "--trainer_min_ram=1GB",
        "--checkpointing_interval=3000",
        log=log,
    )
    try:
        chaos = Chaos(
            directory,
            wild,
            sink,
            lambda: job.poll() is None,
            total=wanted.version,
            seed=seed,
            away_s=away_s,
        )
        chaos.hold(moments[0])
        kills = chaos.torment(victims, moments)
        wait_for(lambda: chaos.versions() >= wanted.version, chaos.running, 600)
        stop_with_savepoint(flink_address())
        got = stream.finish(job, log, LIMIT_S)
    finally:
        if job.poll() is None:
            job.kill()
            job.wait()
        stream.pace(directory).unlink(missing_ok=True)
    assert stream.lineage(wild) == (hashes[:-1], wanted.digest), "the lineages differ"
    steps = stream.trained(wild)
    assert steps == list(range(1, len(steps) + 1)), f"trained twice or skipped: {steps}"
    assert got["digest"] == wanted.digest
    stream.assert_rows(wild, messages)
    # As a next run would, for a sink that died at the end.
    catch_up_sinks(Store(wild), [sink], LIMIT_S)
    stream.assert_served(sink, wild)
    return kills


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--events", type=int, default=300_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--away", type=float, default=60.0, help="seconds without a killed sink")
    given = parser.parse_args()
    for end in (signal.SIGINT, signal.SIGTERM):  # however it is ended, its services end with it
        signal.signal(end, signal.default_int_handler)
    dice = random.Random(given.seed)
    victims = [VICTIMS[i % len(VICTIMS)] for i in range(given.kills)]
    dice.shuffle(victims)
    with tempfile.TemporaryDirectory(prefix="rillet-chaos-") as folder:
        directory = Path(folder) / "local"
        os.environ["RILLET_LOCAL"] = str(directory)
        os.environ["PYTHONPATH"] = str(stream.REPOSITORY)
        ports = dict.fromkeys(PARTS, 0)
        try:
            parts = up(directory, only=["kafka", "flink", "beam", "redis"], ports=ports)
            address = {part.name: part.address for part in parts}
            kills = ordeal(
                directory,
                address["kafka"],
                address["redis"],
                Path(folder),
                events=given.events,
                victims=victims,
                seed=given.seed,
                away_s=given.away,
            )
        finally:
            down(directory)
    slowest = max((kill.recovery_s for kill in kills), default=0.0)
    print(
        f"{len(kills)} kills; rows as the oracle's, same lineage and digest as undisturbed, "
        f"sink equal to the store; slowest recovery {slowest:.1f} s"
    )
    sys.exit(len(kills) < given.kills)


if __name__ == "__main__":
    main()
