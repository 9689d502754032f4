"""How fresh the whole loop is: event time until a version can be seen in the store, in Redis."""

import argparse
import random
import subprocess
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa
import redis
from cluster import JOB, Cluster
from live_events import settled

from models.store.store import Store


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
