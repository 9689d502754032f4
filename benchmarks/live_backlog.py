"""The whole job on a backlog: what it costs, and whether memory stays level."""

import argparse
import json
import random
import time
from typing import Any

from cluster import JOB, Cluster, Sampler, cost
from live_events import Event, passing, settled, timed

from models.store.store import Store
from pipelines.local import stop_with_savepoint

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
    uri, store = cluster.backlog(name, log, closed_after_ms=DAY_MS), Store(cluster.work / name)

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
    told = cost(len(log), seen.stop(), time.monotonic() - begun)
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
