"""Decayed counts, stream features and running means, by hand."""

import numpy as np
import pytest

from models.config import ModelConfig
from models.memory.decayed_counts import DecayedCounts, ItemStream, RunningStats

HOUR = 3_600_000
START = 1_700_000_000_000


def test_counts_halve_each_half_life():
    counts = DecayedCounts([1.0, np.inf], 3)
    counts.add(np.array([1, 1]), np.ones(2), np.array([START, START + HOUR]))
    assert counts.at(START + HOUR)[1].tolist() == pytest.approx([1.5, 2.0])
    assert counts.at(START + 3 * HOUR)[1].tolist() == pytest.approx([0.375, 2.0])
    assert counts.at(START)[2].tolist() == [0.0, 0.0]


def test_ten_years_later_nothing_overflows():
    counts = DecayedCounts([0.25, 1.0, np.inf], 2)
    for year in range(10):
        counts.add(np.array([1]), np.ones(1), np.array([START + year * 8_766 * HOUR]))
    now = counts.at(START + 9 * 8_766 * HOUR)[1]
    assert now.tolist() == pytest.approx([1.0, 1.0, 10.0])


def test_a_late_event_weighs_what_is_left_of_it():
    counts = DecayedCounts([1.0], 2)
    counts.add(np.array([1]), np.ones(1), np.array([START]))
    counts.add(np.array([1]), np.ones(1), np.array([START - HOUR]))
    assert counts.at(START)[1, 0] == pytest.approx(1.5)


def test_features_are_named_finite_and_as_defined():
    config = ModelConfig()
    stream = ItemStream(config.half_lives_h, 4)
    stream.update(np.array([1, 1]), np.ones(2), np.array([0.0, 1.0]), np.array([START, START]))
    features = stream.features(START + HOUR, np.array([1, 2]))
    assert features.shape == (2, len(config.stream_features))
    assert np.isfinite(features).all()
    named = dict(zip(config.stream_features, features[0], strict=True))
    assert named["log_count_1h"] == pytest.approx(np.log(1.02), rel=1e-5)
    assert named["log_count_ever"] == pytest.approx(np.log(2.02), rel=1e-5)
    assert named["age"] == pytest.approx(np.log(2) / 4, rel=1e-5)
    assert named["recency"] == pytest.approx(np.log(2) / 4, rel=1e-5)
    assert named["dislikes"] == pytest.approx(np.log(5 * 1.5 / 5.5), rel=1e-5)
    unseen = dict(zip(config.stream_features, features[1], strict=True))
    assert unseen["log_count_ever"] == pytest.approx(np.log(0.02), rel=1e-5)
    assert unseen["age"] == 0
    assert unseen["dislikes"] == pytest.approx(0, abs=1e-6)


def test_decay_alone_lowers_all_counts_alike():
    stream = ItemStream((1.0,), 3)
    rows, n = np.array([1, 2, 2, 2]), 4
    stream.update(rows, np.full(n, 1e6), np.zeros(n), np.full(n, START))
    early, late = (stream.features(START + t * HOUR, np.array([1, 2]))[:, 0] for t in (0, 3))
    assert (early - late).tolist() == pytest.approx([3 * np.log(2)] * 2, rel=1e-5)


def test_running_means_are_shrunk_towards_the_whole():
    stats = RunningStats(binary=1, real=1, size=3)
    targets = np.array([[1.0, 4.0], [1.0, 2.0], [0.0, 3.0], [0.0, 3.0]])
    present = np.ones((4, 2), bool)
    stats.update(np.array([1, 1, 2, 2]), targets, present)
    assert stats.mean().tolist() == pytest.approx([2.5 / 5, 3.0])
    assert stats.spread().tolist() == pytest.approx([1.0, np.sqrt(0.5)])
    # Row 1: (2 + 5 × .5) / 7 likes = 9/14; ln(9/5) above even odds; mean value is the whole's.
    row = stats.stats(np.array([1]))[0]
    assert row.tolist() == pytest.approx([np.log(9 / 5), 0.0, np.log(3) / 4, np.log(3) / 4])
    nobody = stats.stats(np.array([0]))[0]
    assert nobody.tolist() == pytest.approx([0.0] * 4)


def test_windows_that_overlap_observe_once():
    rng = np.random.default_rng(0)
    rows, targets = rng.integers(0, 3, 50), rng.normal(size=(50, 2))
    once, often = (RunningStats(binary=1, real=1, size=3) for _ in range(2))
    once.update(rows, targets, np.ones((50, 2), bool))
    for _ in range(4):
        often.update(rows, targets, np.ones((50, 2), bool), 0.25)
    assert often.n == pytest.approx(once.n)
    assert often.total == pytest.approx(once.total)
    assert often.stats(np.arange(3)) == pytest.approx(once.stats(np.arange(3)))


def test_one_absurd_value_does_not_stand_for_all():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 6, (1_000, 1)).astype(float)
    stats, there = RunningStats(binary=0, real=1, size=2), np.ones((1_000, 1), bool)
    stats.update(np.ones(1_000, int), values, there)
    usual = stats.mean()[0], stats.spread()[0]
    stats.update(np.array([1]), np.array([[1e6]]), there[:1])
    told = stats.mean()[0], stats.spread()[0]
    assert told == pytest.approx((usual[0] + 10 * usual[1] / 1_001, usual[1]), rel=0.06)


def test_what_is_not_present_does_not_count():
    stats = RunningStats(binary=1, real=0, size=2)
    stats.update(np.array([1]), np.array([[1.0]]), np.zeros((1, 1), bool))
    assert stats.total.sum() == 0
    assert stats.n.sum() == 0
