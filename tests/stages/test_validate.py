"""Reading and validating as transforms, on the in-process runner."""

import json

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that

from pipelines.clean.validate import Validate
from pipelines.read import ReadEvents

NOW = 1_750_000_000_000
GOOD = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "view", "event_time": NOW}


def totals(counts):
    return {name: sum(c[name] for c in counts) for name in counts[0]}


def run(sources, check_valid, check_dead, check_counts):
    with beam.Pipeline(runner="FnApiRunner") as p:
        out = p | ReadEvents(sources=sources) | Validate(now_ms=NOW)
        for name, check in [("valid", check_valid), ("dead", check_dead), ("counts", check_counts)]:
            assert_that(out[name], check, label=name)


def test_files_become_events_dead_letters_and_counts(tmp_path):
    for name in ("a", "b"):
        lines = [json.dumps(GOOD), "nope", json.dumps(GOOD | {"more": 1}), ""]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))

    def valid(batches):
        assert sum(b.num_rows for b in batches) == 4

    def dead(batches):
        letters = [row for b in batches for row in b.to_pylist()]
        assert sorted(row["source"] for row in letters) == [
            str(tmp_path / "a.jsonl"),
            str(tmp_path / "b.jsonl"),
        ]

    def counts(found):
        assert totals(found) == {"read": 6, "valid": 4, "dead": 2, "extra_fields": 2}

    run([str(tmp_path)], valid, dead, counts)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("kuairand_likes", 41_828), ("movielens_small", 100_836), ("otto_sessions", 862)],
)
def test_real_logs_are_read_whole(real_log, name, rows):
    def valid(batches):
        assert sum(b.num_rows for b in batches) == rows

    def dead(batches):
        assert not batches

    def counts(found):
        assert totals(found)["read"] == rows

    run([str(real_log(name) / "events.parquet")], valid, dead, counts)
