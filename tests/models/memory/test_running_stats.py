"""Running means by row, by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.memory.running_stats import PRIOR, RunningStats, ShrunkMeans


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


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-9, 9)), max_size=30), st.floats(-9, 9))
def test_a_mean_is_that_of_its_values_and_of_the_prior_so_many_times(told, prior):
    means = ShrunkMeans(1, 5)
    for row, value in told:
        means.add(np.array([row]), np.array([[value]]), np.ones((1, 1)))
    for row in range(5):
        values = [value for of, value in told if of == row] + [prior] * int(PRIOR)
        found = means.shrunk(np.array([row]), np.array([prior]))
        assert found.tolist() == [[pytest.approx(np.mean(values), abs=1e-9)]]
