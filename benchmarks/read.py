"""What it costs to read a foreign log: `rillet features` by a mapping, beside our own Parquet.

    .venv/bin/python benchmarks/read.py [--events 2000000] [--only csv,json]

The same events as our own Parquet, CSV, RecBole's `.inter`, nested JSON lines, Avro and
foreign Parquet. CPU seconds are of the whole process tree, start-up included, and as a ratio
to our own Parquet; DuckDB does the same mapping and features from the same file (it reads no
Avro by itself). The rows of all are compared. Prints a table, and writes it to a JSON file.
"""

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import fastavro
from features import BIN, CACHE, HERE, Cost, differences, machine, make_events, measure, source

KINDS = {"view": "pv", "purchase": "buy", "like": "fav"}
FLAT = """
event_id = "id"
user_id = "who"
item_id = "what"
session_id = "session"
dwell_ms = { column = "stay", unit = "ms" }
value = "price"
"""
NESTED = """
event_id = "id"
user_id = "who.id"
item_id = "what.sku"
session_id = "who.session"
dwell_ms = { column = "what.stay", unit = "ms" }
value = "what.price"
"""
WORDS = ", ".join(f'{word} = "{kind}"' for kind, word in KINDS.items())
COMMON = f"""
platform = "platform"
event_time = {{ column = "moment", unit = "ms" }}
event_type = {{ column = "verb", map = {{ {WORDS} }}, unlisted = "keep" }}
"""
LAYOUTS = {
    "csv": 'container = "csv"',
    "inter": 'container = "csv"\ndelimiter = "\\t"\nquote = ""\nheader = "typed"',
    "json": 'container = "json"',
    "avro": 'container = "avro"',
    "parquet": 'container = "parquet"',
}


def make_forms(folder: Path, count: int) -> None:
    """The simulated events, once, in every form; without context, which CSV has no place for."""
    make_events(folder, count, "parquet")
    if (folder / "log.avro").exists():
        return
    words = " ".join(f"WHEN '{kind}' THEN '{word}'" for kind, word in KINDS.items())
    duckdb.execute("SET TimeZone = 'UTC'")
    duckdb.execute(
        f"""CREATE OR REPLACE TABLE log AS SELECT event_id AS id, epoch_ms(event_time) AS moment,
        CASE event_type {words} ELSE event_type END AS verb, user_id AS who,
        session_id AS session, item_id AS what, value AS price, dwell_ms AS stay, platform
        FROM '{folder}/events.parquet'"""
    )
    own = (
        f"SELECT * REPLACE (NULL::MAP(VARCHAR, VARCHAR) AS context) FROM '{folder}/events.parquet'"
    )
    typed = ", ".join(
        f'{name} AS "{name}:token"'
        for name in ("id", "moment", "verb", "who", "session", "what", "price", "stay", "platform")
    )
    nested = """SELECT id, moment, verb, {id: who, session: session} AS who,
        {sku: what, price: price, stay: stay} AS what, platform FROM log"""
    for query, name, how in (
        (own, "own.parquet", "FORMAT parquet"),
        ("SELECT * FROM log", "log.csv", "FORMAT csv, HEADER"),
        (f"SELECT {typed} FROM log", "log.inter", "FORMAT csv, HEADER, DELIMITER E'\\t'"),
        (nested, "log.json", "FORMAT json"),
        ("SELECT * FROM log", "log.parquet", "FORMAT parquet"),
    ):
        duckdb.execute(f"COPY ({query}) TO '{folder / name}' ({how})")
    _write_avro(folder / "log.avro")


def _write_avro(path: Path) -> None:
    kinds = {"id": "string", "moment": "long", "verb": "string", "who": "string", "what": "string"}
    optional = {"session": "string", "price": "double", "stay": "long", "platform": "string"}
    fields = [{"name": name, "type": kind} for name, kind in kinds.items()]
    fields += [{"name": name, "type": ["null", kind]} for name, kind in optional.items()]
    schema = {"type": "record", "name": "Event", "fields": fields}
    batches = duckdb.sql("SELECT * FROM log").to_arrow_reader(65_536)
    rows = (row for batch in batches for row in batch.to_pylist())
    with path.with_suffix(".part").open("wb") as out:
        fastavro.writer(out, schema, rows, codec="deflate")
    path.with_suffix(".part").rename(path)


def ours(folder: Path, form: str, events: int) -> tuple[Cost, str]:
    """`rillet features` on one form."""
    out, file = (
        folder / f"read-{form}",
        folder / ("own.parquet" if form == "own" else f"log.{form}"),
    )
    command = [str(BIN / "rillet"), "-q", "features", "--events", str(file), "--out", str(out)]
    command += ["--window", "fixed:5m", "--history", "0"]
    if form != "own":
        job = folder / f"{form}.toml"
        paths = NESTED if form == "json" else FLAT
        job.write_text(f"[source]\n{LAYOUTS[form]}{paths}{COMMON}")
        command += ["--config", str(job)]
    return _cost("ours", form, command, events, folder), f"{out}/features/*.parquet"


def duckdb_mapped(folder: Path, form: str, events: int) -> tuple[Cost, str]:
    """DuckDB on the same file."""
    import sys

    out = folder / f"duckdb-{form}.parquet"
    own = form == "own"
    script = str(HERE / "peers" / ("duckdb_rows.py" if own else "duckdb_mapped.py"))
    file = folder / ("own.parquet" if own else f"log.{form}")
    command = [sys.executable, script, str(file), str(out), "0"]
    return _cost("duckdb", form, command, events, folder), str(out)


def _cost(name: str, form: str, command: list[str], events: int, folder: Path) -> Cost:
    cpu, peak, wall = measure(command, folder / f"{name}-{form}.log")
    return Cost(name, form, events, 0, round(cpu, 2), round(peak), round(wall, 1))


def show(cost: Cost, base: Cost) -> None:
    print(
        f"{cost.name:7} {cost.input:8} {cost.events:>10,}: {cost.cpu_s:7.2f} CPU-s"
        f" {cost.peak_mb:6,.0f} MB {cost.wall_s:6.1f} s {cost.rows:,} rows,"
        f" {cost.cpu_s / base.cpu_s:.2f} of our own Parquet",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--only", default="csv,inter,json,avro,parquet")
    parser.add_argument("--work", type=Path, default=CACHE / "bench")
    parser.add_argument("--json", type=Path, default=CACHE / "bench" / "read.json")
    given = parser.parse_args()
    folder = given.work / f"read-{given.events}"
    folder.mkdir(parents=True, exist_ok=True)
    make_forms(folder, given.events)
    costs: list[Cost] = []
    wrong: dict[str, dict[str, int]] = {}
    first = ""
    for form in ("own", *given.only.split(",")):
        for measured in (ours, duckdb_mapped):
            if form == "avro" and measured is duckdb_mapped:
                continue
            cost, rows = measured(folder, form, given.events)
            first = first or rows
            cost.rows = duckdb.sql(f"SELECT count(*) FROM {source(rows)}").fetchall()[0][0]
            if differ := differences(first, rows, 0):
                wrong[f"{cost.name} {form}"] = differ
            costs.append(cost)
            show(cost, costs[0])
    for name, differ in wrong.items():
        print(f"DIFFERENT: {name}: {differ}")
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "costs": [asdict(cost) for cost in costs],
        "differences": wrong,
    }
    given.json.write_text(json.dumps(report, indent=2) + "\n")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
