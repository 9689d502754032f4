"""What fine-tuning costs: CPU seconds as ratios, each figure from a process of its own.

    .venv/bin/python benchmarks/training.py [--quick] [--only micro-batch,tables,stream,floor]

micro-batch  1,000 rows from an Arrow batch to a delta written as Parquet: ours, with and
             without the prediction of every row before it is trained on; plain TFRS with one
             live `fit`; plain TFRS with `compile` + `fit` each time (benchmarks/peers); all of
             them as by default, then without a Transformer over the history
tables       the same micro-batch, and its steps alone, with 100k and with 5M rows of 64 in
             the tables of users and of items
stream       new ids without end: resident memory, ids held, traces of the tf.functions
floor        examples per CPU second, FLOPs per example, share of what a large matrix
             product reaches on this machine

Processor time is of one thread, user + system, the median of the micro-batches measured.
`--quick`: a tenth of the stream, tables of 1M. Needs some 12 GB of memory without it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from training_parts import PARTS, ROWS, SMALL, median

SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="micro-batch,tables,stream,floor")
    parser.add_argument("--out", type=Path, default=None, help="JSON of all figures")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        name, *arguments = given.part
        print(json.dumps(PARTS[name](*map(json.loads, arguments))))
        return
    cpu = platform.processor() or platform.machine()
    figures: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{cpu}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "quick": given.quick,
    }
    print(f"{figures['date']} · {figures['machine']}")
    for name in given.only.split(","):
        figures[name] = SECTIONS[name](quick=given.quick)
    if given.out:
        given.out.write_text(json.dumps(figures, indent=1) + "\n")


def part(name: str, *arguments: Any) -> dict[str, Any]:
    """Run a part in a process of its own; what it measured."""
    command = [sys.executable, __file__, "--part", name, *map(json.dumps, arguments)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **SINGLE, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {arguments} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def micro_batch(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    return {sequence: _compared(sequence, quick=quick) for sequence in ("transformer", "mean")}


def _compared(sequence: str, *, quick: bool) -> dict[str, float]:
    """Print and return what each way costs that reads histories so."""
    count = 8 if quick else 20
    runs: dict[str, list[float]] = {}
    for _ in range(1 if quick else 2):  # in turn: the machine's other work falls on all alike
        for name, act in (
            ("ours", lambda: part("ours", sequence, False, count)),
            ("ours, predicting first", lambda: part("ours", sequence, True, count)),
            ("fit kept alive", lambda: part("fit", sequence, count)),
            ("compile + fit each time", lambda: part("fit_anew", sequence, 3)),
        ):
            runs.setdefault(name, []).extend(act()["cpu_ms"])
    cost = {name: median(values) for name, values in runs.items()}
    print(f"\na micro-batch of {ROWS} rows, Arrow batch to published delta; sequence = {sequence}")
    for name, value in cost.items():
        print(f"  {name:26} {value:8.1f} ms CPU   {value / cost['ours']:6.2f} × ours")
    return cost


def tables(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    small, large = SMALL, 1_000_000 if quick else 5_000_000
    count = 8 if quick else 20
    sizes = {"small": (small, small), "users": (large, small), "items": (small, large)}
    found = {name: part("table", *size, count) for name, size in sizes.items()}
    print("\nlarge tables, dim 64, without predicting first")
    for name, (users, items) in sizes.items():
        told = found[name]
        base = found["small"]
        print(
            f"  {users:9,} users {items:9,} items: "
            + "   ".join(
                f"{key} {told[key]:7.1f} ms ({told[key] / base[key]:.2f} ×)"
                for key in ("micro-batch", "step", "delta")
            )
            + f"   {told['rows']:.0f} rows published, {told['rss_mb']:,.0f} MB"
        )
    return found


def stream(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    found = part("ids", 1_000 if quick else 10_000)
    print(f"\na stream of new ids: {found['ids']:,} distinct in {found['batches']:,} micro-batches")
    for mark in found["marks"]:
        print(
            f"  after {mark['batch']:6,}: {mark['rss_mb']:7,.0f} MB resident, {mark['users']:7,} "
            f"users and {mark['items']:7,} items held, {mark['traces']} traces"
        )
    return found


def floor(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    found = part("step", 20 if quick else 60)
    print(f"\nthe floor: a matrix product reaches {found['peak_gflops']:.0f} GFLOP/s on one thread")
    for size, told in found["steps"].items():
        share = told["gflops"] / found["peak_gflops"]
        print(
            f"  steps of {size:>4} rows: {told['examples_per_s']:8,.0f} examples a CPU second, "
            f"{told['flops_per_example'] / 1e6:.2f} MFLOP each, {share:.1%} of that"
        )
    return found


SECTIONS = {"micro-batch": micro_batch, "tables": tables, "stream": stream, "floor": floor}

if __name__ == "__main__":
    main()
