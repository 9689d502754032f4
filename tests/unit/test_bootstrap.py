"""Intervals by resampling blocks of time."""

import math

import numpy as np
import pytest

from models.bootstrap import (
    block_starts,
    interval,
    paired_comparison,
    paired_difference,
    weighted_interval,
)


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    rng, held = draw(7), 0
    for _ in range(100):
        values = rng.normal(1.0, 1.0, 400)
        found = interval(values, np.ones(400), block=5)
        held += found.low <= 1.0 <= found.high
        assert found.value == pytest.approx(values.mean())
        assert found.se == pytest.approx(1 / math.sqrt(400), rel=0.35)
    assert 85 <= held <= 100


def test_neighbours_that_resemble_each_other_widen_the_interval():
    steps = np.repeat(draw(8).normal(size=40), 25)  # whole blocks of one value
    wide, narrow = (interval(steps, np.ones(1_000), block=b) for b in (25, 1))
    assert wide.se > 3 * narrow.se


def test_what_is_drawn_together_cancels():
    common = draw(9).gamma(1.0, 1.0, 500)
    found = interval(1.2 * common, common)
    assert (found.value, found.low, found.high) == pytest.approx((1.2, 1.2, 1.2))


def test_a_figure_of_rows_and_a_ratio_of_sums_have_the_same_interval():
    rng = draw(14)
    cell = np.sort(rng.integers(0, 400, 3_000))
    values = rng.normal(size=3_000)
    mean = lambda weights: float(weights @ values / weights.sum())  # noqa: E731
    found = weighted_interval(cell, mean, block=10)
    _, place = np.unique(cell, return_inverse=True)
    wanted = interval(np.bincount(place, values), np.bincount(place), block=10)
    assert found.value == pytest.approx(wanted.value)
    # A fifth of the resamples, of the same seed.
    assert found.se == pytest.approx(wanted.se, rel=0.25)
    assert found.low == pytest.approx(wanted.low, abs=wanted.se)
    assert found.high == pytest.approx(wanted.high, abs=wanted.se)


def test_a_centred_interval_holds_its_figure():
    rng = draw(15)
    noise = rng.normal(size=400)
    group = np.arange(400) % 40

    def error(weights):
        return float(np.abs(np.bincount(group, weights * noise)).sum())

    drawn, centred = (
        weighted_interval(np.arange(400), error, block=4, centred=c) for c in (False, True)
    )
    assert drawn.low > drawn.value  # chance alone adds to a sum of absolute values
    assert centred.low < centred.value < centred.high
    assert centred.high - centred.low == pytest.approx(drawn.high - drawn.low)


def test_a_figure_that_no_resample_has_is_without_bounds():
    found = weighted_interval(np.arange(40), lambda w: 1.0 if (w == 1).all() else math.nan)
    assert found.to_json() == {"value": 1.0, "se": None, "low": None, "high": None}
    assert math.isnan(weighted_interval([0, 0], lambda w: float(w.sum())).low)


def test_intervals_of_little():
    assert math.isnan(interval([], []).value)
    assert math.isnan(interval([1.0], [0.0]).value)
    one = interval([2.0], [4.0])
    assert one.value == 0.5
    assert one.to_json() == {"value": 0.5, "se": None, "low": None, "high": None}
    assert block_starts(1_000).tolist() == list(range(0, 1_000, 50))


def test_two_arms_on_the_same_rows_are_resampled_together():
    rng = draw(16)
    rows = rng.integers(1, 9, 300).astype(float)
    theirs = rows * rng.random(300)
    mine = theirs + 0.25 * rows  # better by a quarter on every row, whatever the rest does
    found = paired_difference(mine, theirs, rows)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.se == pytest.approx(0.0, abs=1e-9)
    told = paired_comparison(mine, theirs, rows, block=10)
    assert told["difference"] == {"value": 0.25, "se": 0.0, "low": 0.25, "high": 0.25}
    assert told["ratio"]["value"] == pytest.approx(mine.sum() / theirs.sum(), abs=1e-6)
    assert told["ratio"]["low"] < told["ratio"]["value"] < told["ratio"]["high"]


def test_a_lower_level_has_nearer_bounds():
    rng = draw(17)
    mine, theirs = rng.normal(size=(2, 400))
    wide, near = (
        paired_difference(mine, theirs, np.ones(400), block=5, level=level) for level in (0.95, 0.9)
    )
    assert wide.low < near.low < near.value < near.high < wide.high
