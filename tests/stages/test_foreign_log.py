"""A foreign log by its mapping gives the same feature rows as the same log in our own form."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.bounded.features_job import run_features
from pipelines.config import JobConfig
from pipelines.errors import RequestError
from pipelines.schema import EVENTS

NOW = 1_700_000_600_000

MAPPING: dict[str, Any] = {
    "event_id": "key",
    "user_id": "who.id",
    "item_id": "what",
    "event_type": {"column": "verb", "map": {"pv": "view", "buy": "purchase"}},
    "event_time": {"column": "at", "unit": "s"},
    "dwell_ms": {"column": "stay", "unit": "s"},
    "value": {"column": "price", "currency": True},
}
FLAT = {**MAPPING, "user_id": "who"}


def make_log(size: int) -> list[dict[str, Any]]:
    draw = random.Random(3)
    return [
        {
            "event_id": f"e{n}",
            "user_id": f"u{draw.randrange(7)}",
            "item_id": f"i{draw.randrange(9)}",
            "event_type": draw.choice(["view", "purchase"]),
            "event_time": NOW - 600_000 + 1_000 * draw.randrange(500),
            "dwell_ms": draw.choice([None, 1_500, 20_000]),
            "value": draw.choice([None, 2.5, 79.95]),
        }
        for n in range(size)
    ]


def foreign(event: dict[str, Any]) -> dict[str, Any]:
    """The event as another system would have it."""
    stay, price = event["dwell_ms"], event["value"]
    return {
        "key": event["event_id"],
        "who": event["user_id"],
        "what": event["item_id"],
        "verb": {"view": "pv", "purchase": "buy"}[event["event_type"]],
        "at": event["event_time"] // 1_000,
        "stay": None if stay is None else stay / 1_000,
        "price": None if price is None else f"$ {price}",
    }


def write(path: Path, log: list[dict[str, Any]]) -> None:
    rows = [foreign(event) for event in log]
    if path.suffix in {".csv", ".tsv"}:
        with path.open("w", newline="") as out:
            table = csv.DictWriter(
                out, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t"
            )
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps([{**row, "who": {"id": row["who"]}} for row in rows]))
    elif path.suffix == ".avro":
        fields = [
            {"name": name, "type": kind}
            for name, kind in {
                "key": "string",
                "who": "string",
                "what": "string",
                "verb": "string",
                "at": "long",
                "stay": ["null", "double"],
                "price": ["null", "string"],
            }.items()
        ]
        with path.open("wb") as out:
            fastavro.writer(out, {"type": "record", "name": "E", "fields": fields}, rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


def rows_of(out: Path) -> list[dict[str, Any]]:
    rows = pq.read_table(out / "features").to_pylist()
    return sorted(rows, key=lambda row: (row["window_start"], row["user_id"], row["item_id"]))


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "avro", "parquet"])
def test_the_rows_are_those_of_our_own_form(tmp_path, ending):
    log = make_log(300)
    own = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist(log, schema=EVENTS), own)
    run_features([str(own)], tmp_path / "a", JobConfig(), [], NOW)
    write(tmp_path / f"log.{ending}", log)
    job = JobConfig(source=MAPPING if ending == "json" else FLAT)
    summary = run_features([str(tmp_path / f"log.{ending}")], tmp_path / "b", job, [], NOW)
    assert rows_of(tmp_path / "b") == rows_of(tmp_path / "a")
    assert summary["records"] == summary["read"] == summary["valid"] == 300
    assert summary["skipped"] == summary["dead"] == {}


def test_everything_is_counted_and_dead_letters_hold_the_record(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "key,who,what,verb,at,stay,price\n"
        "1,u,i,pv,1699999999,1,\n"
        "2,u,i,scroll,1699999999,1,\n"
        "3,u,i,pv,soon,1,\n"
        "4,,i,pv,1699999999,1,\n"
        "5,u,i\n"
    )
    summary = run_features([str(path)], tmp_path / "out", JobConfig(source=FLAT), [], NOW)
    assert summary["records"] == 5
    assert summary["read"] == 4 == summary["valid"] + sum(summary["dead"].values())
    assert summary["skipped"] == {"event_type": 1}
    assert summary["dead"] == {"bad_row": 1, "bad_time": 1, "missing_field": 1}
    letters = pq.read_table(tmp_path / "out" / "dead_letters").to_pylist()
    assert sorted((one["position"], one["payload"]) for one in letters) == [
        (3, b"3,u,i,pv,soon,1,"),
        (4, b"4,,i,pv,1699999999,1,"),
        (5, b"5,u,i"),
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"user_id": "whom"}, "no column whom (did you mean who?)"),
        ({"event_time": {"column": "verb", "unit": "s"}}, "row 2: event_time: got 'pv'"),
        ({"event_time": "at"}, "never"),
        ({"user": "who"}, "user: there is no such setting; did you mean user_id?"),
        ({"delimiter": ";"}, "no column key"),
        ({"event_type": {"column": "verb", "map": {"pv": "look"}}}, "'look' is none of"),
        ({"container": "parquet"}, "is csv, not parquet"),
        ({"event_time": {"column": "at", "format": "iso", "zone": "Mars"}}, "zone 'Mars'"),
        ({"item_id": {"column": "what", "regex": "(a)(b)"}}, "needs 1 group"),
        ({"item_id": {"column": "what", "constant": "x"}}, "exactly one of"),
    ],
)
def test_a_mistake_in_the_mapping_is_told_before_anything_is_read(tmp_path, change, words):
    write(tmp_path / "log.csv", make_log(5))
    job = JobConfig(source={**FLAT, **change})
    with pytest.raises(RequestError) as caught:
        run_features([str(tmp_path / "log.csv")], tmp_path / "out", job, [], NOW)
    assert words in str(caught.value).replace("neither is ever", "never")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_several_sources_by_the_names_of_their_files(tmp_path):
    (tmp_path / "clicks.csv").write_text("u,i,t\na,x,1699999999\n")
    (tmp_path / "buys.csv").write_text("user;item;t\na;x;1699999999\n")
    time = {"column": "t", "unit": "s"}
    sources = [
        {"match": "click*", "user_id": "u", "item_id": "i", "event_time": time,
         "event_type": {"constant": "click"}, "platform": {"constant": "web"}},
        {"match": "buy*", "user_id": "user", "item_id": "item", "event_time": time,
         "event_type": {"constant": "purchase"}, "platform": {"constant": "shop"},
         "delimiter": ";"},
    ]  # fmt: skip
    summary = run_features([str(tmp_path)], tmp_path / "out", JobConfig(source=sources), [], NOW)
    assert summary["valid"] == 2
    rows = rows_of(tmp_path / "out")
    assert [(row["n_click"], row["n_purchase"]) for row in rows] == [(1, 1)]
