"""Files in any order, with any clock in them: what is refused is told, and called what it is."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from loop import write

from pipelines.config import load_job
from pipelines.job import RunRequest, run_job

DAY = 86_400_000
START = 1_750_032_000_000  # 2025-06-16
NOW = START + 10 * DAY
JOB = """
[features]
window = "fixed:5m"
history = 3
"""


def day(number: int, name: str = "e", count: int = 300) -> list[dict[str, Any]]:
    """Events of a day, of 20 users."""
    return [
        {
            "event_id": f"{name}{number}-{n}",
            "user_id": f"u{n % 20}",
            "item_id": f"i{n % 7}",
            "event_type": "click",
            "event_time": START + number * DAY + n * DAY // count,
        }
        for n in range(count)
    ]


@pytest.fixture
def feed(tmp_path: Path):
    """Feeds events to a store, a run each; says what the run said."""
    (tmp_path / "job.toml").write_text(JOB)

    def run(rows: list[dict[str, Any]], *more: list[dict[str, Any]]) -> dict[str, Any]:
        files = [
            str(write(tmp_path / f"{number}.jsonl", part))
            for number, part in enumerate([rows, *more])
        ]
        told = run_job(
            RunRequest(
                events=tuple(files),
                items=None,
                users=None,
                store=tmp_path / "store",
                config=load_job(tmp_path / "job.toml"),
                predictions=None,
                beam_args=(),
                now_ms=NOW,
                trainer="fake_trainer:FakeTrainer",
            )
        )
        assert told["read"] == told["valid"] + told["duplicates"] + sum(told["dead"].values())
        return told

    return run


def test_one_wrong_clock_closes_a_store_to_nobody(feed):
    odd = day(0)[4] | {"event_id": "odd", "event_time": NOW}
    assert feed([*day(0), odd])["valid"] == 301
    told = feed(day(1))
    assert (told["valid"], told["duplicates"], told["dead"]) == (300, 0, {})
    assert feed([*day(0), odd, *day(1)])["duplicates"] == 601, "all of them are known again"


def test_history_is_refused_by_name(feed, tmp_path, caplog):
    feed(day(3))
    with caplog.at_level(logging.WARNING, "rillet"):
        told = feed([*day(1), *day(4)])
    assert (told["valid"], told["duplicates"], told["dead"]) == (300, 0, {"too_late": 300})
    # The last window of day 3 ends with it; the first event of day 1 is three days before.
    assert "300 events came too late, up to 3d behind 2025-06-20T00:00:00+00:00" in told["message"]
    assert "goes into a new store" in told["message"]
    first = f"see {tmp_path}/store/dead_letters: event_time: got 2025-06-"
    assert f"300 of 600 records were refused (300 too_late); the first: {first}" in caplog.text
    letters = pq.read_table(tmp_path / "store" / "dead_letters")
    assert len(letters) == 300
    assert all("behind what was reached" in text for text in letters["detail"].to_pylist())


def test_ids_that_start_again_in_each_file_are_told(feed, caplog):
    files = [[row | {"event_id": str(n)} for n, row in enumerate(day(d))] for d in (0, 1)]
    with caplog.at_level(logging.WARNING, "rillet"):
        told = feed(*files)
    assert (told["duplicates"], told["duplicates_differ"]) == (300, 300)
    assert "300 of 300 duplicates differ in user, item or time" in caplog.text
    caplog.clear()
    third = [row | {"event_id": str(n)} for n, row in enumerate(day(1, count=400))]
    again = feed(third)  # in another run, a hundred ids of which are new
    assert (again["duplicates"], again["duplicates_differ"], again["valid"]) == (300, 300, 100)
    once_more = feed(files[0])
    assert (once_more["duplicates"], once_more["duplicates_differ"]) == (300, 0)


def test_a_repeat_that_is_of_another_item_differs(feed):
    rows = day(0)
    told = feed([*rows, rows[5], rows[7] | {"item_id": "other"}])
    assert (told["duplicates"], told["duplicates_differ"]) == (2, 1)


@pytest.mark.parametrize("command", ["run", "features"])
def test_a_log_of_which_nothing_can_be_used_is_no_success(rillet, tmp_path, command):
    seconds = [row | {"event_time": row["event_time"] // 1_000} for row in day(0)]
    source = write(tmp_path / "s.jsonl", seconds)
    out = ["--store", "store"] if command == "run" else ["--out", "out", "--json"]
    status, stdout, stderr = rillet("-q", command, "--events", source, *out)
    assert status == 1
    assert json.loads(stdout)["dead"] == {"bad_time": 300}
    assert stderr.splitlines()[-1].startswith(
        f"rillet: none of the 300 records could be used (300 bad_time); the first: {source}, "
        f"line 1: event_time: got {START // 1_000}, expected 1990 or later"
    )


def test_more_than_a_tenth_refused_is_said_also_when_quiet(rillet, tmp_path):
    rows = [row | ({"user_id": ""} if n % 8 == 2 else {}) for n, row in enumerate(day(0))]
    source = write(tmp_path / "s.jsonl", rows)
    status, _, stderr = rillet("-q", "features", "--events", source, "--out", "out")
    assert status == 0
    (line,) = stderr.splitlines()
    assert "38 of 300 records were refused (38 bad_value); the first: " in line
    assert f"{source}, line 3: user_id: empty, expected 1 to 256 bytes" in line
    few = write(tmp_path / "few.jsonl", [*day(0), day(1)[0] | {"user_id": ""}])
    assert rillet("-q", "features", "--events", few, "--out", "out2").stderr == ""


def test_a_catalogue_of_strangers_is_told(rillet, tmp_path):
    write(tmp_path / "e.jsonl", day(0))
    write(tmp_path / "i.jsonl", [{"item_id": f"{n}"} for n in range(7)])
    (tmp_path / "job.toml").write_text("[batch]\nmin_rows = 1000\n")
    args = ["--events", "e.jsonl", "--store", "store", "--config", "job.toml"]
    done = rillet("-q", "run", *args, "--items", "i.jsonl")
    assert done.status == 0
    assert "none of the 7 items of the catalogue is in the log: it has item_id 'i" in done.stderr
    assert "the catalogue '0'" in done.stderr


@pytest.mark.parametrize("source", ["kafka://127.0.0.1:9/clicks", "dir:."])
def test_features_says_what_it_reads(rillet, source):
    done = rillet("features", "--events", source, "--out", "out")
    assert done.status == 2
    assert "does not end, and rillet features reads what does" in done.stderr
