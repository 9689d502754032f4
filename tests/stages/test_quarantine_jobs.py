"""`[clean]` in whole jobs: what is quarantined is counted, kept as a letter, and in no row."""

import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from beam_stage import Stage

from pipelines.bounded.features_job import run_features
from pipelines.config import CleanConfig, JobConfig, load_job
from pipelines.job import RunRequest, run_job
from pipelines.live.state.start_state import StartState
from pipelines.live.stateful_stages import DEAD, _by_id, _Dedupe, _Featurize
from pipelines.schema import EVENTS

START_MS = 1_767_225_600_000  # 2026-01-01
CLEAN = {"max_events": 10, "max_dwell": "1h", "min_click_dwell": "200ms"}


def events() -> list[dict[str, Any]]:
    """Fifty of people, a bot's thirty within a minute, a dwell of two hours, a slip; ten twice."""
    known = {"item_id": "i", "event_type": "click"}
    people = [
        known | {"event_id": f"e{n}", "user_id": f"u{n % 7}", "event_time": START_MS + 9_000 * n}
        for n in range(50)
    ]
    bot = [
        known | {"event_id": f"b{n}", "user_id": "bot", "event_time": START_MS + 1_000 * n}
        for n in range(30)
    ]
    people[3]["dwell_ms"], people[4]["dwell_ms"] = 7_200_000, 50
    return people + bot + people[10:15] + bot[:5]


def written(folder: Path) -> str:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in events()))
    return str(path)


def job(**features: Any) -> JobConfig:
    return load_job(None, {"clean": CLEAN, "batch": {"min_rows": 5}, "features": features})


WANT = {
    "read": 90,
    "valid": 48,
    "duplicates": 10,
    "dead": {"quarantined": 32},
    "quarantined": {"rate": 30, "dwell": 1, "click": 1},
}


def test_features(tmp_path: Path) -> None:
    told = run_features([written(tmp_path)], tmp_path / "out", job(shards=3), [], START_MS)
    assert {name: told[name] for name in WANT} == WANT
    assert told["read"] == told["valid"] + told["duplicates"] + sum(told["dead"].values())
    letters = pq.read_table(tmp_path / "out" / "dead_letters").to_pylist()
    assert len(letters) == 32
    assert {one["reason"] for one in letters} == {"quarantined"}
    rows = pq.read_table(tmp_path / "out" / "features", columns=["user_id", "n_click"]).to_pylist()
    assert sum(row["n_click"] for row in rows) == 48
    assert "bot" not in {row["user_id"] for row in rows}


def test_a_run_and_another_on_the_same_events(tmp_path: Path) -> None:
    request = RunRequest(
        events=(written(tmp_path),),
        items=None,
        users=None,
        store=tmp_path / "store",
        config=job(),
        predictions=None,
        beam_args=(),
        now_ms=START_MS + 86_400_000,
        trainer="tests.support.fake_trainer:FakeTrainer",
    )
    told = run_job(request)
    assert {name: told[name] for name in WANT} == WANT
    again = run_job(request)  # the ids of what was quarantined count as seen
    assert (again["read"], again["valid"], again["duplicates"], again["dead"]) == (90, 0, 90, {})
    letters = pq.read_table(tmp_path / "store" / "dead_letters").to_pylist()
    assert len(letters) == 32


@pytest.mark.parametrize("shards", [1, 4])
def test_the_live_stages_give_the_letters_of_a_bounded_run(tmp_path: Path, shards: int) -> None:
    run_features([written(tmp_path)], tmp_path / "out", job(), [], START_MS)
    bounded = pq.read_table(tmp_path / "out" / "dead_letters").to_pylist()
    features = job(shards=shards).features
    seed = StartState(features, clean=CleanConfig(**CLEAN))
    first, second = Stage(_Dedupe(seed)), Stage(_Featurize(seed))
    letters = []
    for keyed in _by_id(pa.RecordBatch.from_pylist(events(), schema=EVENTS), shards):
        first.take(keyed)
    for value in first.advance(2**60):
        second.take(value)
    for value in second.advance(2**60):
        if isinstance(value, beam.pvalue.TaggedOutput):
            assert value.tag == DEAD
            letters += value.value.to_pylist()
    assert sorted(map(repr, letters)) == sorted(map(repr, bounded))
