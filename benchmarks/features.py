"""What feature rows cost: `rillet features` beside its peers, on the same events.

    .venv/bin/python benchmarks/features.py [--events 2000000] [--only ours,duckdb] [--slow]

CPU seconds (user + system) and peak memory (summed resident sets, sampled) are of the whole
process tree, start-up included. Every peer's rows are checked to equal ours: integers and
strings exactly, floats to 1e-9. Prints a table, and writes it with the machine and the date
to a JSON file. `--slow` adds the engines that work event by event, at a tenth of the events
(some 20 minutes); `--scale` adds five times the events.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import psutil

from pipelines.schema import FEATURES

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rillet"
TIMES = ("window_start", "window_end", "anchor_time")
KEYS = ("user_id", "item_id", "window_start")
FLOATS = ("rating", "purchase_value", "purchase_interval_ms", "confidence")
HISTORY = ("history_items", "history_types", "history_age_ms")


@dataclass
class Cost:
    """What one command took."""

    name: str
    input: str
    events: int
    history: int
    cpu_s: float
    peak_mb: float
    wall_s: float
    rows: int = 0


def measure(command: list[str], log: Path) -> tuple[float, float, float]:
    """Run a command; CPU seconds and peak MB of its process tree, wall seconds.

    A worker that its parent does not wait for (PyFlink's) is counted as last sampled.
    """
    before = os.times()
    begun = time.monotonic()
    peak, seen = 0, {}
    with log.open("w") as output:
        process = psutil.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            peak = max(peak, _sample(process, seen))
            time.sleep(0.02)
    if process.returncode:
        tail = log.read_text(errors="replace")[-2000:]
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{tail}")
    after = os.times()
    waited = after.children_user + after.children_system
    waited -= before.children_user + before.children_system
    sampled = sum(seen.values())
    return max(waited, sampled), peak / 1e6, time.monotonic() - begun


def _sample(process: psutil.Popen, seen: dict[int, float]) -> int:
    """Resident bytes of the tree now; `seen`: process → CPU seconds so far."""
    total = 0
    try:
        tree = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for one in tree:
        try:
            total += one.memory_info().rss
            times = one.cpu_times()
            seen[one.pid] = times.user + times.system
        except psutil.Error:
            continue
    return total


def make_events(folder: Path, count: int, kind: str) -> None:
    """Simulate `count` events once: Parquet, and the same as JSON lines with a few broken ones."""
    if not (folder / "events.parquet").exists():
        users = str(max(count // 100, 100))
        command = [str(BIN / "rillet"), "-q", "simulate", "--out", str(folder)]
        command += ["--events", str(count), "--users", users, "--items", users]
        command += ["--format", "parquet", "--duplicates", "0.02"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    if kind == "jsonl" and not (folder / "events.jsonl").exists():
        _write_lines(folder)


def _write_lines(folder: Path) -> None:
    duckdb.execute("SET TimeZone = 'UTC'")
    duckdb.execute(
        f"""COPY (
            SELECT * REPLACE (strftime(event_time, '%Y-%m-%dT%H:%M:%S.%gZ') AS event_time)
            FROM '{folder}/events.parquet'
        ) TO '{folder}/whole.jsonl' (FORMAT json)"""
    )
    with (folder / "whole.jsonl").open("rb") as whole, (folder / "part").open("wb") as out:
        for number, line in enumerate(whole):
            out.write(line)
            if number % 1000 == 7:
                out.write(line[:40] + b"\n")
    (folder / "whole.jsonl").unlink()
    (folder / "part").rename(folder / "events.jsonl")


def ours(events: Path, out: Path, history: int) -> tuple[list[str], str]:
    command = [str(BIN / "rillet"), "-q", "features", "--events", str(events), "--out", str(out)]
    return [
        *command,
        "--window",
        "fixed:5m",
        "--history",
        str(history),
    ], f"{out}/features/*.parquet"


def duckdb_sql(events: Path, out: Path, history: int) -> tuple[list[str], str]:
    script = str(HERE / "peers" / "duckdb_rows.py")
    return [sys.executable, script, str(events), f"{out}.parquet", str(history)], f"{out}.parquet"


def pure_python(events: Path, out: Path, history: int) -> tuple[list[str], str]:
    script = str(HERE / "peers" / "pure_python.py")
    return [sys.executable, script, str(events), f"{out}.jsonl"], f"{out}.jsonl"


def beam_per_element(events: Path, out: Path, history: int) -> tuple[list[str], str]:
    script = str(HERE / "peers" / "beam_per_element.py")
    return [sys.executable, script, str(events), f"{out}.jsonl"], f"{out}.jsonl"


def pyflink_keyed(events: Path, out: Path, history: int) -> tuple[list[str], str]:
    script = str(HERE / "peers" / "pyflink_keyed.py")
    python = str(CACHE / "pyflink" / "bin" / "python")
    return [python, script, str(events), str(out), "process"], f"{out}/*/part-*"


def pyflink_problem() -> str | None:
    """Make PyFlink's own environment, once; why that is impossible, or None."""
    python = CACHE / "pyflink" / "bin" / "python"
    check = [str(python), "-c", "import pyflink, pkg_resources"]
    if python.exists() and not subprocess.run(check, capture_output=True, check=False).returncode:
        return None
    if shutil.which("java") is None:
        return "no java on PATH: install a JDK, 11 or 17"
    uv = str(BIN / "uv")
    steps = [
        [uv, "venv", "-q", "--clear", "--python", "3.11", str(CACHE / "pyflink")],
        [
            uv,
            "pip",
            "install",
            "-q",
            "--python",
            str(python),
            "apache-flink==1.19.3",
            "setuptools<80",
        ],
    ]
    for step in steps:
        done = subprocess.run(step, check=False, capture_output=True, text=True)
        if done.returncode:
            return f"{' '.join(step[1:3])} failed: {done.stderr.strip()[-300:]}"
    return None


def source(pattern: str) -> str:
    if pattern.endswith(".parquet"):
        return f"read_parquet('{pattern}')"
    moments = ", ".join(f"make_timestamp_ms({n})::TIMESTAMPTZ AS {n}" for n in TIMES)
    columns = ", ".join(f"{name}: '{_kind(name)}'" for name in FEATURES.names)
    lines = f"read_json('{pattern}', format = 'newline_delimited', columns = {{{columns}}})"
    return f"(SELECT * REPLACE ({moments}) FROM {lines})"


def _kind(name: str) -> str:
    """DuckDB's type of a column in a peer's JSON lines."""
    if name in FLOATS:
        return "DOUBLE"
    if name == "context":
        return "MAP(VARCHAR, VARCHAR)"
    return "VARCHAR" if name in {"user_id", "item_id", "platform", *HISTORY} else "BIGINT"


def differences(one: str, other: str, history: int) -> dict[str, int]:
    """Columns → rows in which they differ; `rows` where one side lacks some. Empty: equal."""
    duckdb.execute("SET TimeZone = 'UTC'")
    a, b = source(one), source(other)
    names = [row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM {a}").fetchall()]
    left = {*KEYS, "revision", *(() if history else HISTORY)}
    counts = []
    for name in (n for n in names if n not in left):
        differ = f"a.{name} IS DISTINCT FROM b.{name}"
        if name in FLOATS:
            differ += (
                f" AND NOT coalesce(abs(a.{name} - b.{name})"
                f" <= 1e-9 * greatest(1, abs(a.{name})), false)"
            )
        elif name == "context":
            differ = "list_sort(map_entries(a.context::MAP(VARCHAR, VARCHAR))) IS DISTINCT FROM "
            differ += "list_sort(map_entries(b.context::MAP(VARCHAR, VARCHAR)))"
        counts.append(f"count(*) FILTER ({differ}) AS {name}")
    total = [duckdb.sql(f"SELECT count(*) FROM {x}").fetchall()[0][0] for x in (a, b)]
    found = duckdb.sql(
        f"SELECT count(*) AS both, {', '.join(counts)} "
        f"FROM {a} a JOIN {b} b USING ({', '.join(KEYS)})"
    )
    result = dict(zip(found.columns, found.fetchall()[0], strict=True))
    both = result.pop("both")
    wrong = {name: n for name, n in result.items() if n}
    return wrong | ({"rows": max(total) - both} if set(total) != {both} else {})


PEERS = {
    "ours": ours,
    "duckdb": duckdb_sql,
    "pure": pure_python,
    "beam": beam_per_element,
    "pyflink": pyflink_keyed,
}


def run(name: str, folder: Path, kind: str, history: int, events: int) -> tuple[Cost, str]:
    """One measurement, and where its rows are."""
    out = folder / f"{name}-{kind}-{history}"
    command, rows = PEERS[name](folder / f"events.{kind}", out, history)
    if name == "pyflink":
        shutil.rmtree(out, ignore_errors=True)
    cpu, peak, wall = measure(command, folder / f"{out.name}.log")
    cost = Cost(name, kind, events, history, round(cpu, 2), round(peak), round(wall, 1))
    cost.rows = duckdb.sql(f"SELECT count(*) FROM {source(rows)}").fetchall()[0][0]
    return cost, rows


def compare(
    folder: Path, events: int, kind: str, history: int, peers: list[str]
) -> tuple[list[Cost], list[str]]:
    """Ours, then each peer on the same file; what differs."""
    make_events(folder, events, kind)
    costs, wrong = [], []
    mine = ""
    for name in peers:
        problem = pyflink_problem() if name == "pyflink" else None
        if problem:
            print(f"pyflink left out: {problem}")
            continue
        cost, rows = run(name, folder, kind, history, events)
        mine = mine or rows
        if differ := differences(mine, rows, history):
            wrong.append(f"{name}, {kind}, history {history}: {differ}")
        costs.append(cost)
        show(cost, costs[0])
    return costs, wrong


def show(cost: Cost, first: Cost) -> None:
    ratio = "" if cost is first else f"  ours is {first.cpu_s / cost.cpu_s:.3f} of its CPU"
    per_million = 1e6 * cost.cpu_s / cost.events
    print(
        f"{cost.name:8} {cost.input:8} {cost.events:>9,} history {cost.history:2}: "
        f"{cost.cpu_s:7.2f} CPU-s ({per_million:8.2f} per M) {cost.peak_mb:6,.0f} MB "
        f"{cost.wall_s:6.1f} s  {cost.rows:,} rows{ratio}",
        flush=True,
    )


def machine() -> dict[str, str | int | None]:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
        "load": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--slow", action="store_true", help="also the per-event engines")
    parser.add_argument("--scale", action="store_true", help="also five times the events")
    parser.add_argument("--work", type=Path, default=CACHE / "bench")
    parser.add_argument("--json", type=Path, default=CACHE / "bench" / "features.json")
    given = parser.parse_args()
    folder, costs, wrong = given.work / str(given.events), [], []

    def add(result: tuple[list[Cost], list[str]]) -> None:
        costs.extend(result[0])
        wrong.extend(result[1])

    for kind, history in (("parquet", 0), ("jsonl", 0), ("parquet", 50)):
        add(compare(folder, given.events, kind, history, ["ours", "duckdb"]))
    if given.scale:
        many = 5 * given.events
        add(compare(given.work / str(many), many, "parquet", 0, ["ours"]))
    if given.slow:
        few = given.events // 10
        small = given.work / str(few)
        add(compare(small, few, "parquet", 0, ["ours", "pure", "beam"]))
        add(compare(small, few, "jsonl", 0, ["ours", "pyflink"]))
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "costs": [asdict(cost) for cost in costs],
        "differences": wrong,
    }
    given.json.write_text(json.dumps(report, indent=2) + "\n")
    print(f"all rows equal; {given.json}" if not wrong else "\n".join(["ROWS DIFFER", *wrong]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
