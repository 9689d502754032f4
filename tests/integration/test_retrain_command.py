"""`rillet retrain` as a user runs it, through Beam; killed; and a run that goes on from it."""

import json
import shutil
import signal
from pathlib import Path

import pytest
from leftovers import contents
from loop import HERE, JOB, Ended, events, run, write

from models.store.store import Store

KILLER = str(HERE / "killer.py")
FAKE = {"KILLER_TRAINER": "fake_trainer:FakeTrainer"}


class Case:
    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "store")
        self.log, self.job = folder / "events.jsonl", folder / "job.toml"

    def run(self, **env: str) -> Ended:
        return run(
            "run",
            *("--events", self.log, "--store", self.store.root, "--config", self.job),
            program=KILLER,
            **FAKE,
            **env,
        )

    def retrain(self, *args: object, **env: str) -> Ended:
        args = ("retrain", "--store", self.store.root, "--last", "0.6", *args)
        return run(*args, program=KILLER, **FAKE, **env)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A log, a job file, and the store that a run made of them."""
    case = Case(tmp_path_factory.mktemp("finished"))
    write(case.log, events())
    case.job.write_text(JOB)
    assert case.run().summary["versions"] > 5
    return case.folder


@pytest.fixture
def case(finished, tmp_path) -> Case:
    shutil.copytree(finished, tmp_path / "case")
    return Case(tmp_path / "case")


def test_retrain_then_run_on(case):
    before = case.store.current()
    dry = case.retrain("--dry-run").summary
    assert dry["retrained"] is None
    assert case.store.current() == before
    told = case.retrain().summary
    assert told["retrained"] == told["served"] == before + 1
    assert told["comparison"]["recall@20"]["difference"]["value"] == 0  # one epoch: the same model
    shown = run("versions", "--store", case.store.root).stdout
    assert f"version {before + 1} was trained anew" in shown
    assert f"replaced version {before}" in shown
    write(case.log, [*events(), *events(200, seed=1, begin=420)])
    after = case.run().summary
    assert after["served"] == after["versions"] > before + 1
    stepped = json.loads((case.store.checkpoint_path(after["served"]) / "fake.json").read_text())[
        "stepped"
    ]
    assert stepped == list(range(1, case.store.last_batch() + 1))


def test_a_damaged_catalogue_is_one_line_and_status_2(case):
    case.store.catalogue_path("items").write_bytes(b"junk")
    done = case.retrain()
    assert done.status == 2
    assert "items.parquet cannot be read" in done.stderr.splitlines()[-1]


def test_killed_in_a_write_the_next_run_goes_on(case):
    count = case.folder / "count"
    whole = case.retrain("--dry-run", KILLER_COUNT=str(count))
    before, writes = case.store.current(), int(count.read_text())
    assert whole.status == 0
    killed = case.retrain(KILLER_AT=str(writes + 5))
    assert killed.status == -signal.SIGKILL
    again = case.retrain().summary
    assert again["retrained"] == again["served"] >= before + 1
    assert case.run().summary["message"].startswith("nothing new")


def test_other_settings_of_the_model_become_the_stores(case):
    other = JOB.replace("dim = 8", "dim = 16")
    case.job.write_text(other.replace("snapshot_every = 3", "snapshot_every = 4"))  # is not read
    refused = case.run()
    assert refused.status == 2
    assert "model.dim = 8, not 16" in refused.stderr
    assert "rillet retrain --config" in refused.stderr
    assert case.retrain("--config", case.job).status == 0
    settings = case.store.meta()["config"]["model"]
    assert settings["dim"] == 16
    assert "overlap" not in settings  # follows from the window
    assert case.run().status == 0


def test_other_settings_of_the_rows_are_refused(case):
    case.job.write_text(JOB.replace("min_rows = 30", "min_rows = 31"))
    before = contents(case.store.root)
    done = case.retrain("--config", case.job)
    assert done.status == 2
    assert "batch.min_rows = 30, not 31" in done.stderr
    assert contents(case.store.root) == before


def test_a_store_in_use_is_left_alone(case):
    before = contents(case.store.root)
    with case.store.lock():
        done = case.retrain()
    assert done.status == 2
    assert "is in use by run with pid" in done.stderr
    assert contents(case.store.root) == before


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--store", "nowhere"], ["nowhere", "rillet run"]),
        (["--store", "nowhere", "--epochs", "0"], ["--epochs", "0"]),
        (["--store", "nowhere", "--epohcs", "2"], ["--epohcs", "--epochs"]),
        ([], ["--store"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(rillet, tmp_path, args, words):
    done = rillet("retrain", *args)
    assert done.status == 2
    (line,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []
