"""Drift is found where it is, replay keeps to its bounds, and a restart changes neither."""

import importlib.util
import json

import numpy as np
import pyarrow as pa
import pytest
from manifests import manifest

from models.config import DriftConfig, ModelConfig
from models.errors import RequestError
from models.training import drift_detector
from models.training.drift_detector import Detector, check_extra
from models.training.rehearsal import SOURCES, Rehearsal
from pipelines.config import load_job
from pipelines.train.fine_tune import counts_of

DETECTORS = ("adwin", "page_hinkley")
TURN = 120


def series(after: float, seed: int = 0, before: float = 0.5) -> list[float]:
    """Losses around `before`, and from `TURN` on around `after`."""
    rng = np.random.default_rng(seed)
    means = np.where(np.arange(2 * TURN) < TURN, before, after)
    return (means + rng.normal(0, 0.03, 2 * TURN)).tolist()


def alarms(losses: list[float], config: DriftConfig) -> list[int]:
    detector = Detector(config)
    return [place for place, loss in enumerate(losses) if detector.update(loss)]


@pytest.mark.parametrize("name", DETECTORS)
def test_a_rise_is_found_soon_and_nothing_before_it(name):
    for seed in range(5):
        found = alarms(series(0.65, seed), DriftConfig(detector=name))
        assert found, "the rise was missed"
        assert TURN <= found[0] < TURN + 30


@pytest.mark.parametrize("name", DETECTORS)
def test_a_fall_and_a_calm_stream_are_no_alarm(name):
    assert alarms(series(0.35), DriftConfig(detector=name)) == []
    assert alarms(series(0.5), DriftConfig(detector=name)) == []


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("kept", [drift_detector.KEPT, 64])
def test_a_copy_made_at_any_moment_finds_the_same(name, kept, monkeypatch):
    monkeypatch.setattr(drift_detector, "KEPT", kept)
    config = DriftConfig(detector=name)
    losses = series(0.9) + series(0.95, 1, before=0.5)
    wanted = alarms(losses, config)
    assert len(wanted) > 1
    for moved in range(10, len(losses), 37):
        detector, found = Detector(config), []
        for place, loss in enumerate(losses):
            if place == moved:
                told = json.loads(json.dumps(detector.losses))
                detector = Detector(config, told)
            if detector.update(loss):
                found.append(place)
        assert found == wanted
        assert len(detector.losses) < kept


def test_a_detector_that_is_not_installed_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    check_extra(DriftConfig())
    with pytest.raises(RequestError, match=r"'adwin' needs river.*rillet\[drift\]"):
        Detector(DriftConfig(detector="adwin"))
    job = tmp_path / "job.toml"
    job.write_text('[model.drift]\ndetector = "page_hinkley"\n')
    with pytest.raises(RequestError, match=r"pip install 'rillet\[drift\]'"):
        load_job(job)


def test_drift_needs_predictions(tmp_path):
    job = tmp_path / "job.toml"
    job.write_text('[model]\nevaluate = false\n[model.drift]\ndetector = "adwin"\n')
    with pytest.raises(RequestError, match="set evaluate = true"):
        load_job(job)


# -- replay -----------------------------------------------------------------------


def log(number: int) -> pa.RecordBatch:
    """Batch `number` of a hundred rows, each of which says where it is from."""
    return pa.record_batch({"from": pa.array([(number, row) for row in range(100)])})


def config(**given) -> ModelConfig:
    return ModelConfig(**given)


def through(replayer: Rehearsal, first: int, last: int, loss=0.5) -> list:
    """(rows replayed, figures) of batches first … last of a hundred rows."""
    return [
        replayer.next(n, 100, np.full(20, loss(n) if callable(loss) else loss), log)
        for n in range(first, last + 1)
    ]


def pairs(batch: pa.RecordBatch) -> list[tuple[int, int]]:
    return [tuple(pair) for pair in batch.column("from").to_pylist()]


def test_by_default_nothing_is_replayed_and_nothing_is_said():
    for told in through(Rehearsal(config()), 1, 5):
        assert (told.batch, told.figures) == (None, {})


def test_a_share_of_recent_rows_each_at_most_once():
    told = through(Rehearsal(config(replay=0.5, replay_batches=6)), 1, 30)
    assert told[0].batch is None  # there is nothing yet
    for number, one in enumerate(told[1:], 2):
        drawn = pairs(one.batch)
        sources = {n for n, _ in drawn}
        assert len(drawn) == len(set(drawn)) == one.figures["replayed"] == 50
        assert sources <= set(range(max(1, number - 6), number))
        assert len(sources) <= SOURCES
        assert drawn == sorted(drawn)
    assert len({tuple(pairs(one.batch)) for one in told[1:]}) == 29


def test_more_than_there_is_is_all_there_is():
    told = through(Rehearsal(config(replay=3.0)), 1, 2)
    assert told[1].batch.num_rows == 100


def test_another_seed_draws_other_rows():
    first, other = (through(Rehearsal(config(replay=0.5, seed=s)), 1, 9)[-1] for s in (0, 1))
    assert pairs(first.batch) != pairs(other.batch)


def drifting(**given) -> ModelConfig:
    return config(drift=DriftConfig(detector="page_hinkley", rows=20, **given))


def turned(number: int) -> float:
    return 0.2 if number <= 60 else 0.9


def test_a_drift_is_followed_by_some_batches_of_replay():
    told = through(Rehearsal(drifting(batches=4, limit=1.0)), 1, 80, turned)
    found = [n for n, one in enumerate(told, 1) if one.figures["drift"]["detected"]]
    assert len(found) == 1
    assert 60 < found[0] < 64
    replayed = [n for n, one in enumerate(told, 1) if one.figures["replayed"]]
    assert replayed == list(range(found[0], found[0] + 4))
    assert told[-1].figures["drift"]["extra"] == 400
    assert told[0].figures["drift"]["loss"] == pytest.approx(0.2)


def test_extra_rows_stay_within_their_share():
    told = through(Rehearsal(drifting(batches=50, replay=2.0, limit=0.03)), 1, 80, turned)
    for number, one in enumerate(told, 1):
        assert one.figures["drift"]["extra"] <= 0.03 * 100 * number
    assert sum(one.figures["replayed"] for one in told) == told[-1].figures["drift"]["extra"] > 200


def test_a_fixed_share_is_not_counted_against_the_limit():
    both = drifting(batches=4, limit=0.0).model_copy(update={"replay": 0.25})
    told = through(Rehearsal(both), 1, 70, turned)
    assert {one.figures["replayed"] for one in told[1:]} == {25}
    assert told[-1].figures["drift"]["extra"] == 0


def test_few_predicted_rows_wait_until_they_are_enough():
    told = through(Rehearsal(config(drift=DriftConfig(detector="adwin", rows=50))), 1, 9)
    given = [n for n, one in enumerate(told, 1) if one.figures["drift"]["loss"] is not None]
    assert given == [3, 6, 9]


def test_a_restart_at_any_batch_replays_the_same():
    asked = drifting(batches=5, limit=0.05).model_copy(update={"replay": 0.1})
    wanted = through(Rehearsal(asked), 1, 75, turned)
    for moved in (1, 20, 61, 62, 64, 70):
        first = Rehearsal(asked)
        through(first, 1, moved, turned)
        second = Rehearsal(asked)
        second.restore(json.loads(json.dumps(first.state())))
        for one, other in zip(wanted[moved:], through(second, moved + 1, 75, turned), strict=True):
            assert one.figures == other.figures
            assert (one.batch is None) == (other.batch is None)
            assert one.batch is None or one.batch.equals(other.batch)
        assert second.state() == through_state(asked)


def through_state(asked: ModelConfig) -> dict:
    replayer = Rehearsal(asked)
    through(replayer, 1, 75, turned)
    return replayer.state()


def test_replay_without_a_log_is_told():
    replayer = Rehearsal(config(replay=1.0))
    replayer.next(1, 100, np.zeros(0), None)
    with pytest.raises(ValueError, match="given no log"):
        replayer.next(2, 100, np.zeros(0), None)


def test_a_drift_is_counted_by_the_job():
    told = manifest(7, metrics={"replayed": 30, "drift": {"detected": True, "extra": 40}})
    assert counts_of(told) == {
        "batches": 1,
        "versions_refused": 0,
        "drifts": 1,
        "rows_replayed": 30,
    }
    assert counts_of(manifest(8))["drifts"] == counts_of(manifest(8))["rows_replayed"] == 0
