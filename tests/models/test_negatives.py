"""Which items compete, how likely each was, and what is masked."""

import numpy as np
import pytest

from models.negatives import draw, mask


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_the_hottest_are_certain_and_the_rest_is_a_sample():
    weight = np.zeros(101)
    weight[1:11] = np.arange(10, 0, -1)
    known = np.arange(101) > 0
    drawn = draw(weight, known, 20, 0.25, rng())
    assert len(drawn.rows) == len(set(drawn.rows.tolist())) == 20
    assert set(range(1, 6)) <= set(drawn.rows.tolist())
    cost = dict(zip(drawn.rows.tolist(), drawn.correction.tolist(), strict=True))
    assert all(cost[row] == 0 for row in range(1, 6))
    # 15 of the other 95 were drawn: each stands for 95/15 items.
    assert {round(cost[row], 4) for row in cost if row > 5} == {round(np.log(95 / 15), 4)}


def test_each_of_the_others_is_drawn_as_often_as_is_said():
    known = np.arange(41) > 0
    hits = np.zeros(41)
    for seed in range(2_000):
        hits[draw(np.zeros(41), known, 10, 0.5, rng(seed)).rows] += 1
    assert hits[0] == 0
    assert hits[1:].mean() == 500  # nothing is hot: 10 of 40 each time
    assert np.abs(hits[1:] - 500).max() < 5 * np.sqrt(500 * 0.75)


def test_few_items_leave_padding_that_cannot_win():
    known = np.array([False, True, False, True])
    drawn = draw(np.zeros(4), known, 5, 0.5, rng())
    assert drawn.rows.tolist() == [0, 0, 0, 1, 3]
    assert drawn.correction.tolist() == pytest.approx([-1e9, -1e9, -1e9, 0, 0])
    assert draw(np.zeros(4), np.zeros(4, bool), 3, 0.5, rng()).rows.tolist() == [0, 0, 0]


def test_ties_at_the_edge_of_the_hot_fall_to_the_lower_row():
    drawn = draw(np.ones(101), np.arange(101) > 0, 10, 1.0, rng())
    assert drawn.rows.tolist() == list(range(1, 11))


def test_accidental_hits_are_masked():
    drawn = draw(np.zeros(6), np.array([0, 1, 0, 1, 1, 0], bool), 4, 0.0, rng())
    assert drawn.rows.tolist() == [0, 1, 3, 4]
    hidden = mask(drawn, np.array([0, 0, 1, 2]), np.array([3, 9, 1, 0]), 3)
    assert np.argwhere(hidden).tolist() == [[0, 2], [1, 1]]
