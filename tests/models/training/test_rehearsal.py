"""The trainer with replay: looks rows up again without a trace, and restarts to the byte."""

import numpy as np
import pytest
from feedback import batches
from river.drift import PageHinkley
from scripted_log import SMALL, items, script

from models.config import DriftConfig
from models.training import drift_detector
from models.training.trainer import Trainer

ASKED = SMALL.model_copy(
    update={
        "replay": 0.5,
        "replay_batches": 4,
        "drift": DriftConfig(detector="page_hinkley", rows=5, batches=2, limit=0.5),
    }
)


@pytest.fixture(scope="module", autouse=True)
def jumpy():
    """A detector that gives alarm within a few values: the log is short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            drift_detector,
            "_made",
            lambda _: PageHinkley(min_instances=3, threshold=0.02, delta=0.0, mode="up"),
        )
        yield


@pytest.fixture(scope="module")
def cut():
    return batches(script(170))


def made(config, cut):
    trainer = Trainer(config, items(), None)
    trainer.log = lambda number: cut[number - 1]
    return trainer


@pytest.fixture(scope="module")
def run(cut):
    trainer = made(ASKED, cut)
    return trainer, [trainer.step(n, part) for n, part in enumerate(cut, 1)]


def test_it_says_what_it_replayed(run, cut):
    _, results = run
    for part, result in zip(cut[1:], results[1:], strict=True):
        extra = result.metrics["replayed"] - int(0.5 * part.num_rows)
        assert extra >= 0 or result.metrics["replayed"] > 0
    last = results[-1].metrics["drift"]
    assert 0 < last["extra"] <= 0.5 * sum(part.num_rows for part in cut)
    assert any(result.metrics["drift"]["detected"] for result in results)


def test_replayed_rows_are_learned_from(run, cut):
    without = made(SMALL, cut)
    for number, part in enumerate(cut, 1):
        without.step(number, part)
    mine, theirs = (t.model.tables["item"].weights.numpy() for t in (run[0], without))
    assert not np.array_equal(mine, theirs)
    # What is remembered is of every micro-batch once.
    for name, value in run[0].state.arrays().items():
        if not name.startswith(("vectors", "baselines/totals")):
            assert np.array_equal(value, without.state.arrays()[name]), name
    assert "replayed" not in without.step(len(cut) + 1, cut[0]).metrics


def test_looking_rows_up_again_leaves_no_trace(run, cut):
    trainer, _ = run
    before = {name: value.copy() for name, value in trainer.state.arrays().items()}
    ids = trainer.state.item_ids.to_table(), trainer.state.user_ids.to_table()
    step = trainer._preparer.prepare_again(trainer.state, 7, cut[1])
    for name, value in trainer.state.arrays().items():
        assert np.array_equal(value, before[name]), name
    assert ids == (trainer.state.item_ids.to_table(), trainer.state.user_ids.to_table())
    assert (step.items > 0).all()
    # All that the user has had by now is left out, but the row's own item.
    for row in range(len(step.batch)):
        owner, had, _ = trainer.state.seen.of(step.users[row : row + 1])
        left_out = set(step.excluded.item[step.excluded.row == row].tolist())
        assert left_out >= set(had.tolist()) - {int(step.items[row])}
        assert step.items[row] not in left_out
        assert (owner == 0).all()


def test_saved_and_restored_in_between_gives_the_same_bytes(run, cut, tmp_path):
    _, results = run
    at = len(cut) // 2
    moved = made(ASKED, cut)
    for number, part in enumerate(cut, 1):
        result = moved.step(number, part)
        assert result.delta.equals(results[number - 1].delta)
        assert result.metrics == results[number - 1].metrics
        if number == at:
            moved.save(tmp_path / "saved")
            moved = Trainer.restore(tmp_path / "saved", ASKED, items(), None)
            moved.log = lambda number: cut[number - 1]
