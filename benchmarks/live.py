"""What the live path costs and how fresh it is: Kafka, Flink, Python workers, one machine.

    .venv/bin/python benchmarks/live.py [features] [latency] [catchup] [soak]

All four in some 30 minutes on a quiet machine. Starts its own services on free ports, prints a
table, and writes all figures, with the load before and after each, to a JSON file.

- `features`: events per CPU-second of feature rows from Kafka on Flink, parallelism 1, and
  of the same rows by PyFlink's keyed process functions on the same cluster (from a file,
  without histories: that is cheaper).
- `latency`: the whole loop with the real trainer at `--rate` events a second and 2 s windows:
  event time → version on record in the store, and → told by Redis, over all rows with an event
  of their window, for each minute.
- `catchup`: a backlog of a million events with the real trainer; memory by fifths of the way.
- `soak`: ever new users and items, 20 days of event time, memory for 1 day: memory and sizes
  of checkpoints by fifths of the way.

CPU is user + system, memory resident, of TaskManager and Python workers together.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import redis
from cluster import Cluster, Event, Sampler, machine, passing, settled

from models.store.store import Store
from pipelines.config import JobConfig
from pipelines.local import down, stop_with_savepoint
from pipelines.schema import EVENTS

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rillet"
JOB = {
    "features": {"window": "fixed:2s", "shards": 2},
    "batch": {"min_rows": 1_000, "max_wait": "2s"},
    "store": {"checkpoint_every": 50, "snapshot_every": 50},
}
STANDSTILL_S = 120.0
DAY_S, DAY_MS = 86_400, 86_400_000
SOAK = {
    "features": {
        "window": "fixed:1h",
        "shards": 2,
        "retention": "1d",
        "dedupe_horizon": "6h",
        "allowed_lateness": "1h",
    },
    "batch": {"min_rows": 2_000, "max_rows": 4_000, "max_wait": "6h"},
    "model": {"user_limit": 8_192, "item_limit": 4_096, "expiry_days": 1},
    "store": {"checkpoint_every": 10, "snapshot_every": 10},
}


def timed(made: Iterator[tuple[int, Event]], count: int, span_s: float) -> list[Event]:
    """So many events that end a minute ago, out of order by at most 4 s of event time."""
    begin = int((time.time() - span_s - 60) * 1_000)
    dice = random.Random(7)
    return [
        {**event, "event_time": begin + offset - dice.randrange(4_000)}
        for offset, event in islice(made, count)
    ]


# -- features -----------------------------------------------------------------------


def features(cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """Kafka → deduplicated features on Flink, nothing after; and PyFlink's."""
    told = {"ours": _ours(cluster, given.events)}
    if not given.no_pyflink:
        try:
            told["pyflink"] = _pyflink(cluster, given.pyflink_events)
        except SystemExit as problem:
            return told | {"pyflink": {"failed": str(problem)}}
        ratio = told["ours"]["events_per_cpu_s"] / told["pyflink"]["events_per_cpu_s"]
        told["times_pyflink"] = round(ratio, 1)
    return told


def _ours(cluster: Cluster, count: int) -> dict[str, Any]:
    from pipelines.live.cluster_options import live_args, live_options
    from pipelines.live.stateful_stages import DedupeLive, FeaturizeLive
    from pipelines.read.kafka.source import ReadKafka
    from pipelines.read.kafka.topic_uri import KafkaSource

    log = timed(settled(1_000, random.Random(7)), count, count / 1_000)
    source = KafkaSource.parse(f"{cluster.backlog('features', log)}?until=now")
    config = JobConfig.model_validate({"features": {"window": "fixed:5m", "shards": 4}}).features
    options = live_options(live_args(["--runner=FlinkRunner", "--parallelism=1"], source))
    begun, seen = time.monotonic(), Sampler(cluster)
    with beam.Pipeline(options=options) as pipeline:
        read = pipeline | ReadKafka(source=source)
        unique = read.valid | DedupeLive(config=config)
        _ = unique.unique | FeaturizeLive(config=config) | beam.Map(len_of)
    return _cost(count, seen.stop(), time.monotonic() - begun)


def len_of(keyed: tuple[int, bytes]) -> int:
    """Stands for a sink."""
    return len(keyed[1])


def _pyflink(cluster: Cluster, count: int) -> dict[str, Any]:
    """The peer of benchmarks/features.py, sent to the same cluster."""
    from features import pyflink_problem

    if problem := pyflink_problem():
        raise SystemExit(f"PyFlink cannot be had: {problem}; leave it out with --no-pyflink")
    path, out = cluster.work / "events.jsonl", cluster.work / "pyflink"
    blank = dict.fromkeys(EVENTS.names) | {"context": {}}  # the peer reads all columns
    with path.open("wb") as lines:
        for event in timed(settled(1_000, random.Random(7)), count, count / 1_000):
            moment = datetime.fromtimestamp(event["event_time"] / 1_000, UTC).isoformat()
            lines.write(cluster.encode({**blank, **event, "event_time": moment}) + b"\n")
    home = CACHE / "pyflink"
    package = next(home.glob("lib/python3*/site-packages/pyflink"))
    python = str(home / "bin" / "python")
    command = [str(package / "bin" / "flink"), "run", "-m", cluster.address["flink"]]
    command += ["-j", str(next(package.glob("lib/flink-connector-files-*.jar")))]
    command += ["-pyexec", python, "-pyclientexec", python]
    # Our cluster has Flink's core alone; PyFlink's operators name classes of the tables, too.
    for jar in ("flink-table-api-java-uber", "flink-table-runtime"):
        command += ["-C", next(package.glob(f"lib/{jar}-*.jar")).as_uri()]
    command += ["-pyfs", str(HERE / "peers" / "user_rows.py")]
    command += ["-py", str(HERE / "peers" / "pyflink_keyed.py"), str(path), str(out), "process"]
    begun, seen = time.monotonic(), Sampler(cluster)
    paths = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": paths, "FLINK_HOME": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        causes = [line for line in said if "Caused by" in line or "Error" in line]
        raise SystemExit(f"PyFlink failed: {'; '.join(causes)[:3_000]}")
    return _cost(count, seen.stop(), time.monotonic() - begun)


def _cost(count: int, cpu_s: float, wall_s: float) -> dict[str, Any]:
    return {
        "events": count,
        "cpu_s": round(cpu_s, 1),
        "events_per_cpu_s": round(count / cpu_s),
        "wall_s": round(wall_s, 1),
        "events_per_s": round(count / wall_s),
    }


# -- latency ------------------------------------------------------------------------


def latency(cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """Events as they would happen; how old each row was when its version could be seen."""
    uri = cluster.topic("latency", 1)
    store, sink = cluster.work / "latency", f"{cluster.address['redis']}?prefix=latency"
    running = cluster.run(f"{uri}?disorder=200ms&idle=5s", store, JOB, "--sink", sink)
    news = News(cluster.address["redis"], "latency:served")
    begin = time.time()
    try:
        _pour(cluster, given, running, begin)
        time.sleep(10)
    finally:
        running.terminate()
        running.wait()
        told = news.stop()
    return ages(Store(store), told, begin, given.warm)


def _pour(
    cluster: Cluster, given: argparse.Namespace, running: subprocess.Popen, begin: float
) -> None:
    """Events at their rate, with the time at which they are sent."""
    producer = cluster.producer()
    for offset, event in settled(given.rate, random.Random(3)):
        now = time.time()
        if now - begin > given.seconds:
            break
        if running.poll() is not None:
            raise SystemExit((cluster.work / "latency.err").read_text())
        if offset / 1_000 > now - begin:
            producer.poll(0)
            time.sleep(offset / 1_000 - (now - begin))
        event["event_time"] = int(time.time() * 1_000)
        producer.produce("latency", cluster.encode(event), partition=0)
    producer.flush(30)


class News:
    """When a Redis channel told which version, in epoch seconds."""

    def __init__(self, address: str, channel: str) -> None:
        self._told: list[tuple[int, float]] = []
        self._line = redis.Redis.from_url(address).pubsub()
        self._line.subscribe(channel)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            message = self._line.get_message(ignore_subscribe_messages=True, timeout=0.2)
            if message:
                self._told.append((int(message["data"]), time.time()))

    def stop(self) -> list[tuple[int, float]]:
        """All that was told."""
        self._ended.set()
        self._thread.join()
        self._line.close()
        return self._told


def ages(
    store: Store, told: list[tuple[int, float]], begin: float, warm_s: float
) -> dict[str, Any]:
    """Event time → seen in the store, in the sink: p50 and p95 in seconds, and minute by minute."""
    seen: dict[str, list[tuple[float, np.ndarray]]] = {"store": [], "redis": []}
    steps = []
    for number in store.versions():
        manifest = store.manifest(number)
        if manifest.published_at is None or not manifest.gate.served:
            continue
        times = _event_times(store.read_batch(number)[0])
        at = manifest.published_at.timestamp()
        seen["store"].append((at - begin, at - times))
        steps += [manifest.seconds] if at - begin >= warm_s else []
        later = [when for version, when in told if version >= number]
        if later:
            seen["redis"].append((later[0] - begin, later[0] - times))
    result: dict[str, Any] = {"step_s": _percentiles(np.array(steps or [np.nan]))}
    for place, parts in seen.items():
        warm = [age for at, age in parts if at >= warm_s]
        minutes: dict[int, list[np.ndarray]] = {}
        for at, age in parts:
            minutes.setdefault(int(at // 60), []).append(age)
        result[place] = {
            **_percentiles(np.concatenate(warm) if warm else np.array([np.nan])),
            "rows": sum(map(len, warm)),
            "p95_by_minute": {
                minute: round(float(np.percentile(np.concatenate(parts), 95)), 2)
                for minute, parts in sorted(minutes.items())
            },
        }
    return result


def _event_times(rows: pa.RecordBatch) -> np.ndarray:
    """Epoch seconds of the first event of each row.

    Rows of which only the dwell of an earlier event became known are left out: that event
    was in another row, and came with it.
    """
    anchor, start = (
        rows.column(name).view("int64").to_numpy() for name in ("anchor_time", "window_start")
    )
    return anchor[anchor >= start] / 1_000


def _percentiles(values: np.ndarray) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 3) for p in (50, 95)}


# -- catch-up and soak --------------------------------------------------------------


def catchup(cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """A backlog, worked off with the real trainer."""
    log = timed(settled(1_000, random.Random(7)), given.events, given.events / 1_000)
    told, _ = _through(cluster, "catchup", log, JOB)
    return told


def soak(cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """Ever new users and items, with expiry in event time."""
    span_s = 20 * DAY_S
    log = timed(passing(given.events / span_s, random.Random(7)), given.events, span_s)
    told, seen = _through(cluster, "soak", log, SOAK, "&batch=4000&stay=0&defer=1s")
    for name in ("flink_mb", "trainer_mb"):
        told[f"{name}_by_fifth"] = [round(value, 1) for value in seen.parts(name, 5)]
    told["users"] = len({event["user_id"] for event in log})
    told["items"] = len({event["item_id"] for event in log})
    return told


def _through(
    cluster: Cluster,
    name: str,
    log: list[Event],
    config: dict[str, Any],
    reading: str = "",
) -> tuple[dict[str, Any], Sampler]:
    """The whole job on a backlog, until all of it is trained; what it took.

    The stream has no end, as one in production: at its end Flink would work off what is left
    without a checkpoint. The last events, a day after all others, have all before them told.
    """
    newest = max(event["event_time"] for event in log)
    last = {"user_id": "end", "item_id": "end", "event_type": "view", "event_time": newest + DAY_MS}
    closing = [{**last, "event_id": f"end{n}"} for n in range(2)]
    uri, store = cluster.backlog(name, [*log, *closing]), Store(cluster.work / name)

    def sizes() -> dict[str, float | None]:
        newest = store.checkpoints()[-1:]
        files = [f for n in newest for f in store.checkpoint_path(n).rglob("*") if f.is_file()]
        held = sum(file.stat().st_size for file in files) / 1e6
        flink = cluster.checkpoint_mb()
        return {"flink_mb": flink, "trainer_mb": held or None, "versions": len(store.versions())}

    begun, seen = time.monotonic(), Sampler(cluster, 2.0, sizes)
    running = cluster.run(f"{uri}?idle=1d{reading}", store.root, config)
    version, since = 0, time.monotonic()
    while running.poll() is None and not _trained(store, newest):
        if (made := len(store.versions())) != version:
            version, since = made, time.monotonic()
        if time.monotonic() - since > STANDSTILL_S:
            raise SystemExit(f"{name}: no version for {STANDSTILL_S:.0f} s, at version {version}")
        time.sleep(0.5)
    told = _cost(len(log), seen.stop(), time.monotonic() - begun)
    if running.poll() is None:
        stop_with_savepoint(cluster.address["flink"])
    if running.wait():
        raise SystemExit((cluster.work / f"{name}.err").read_text())
    summary = json.loads((cluster.work / f"{name}.out").read_text())
    told |= {key: summary[key] for key in ("versions", "rows")}
    for kind in ("java_mb", "python_mb"):
        told[f"{kind}_by_fifth"] = [round(value) for value in seen.parts(kind, 5)]
    return told, seen


def _trained(store: Store, newest_ms: int) -> bool:
    """Whether all micro-batches are trained, and one is of that time or a minute before.

    The newest event need not be the first of its row, which is a row's time.
    """
    made = store.versions()[-3:]  # the last window may have been cut in several
    if not made or made[-1] < store.last_batch():
        return False
    times = [store.manifest(version).newest_event_time.timestamp() for version in made]
    return max(times) * 1_000 >= newest_ms - 60_000


# -- the command --------------------------------------------------------------------

RUNS: dict[str, Callable[[Cluster, argparse.Namespace], dict[str, Any]]] = {
    "features": features,
    "latency": latency,
    "catchup": catchup,
    "soak": soak,
}


def show(name: str, told: dict[str, Any], indent: str = "") -> None:
    """One figure a line."""
    print(f"{indent}{name}")
    for key, value in told.items():
        if isinstance(value, dict) and value:
            show(key, value, f"{indent}  ")
        else:
            text = f"{value:,}" if isinstance(value, int | float) else value
            print(f"{indent}  {key:<20} {text}", flush=True)


def measure(name: str, given: argparse.Namespace) -> dict[str, Any]:
    """One benchmark, on services of its own."""
    before = machine()
    with tempfile.TemporaryDirectory(prefix="rillet-bench-") as folder:
        work = Path(folder)
        os.environ["RILLET_LOCAL"] = str(work / "local")
        try:
            told = RUNS[name](Cluster(work), given)
        finally:
            down(work / "local")
    return {**told, "load_before": before["load"], "load_after": machine()["load"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", choices=[*RUNS, []], help="all, unless some are named")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--pyflink-events", type=int, default=100_000)
    parser.add_argument("--no-pyflink", action="store_true")
    parser.add_argument("--rate", type=float, default=1_000)
    parser.add_argument("--seconds", type=float, default=690, help="of the stream")
    parser.add_argument(
        "--warm",
        type=float,
        default=90,
        help="seconds at its start that do not count: TensorFlow starts, and catches up",
    )
    parser.add_argument("--out", type=Path, default=CACHE / "bench" / "live.json")
    given = parser.parse_args()
    for end in (signal.SIGINT, signal.SIGTERM):  # however it is ended, its services end with it
        signal.signal(end, signal.default_int_handler)
    os.environ["PYTHONPATH"] = str(HERE.parent)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    told: dict[str, Any] = {"machine": machine(), "at": datetime.now(UTC).isoformat()}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in given.what or RUNS:
        try:
            told[name] = measure(name, given)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the others are worth having
            failed += 1
            told[name] = {"failed": f"{type(error).__name__}: {error}"}
        show(name, told[name])
        given.out.write_text(json.dumps(told, indent=1))
    print(f"written to {given.out}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
