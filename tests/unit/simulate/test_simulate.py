"""The files of a simulation: reproducible, and as their truth says."""

import gzip
import hashlib
import json
import logging
import math
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import RequestError
from pipelines.schema import DEAD_REASONS, EVENT_TYPES, EVENTS, ITEMS, USERS
from pipelines.simulate import SimulationSpec, simulate
from pipelines.simulate.encode import event_ids
from pipelines.simulate.faults import WAYS, malformed_line

EVENT_COUNT = 6_000
SMALL = {"events": EVENT_COUNT, "users": 120, "items": 150}
FAULTY = {"duplicates": 0.05, "late": 0.1, "malformed": 0.03}


def digests(out: Path) -> dict[str, str]:
    files = sorted(p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    simulate(out, SimulationSpec.of(**SMALL, **FAULTY))
    return out


def lines(out: Path) -> list[bytes]:
    return (out / "events.jsonl").read_bytes().removesuffix(b"\n").split(b"\n")


def good(out: Path) -> list[dict[str, Any]]:
    bad = set(pq.read_table(out / "truth/malformed.parquet")["line"].to_pylist())
    return [json.loads(line) for i, line in enumerate(lines(out)) if i not in bad]


def milliseconds(event: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_equal_specs_write_equal_bytes(tmp_path: Path, form: str) -> None:
    spec = SimulationSpec.of(**{**SMALL, "events": 2_000}, format=form)
    assert simulate(tmp_path / "a", spec) == simulate(tmp_path / "b", spec)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert f"events.{form}" in digests(tmp_path / "a")


def test_another_seed_is_another_world(world: Path, tmp_path: Path) -> None:
    simulate(tmp_path, SimulationSpec.of(**SMALL, **FAULTY, seed=1))
    here, there = digests(world), digests(tmp_path)
    assert here.keys() == there.keys()
    assert all(here[name] != there[name] for name in here)


def test_all_forms_hold_the_same_events(world: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "gz", SimulationSpec.of(**SMALL, **FAULTY, format="jsonl.gz"))
    packed = (tmp_path / "gz/events.jsonl.gz").read_bytes()
    assert gzip.decompress(packed) == (world / "events.jsonl").read_bytes()
    summary = simulate(tmp_path / "pq", SimulationSpec.of(**SMALL, **FAULTY, format="parquet"))
    assert summary["malformed"] == {}
    table = pq.read_table(tmp_path / "pq/events.parquet")
    assert table.schema.equals(EVENTS)
    by_id = {row["event_id"]: row for row in table.to_pylist()}
    assert len(by_id) == EVENT_COUNT
    for event in good(world):
        row = by_id[event["event_id"]]
        assert round(row["event_time"].timestamp() * 1000) == milliseconds(event)
        for name in set(EVENTS.names) - {"event_time", "context"}:
            assert row[name] == event.get(name), name
        assert dict(row["context"]) == event["context"]


def test_faults_leave_the_events_as_they_are(world: Path, tmp_path: Path) -> None:
    simulate(tmp_path, SimulationSpec.of(**SMALL, duplicates=0, late=0, malformed=0))
    clean = lines(tmp_path)
    assert len(clean) == EVENT_COUNT
    faulty = {event["event_id"]: event for event in good(world)}
    assert {e["event_id"]: e for e in map(json.loads, clean)} == faulty
    times = [milliseconds(json.loads(line)) for line in clean]
    assert times == sorted(times)


def test_rates_are_as_asked(world: Path) -> None:
    summary = json.loads((world / "truth.json").read_text())["summary"]
    assert summary["events"] == EVENT_COUNT

    def likely(count: int, rate: float) -> bool:
        # Each event is hit independently: five standard deviations of a binomial.
        return abs(count - EVENT_COUNT * rate) <= 5 * math.sqrt(EVENT_COUNT * rate * (1 - rate))

    assert likely(summary["duplicates"], 0.05)
    assert likely(summary["late"], 0.1)
    assert likely(sum(summary["malformed"].values()), 0.03)
    assert set(summary["malformed"]) <= set(DEAD_REASONS)
    assert summary["malformed"]["too_large"] == 1


def test_truth_counts_every_line(world: Path) -> None:
    summary = json.loads((world / "truth.json").read_text())["summary"]
    malformed = pq.read_table(world / "truth/malformed.parquet").to_pydict()
    assert summary["lines"] == len(lines(world))
    assert summary["lines"] == summary["events"] + summary["duplicates"] + sum(
        summary["malformed"].values()
    )
    assert Counter(malformed["reason"]) == summary["malformed"]
    ids = Counter(event["event_id"] for event in good(world))
    assert len(ids) == summary["events"]
    assert sum(ids.values()) - len(ids) == summary["duplicates"]
    truth = pq.read_table(world / "truth/events.parquet")["event_id"].to_pylist()
    assert sorted(truth) == sorted(ids)
    assert (
        Counter(e["event_type"] for e in {e["event_id"]: e for e in good(world)}.values())
        == (summary["types"])
    )


def test_late_lines_are_behind_by_no_more_than_said(world: Path) -> None:
    times = np.array([milliseconds(event) for event in good(world)])
    behind = np.maximum.accumulate(times) - times
    summary = json.loads((world / "truth.json").read_text())["summary"]
    assert 0 < (behind > 0).sum() <= summary["late"] + summary["duplicates"]
    assert behind.max() <= SimulationSpec().late_max_s * 1000


def test_catalogue_and_users_are_as_the_schema_says(world: Path) -> None:
    items, users = pq.read_table(world / "items.parquet"), pq.read_table(world / "users.parquet")
    assert items.schema.equals(ITEMS)
    assert users.schema.equals(USERS)
    published = dict(
        zip(items["item_id"].to_pylist(), items["published_at"].to_pylist(), strict=True)
    )
    known = set(users["user_id"].to_pylist())
    for event in good(world):
        assert event["user_id"] in known
        assert published[event["item_id"]].timestamp() * 1000 <= milliseconds(event)
        assert event["event_type"] in EVENT_TYPES


RECORD = {
    "event_id": "0123456789abcdef",
    "user_id": "u000001",
    "item_id": "i000001",
    "event_type": "view",
    "event_time": "2025-01-06T00:00:00.000Z",
    "platform": "app",
    "context": {"hour": "0"},
}


@pytest.mark.parametrize("way", range(len(WAYS)), ids=[f"{r}: {w}" for r, w, _ in WAYS])
def test_a_spoilt_line_is_one_line_and_spoilt(way: int) -> None:
    line = malformed_line(dict(RECORD), way)
    assert b"\n" not in line
    assert WAYS[way][0] in DEAD_REASONS
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        assert WAYS[way][0] == "bad_json"
    else:
        assert record != RECORD


def test_ids_are_distinct_and_hexadecimal() -> None:
    ids = event_ids(np.arange(10_000), seed=0).to_pylist()
    assert len(set(ids)) == 10_000
    assert all(len(i) == 16 and int(i, 16) >= 0 for i in ids)
    assert set(ids).isdisjoint(event_ids(np.arange(10_000), seed=1).to_pylist())


@pytest.mark.parametrize(
    "knobs",
    [
        {"events": 1, "users": 1, "items": 20},
        {"events": 300, "users": 1, "items": 20, "slate": 1, "bots": 0.9},
        {"events": 500, "users": 5, "items": 20, "events_per_user_day": 10_000},
        {"events": 500, "users": 50, "items": 20, "duplicates": 1, "late": 1, "malformed": 1},
        {"events": 500, "users": 50, "items": 20, "accidents": 1, "backlog": 1, "oversize": 0},
        {"events": 500, "users": 50, "items": 20, "series_share": 0, "shock": 0.5},
        {"events": 500, "users": 50, "items": 20, "series_share": 1, "follow_routine": 1},
    ],
)
def test_odd_worlds_hold_what_was_asked(tmp_path: Path, knobs: dict[str, Any]) -> None:
    summary = simulate(tmp_path, SimulationSpec.of(**knobs))
    assert summary["events"] == knobs["events"]
    assert summary["lines"] == len(lines(tmp_path))


def test_a_second_simulation_replaces_the_first(tmp_path: Path) -> None:
    spec = {**SMALL, "events": 100}
    simulate(tmp_path, SimulationSpec.of(**spec))
    simulate(tmp_path, SimulationSpec.of(**spec, format="parquet"))
    assert [p.name for p in tmp_path.glob("events.*")] == ["events.parquet"]
    assert not list(tmp_path.rglob("*.partial"))


def test_progress_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="rillet"):
        simulate(tmp_path, SimulationSpec.of(**SMALL))
    assert 5 <= len(caplog.records) <= 11
    assert "6,000 of 6,000 events" in caplog.messages[-1]


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"drift": "sideways"}, "drift 'sideways'"),
        ({"drift": -1}, "drift: "),
        ({"drift": float("nan")}, "drift: "),
        ({"events": 0}, "events: "),
        ({"items": 3}, "items: "),
        ({"duplicates": 1.5}, "duplicates: "),
        ({"format": "csv"}, "format: "),
        ({"start": "2025-01-06T00:00:00"}, "has no offset"),
        ({"start": "1960-01-06T00:00:00Z"}, "outside 1990"),
        ({"nonsense": 1}, "nonsense: "),
    ],
)
def test_a_refusal_is_one_line_with_the_value(knobs: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError) as refusal:
        SimulationSpec.of(**knobs)
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_in_the_way_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(RequestError, match="choose another --out"):
        simulate(tmp_path / "out", SimulationSpec.of(**SMALL))


def test_the_parser_finds_each_fault_that_was_put_in(world: Path) -> None:
    from pipelines.read.parse.json_lines import LINES, parse_lines

    text = lines(world)
    starts = np.cumsum([0, *(len(line) + 1 for line in text[:-1])])
    batch = pa.RecordBatch.from_arrays([pa.array(text), pa.array(starts)], schema=LINES)
    now_ms = 1_800_000_000_000  # 2027: after the stream, long before 2999
    parsed = parse_lines(batch, now_ms)
    truth = pq.read_table(world / "truth/malformed.parquet").to_pydict()
    found = dict(
        zip(parsed.dead["position"].to_pylist(), parsed.dead["reason"].to_pylist(), strict=True)
    )
    assert found == dict(zip(truth["byte"], truth["reason"], strict=True))
    assert parsed.extra_fields == 0
    assert len(parsed.valid) == len(text) - len(found)


@pytest.mark.parametrize("way", range(len(WAYS)), ids=[f"{r}: {w}" for r, w, _ in WAYS])
def test_the_parser_gives_the_reason_of_each_way(way: int) -> None:
    from pipelines.read.parse.event_rules import Fault, parse_line

    fault = parse_line(malformed_line(dict(RECORD), way), 1_800_000_000_000)
    assert isinstance(fault, Fault)
    assert fault.reason == WAYS[way][0]
