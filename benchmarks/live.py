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
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster import CACHE, REPOSITORY, Cluster, machine
from live_backlog import catchup, soak
from live_features import features
from live_latency import latency

from pipelines.local import down

HERE = Path(__file__).parent

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
    os.environ["PYTHONPATH"] = os.pathsep.join((str(REPOSITORY), str(HERE)))
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
