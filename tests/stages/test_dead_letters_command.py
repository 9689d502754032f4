"""`rillet dead-letters`: from what was refused to what a store takes after all."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from pipelines.cli.dead_letters import dead_letters
from pipelines.config import load_job
from pipelines.job import RunRequest, run_job

START_MS = 1_767_225_600_000  # 2026-01-01
FAKE = "tests.support.fake_trainer:FakeTrainer"


def event(number, **more):
    known = {"event_id": f"e{number}", "user_id": f"u{number % 5}", "item_id": f"i{number % 3}"}
    return known | {"event_type": "click", "event_time": START_MS + number * 1_000} | more


def log(path):
    """Sixty good events; a second's epoch, a line that is no JSON, a user who is missing."""
    events = [event(n) for n in range(60)]
    events[20]["event_time"] //= 1_000
    del events[40]["user_id"]
    lines = [json.dumps(one) for one in events]
    lines[30] = lines[30][:-1]
    path.write_text("\n".join(lines) + "\n")
    return path


def request(events, store):
    return RunRequest(
        events=(str(events),),
        items=None,
        users=None,
        store=store,
        config=load_job(None, {"batch": {"min_rows": 5}, "features": {"window": "fixed:10s"}}),
        predictions=None,
        beam_args=(),
        now_ms=START_MS + 86_400_000,
        trainer=FAKE,
    )


def ask(*args):
    return CliRunner().invoke(dead_letters, [str(arg) for arg in args], standalone_mode=False)


def test_letters_of_a_store_are_mended_and_taken(tmp_path, monkeypatch):
    path, store = log(tmp_path / "log.jsonl"), tmp_path / "store"
    told = run_job(request(path, store))
    assert told["dead"] == {"bad_json": 1, "missing_field": 1, "bad_time": 1}
    found = json.loads(ask(store, "--json").stdout)
    assert found["reasons"] == told["dead"]
    assert found["sources"] == {str(path): 3}
    assert {one["reason"]: one["line"] for one in found["examples"]} == {
        "bad_time": 21,
        "bad_json": 31,
        "missing_field": 41,
    }
    shown = ask(store, "--export", tmp_path / "mend.jsonl").stdout
    assert f"{path}, line 31" in shown
    assert "3 records written to" in shown
    lines = (tmp_path / "mend.jsonl").read_text().splitlines()
    mended = []
    for line in lines:  # as a person would
        one = json.loads(line if line.endswith("}") else line + "}")
        number = int(one["event_id"][1:])
        mended.append(event(number))
    (tmp_path / "mend.jsonl").write_text("".join(json.dumps(one) + "\n" for one in mended))

    asked = []
    monkeypatch.setattr("pipelines.job.run_job", lambda made: asked.append(made) or {"rows": 0})
    assert ask(store, "--retry", tmp_path / "mend.jsonl").exit_code == 0
    monkeypatch.undo()
    (made,) = asked
    again = run_job(replace(made, trainer=FAKE, now_ms=START_MS + 86_400_000))
    assert (again["read"], again["valid"], again["duplicates"], again["dead"]) == (3, 3, 0, {})
    assert again["rows"] == 3
    assert run_job(replace(made, trainer=FAKE, now_ms=START_MS))["duplicates"] == 3


def test_the_folder_of_features_is_shown_too(rillet, tmp_path):
    log(tmp_path / "log.jsonl")
    rillet("features", "--events", "log.jsonl", "--out", "out")
    done = rillet("dead-letters", "out", "--reason", "bad_time")
    assert done.status == 0
    assert "log.jsonl, line 21" in done.stdout
    assert "bad_json" not in done.stdout
    done = rillet("dead-letters", "out", "--retry", "mend.jsonl")
    assert done.status == 2
    assert "rillet features --events LOG --events mend.jsonl --out out" in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["nowhere"], "neither a store nor"),
        (["out", "--reason", "bad_tim"], "there is no reason bad_tim"),
        (["out", "--retry", "x", "--reason", "bad_time"], "given alone"),
        (["nowhere", "--retry", "x"], "no store at nowhere"),
    ],
)
def test_a_mistake_is_one_line(rillet, tmp_path, args, words):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "summary.json").write_text("{}")
    done = rillet("dead-letters", *args)
    assert done.status == 2
    (line,) = done.stderr.strip().splitlines()
    assert words in line


def test_no_letters_is_no_mistake(rillet, tmp_path):
    (tmp_path / "summary.json").write_text("{}")
    done = rillet("dead-letters", ".", "--reason", "bad_time")
    assert (done.status, done.stdout) == (0, "no dead letters\n")
