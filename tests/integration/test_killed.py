"""`kill -9` at any moment, the same command again: as if nothing had happened."""

import random
import signal
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from leftovers import contents
from loop import HERE, JOB, Ended, command, events, run, write

KILLER = str(HERE / "killer.py")
COUNTING, REAL = "fake_trainer:FakeTrainer", "models.training.trainer:Trainer"
"""Most kills hit a trainer that only counts: starting TensorFlow twice takes half a minute."""


class Case:
    """One log and one job, run in a folder of its own."""

    def __init__(self, log: Path, folder: Path, trainer: str) -> None:
        self.folder, self.trainer = folder, trainer
        self.args = ["run", "--events", log / "events.jsonl", "--config", log / "job.toml"]
        self.args += ["--items", log / "items.jsonl"]
        self.args += ["--store", folder / "store", "--predictions", folder / "predictions"]

    def run(self, **env: str) -> Ended:
        return run(*self.args, program=KILLER, KILLER_TRAINER=self.trainer, **env)

    def left(self) -> dict[str, object]:
        return contents(self.folder / "store", self.folder / "predictions")


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    write(folder / "events.jsonl", events(), "{broken\n")
    write(folder / "items.jsonl", [{"item_id": f"i{n}", "title": f"item {n}"} for n in range(25)])
    (folder / "job.toml").write_text(JOB)
    return folder


@dataclass(frozen=True)
class Undisturbed:
    case: Case
    summary: dict
    left: dict[str, object]
    writes: int


@pytest.fixture(scope="module")
def undisturbed(log, tmp_path_factory):
    @cache
    def run(trainer: str) -> Undisturbed:
        case = Case(log, tmp_path_factory.mktemp("undisturbed"), trainer)
        count = case.folder / "count"
        summary = case.run(KILLER_COUNT=str(count)).summary
        return Undisturbed(case, summary, case.left(), int(count.read_text()))

    return run


def same(one: dict, other: dict) -> bool:
    return {k: v for k, v in one.items() if k != "seconds"} == {
        k: v for k, v in other.items() if k != "seconds"
    }


@pytest.mark.parametrize("trainer", [COUNTING, REAL])
def test_the_undisturbed_run_is_worth_comparing_with(undisturbed, trainer):
    run = undisturbed(trainer)
    summary = run.summary
    assert summary["read"] == summary["valid"] + summary["duplicates"] + 1
    assert summary["dead"] == {"bad_json": 1}
    assert summary["versions"] == summary["served"] > 8
    files = {name: rows for name, rows in run.left.items() if name.startswith("predictions/")}
    assert len(files) > 2
    predicted = [row for rows in files.values() for row in rows]
    assert len(predicted) > 100
    assert {row["batch"] for row in predicted} == set(range(1, summary["versions"] + 1))


def test_the_same_command_again_does_nothing_and_says_so(undisturbed):
    run = undisturbed(COUNTING)
    again = run.case.run().summary
    assert again["message"].startswith("nothing new")
    assert again["rows"] == again["valid"] == 0
    assert again["digest"] == run.summary["digest"]
    assert run.case.left() == run.left


@pytest.mark.parametrize(
    ("trainer", "part"),
    [*((COUNTING, part / 5) for part in range(5)), (REAL, 0.55)],
)
def test_killed_within_a_write_it_ends_the_same(log, undisturbed, tmp_path, trainer, part):
    """A seeded random moment within each fifth of the writes."""
    wanted = undisturbed(trainer)
    at = 1 + int(wanted.writes * (part + random.Random(str(part)).random() / 5))
    case = Case(log, tmp_path, trainer)
    assert case.run(KILLER_AT=str(at)).status == -signal.SIGKILL
    resumed = case.run()
    assert same(resumed.summary, wanted.summary), resumed.stderr
    assert case.left() == wanted.left


@pytest.mark.parametrize("sign", ["batches/000001.arrow", "versions/000006.json"])
def test_killed_from_outside_it_ends_the_same(log, undisturbed, tmp_path, sign):
    """Somewhere after a file appeared: in a step, in Beam, in a write."""
    wanted = undisturbed(COUNTING)
    case = Case(log, tmp_path, COUNTING)
    argv, env = command(*case.args, program=KILLER)
    process = subprocess.Popen(
        argv,
        env={**env, "KILLER_TRAINER": COUNTING},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with process:
        while not (tmp_path / "store" / sign).exists():
            assert process.poll() is None, "it ended before it came to that"
        process.kill()
    resumed = case.run()
    assert same(resumed.summary, wanted.summary), resumed.stderr
    assert case.left() == wanted.left
