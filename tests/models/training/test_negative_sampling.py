"""Which items compete, how likely each was, and what is masked."""

import numpy as np
import pytest

from models.memory.decayed_counts import DecayedCounts
from models.memory.top_counts import TopCounts
from models.training.negative_sampling import draw_negatives, excluded_mask, hottest


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


NONE = np.zeros(0, np.int64)


def test_the_hot_are_certain_and_the_rest_is_a_sample():
    drawn = draw_negatives(np.arange(1, 6), np.arange(1, 101), 20, rng())
    assert len(drawn.rows) == len(set(drawn.rows.tolist())) == 20
    assert set(range(1, 6)) <= set(drawn.rows.tolist())
    cost = dict(zip(drawn.rows.tolist(), drawn.correction.tolist(), strict=True))
    assert all(cost[row] == 0 for row in range(1, 6))
    # 15 of the other 95 were drawn: each stands for 95/15 items.
    assert {round(cost[row], 4) for row in cost if row > 5} == {round(np.log(95 / 15), 4)}


@pytest.mark.parametrize("hot", [NONE, np.array([3, 17, 18, 40])])
def test_each_of_the_others_is_drawn_as_often_as_is_said(hot):
    known = np.arange(1, 41)
    hits = np.zeros(41)
    for seed in range(2_000):
        hits[draw_negatives(hot, known, 10, rng(seed)).rows] += 1
    assert hits[0] == 0
    assert (hits[hot] == 2_000).all()
    share = (10 - len(hot)) / (40 - len(hot))
    others = np.setdiff1d(known, hot)
    assert hits[others].mean() == pytest.approx(2_000 * share)
    assert np.abs(hits[others] - 2_000 * share).max() < 5 * np.sqrt(2_000 * share * (1 - share))


def test_few_items_leave_padding_that_cannot_win():
    drawn = draw_negatives(NONE, np.array([1, 3]), 5, rng())
    assert drawn.rows.tolist() == [0, 0, 0, 1, 3]
    assert drawn.correction.tolist() == pytest.approx([-1e9, -1e9, -1e9, 0, 0])
    assert draw_negatives(NONE, NONE, 3, rng()).rows.tolist() == [0, 0, 0]


def test_ties_at_the_edge_of_the_hot_fall_to_the_lower_row():
    assert hottest(np.arange(1, 101), np.ones(100), 10).tolist() == list(range(1, 11))
    assert hottest(np.array([4, 7, 9]), np.array([0.0, 1.0, 2.0]), 3).tolist() == [7, 9]


def test_the_pool_holds_the_largest_sums_whatever_happened():
    """Against a look at all rows, through growth, ties, recycling and a moved landmark."""
    random, k, rows = rng(7), 5, 400
    counts = DecayedCounts((1.0, 12.0), rows)
    pool = TopCounts(counts, 1, k)
    looked = []
    scan, keep = counts.sums, pool._keep
    pool._keep = lambda found: (looked.append(len(found)), keep(found))[1]
    now = 1_700_000_000_000
    for turn in range(300):
        now += int(random.integers(1, 5_000_000))
        touched = random.integers(1, rows, 12)
        counts.add(touched, np.ones(12), np.full(12, now))
        pool.touch(np.unique(touched))
        if turn % 40 == 39:
            gone = random.integers(1, rows, 30)
            counts.sums[gone] = 0.0
            pool.drop(gone)
        found = pool.rows()
        best = np.lexsort((np.arange(rows), -counts.sums[:, 1]))[:k]
        assert set(best[counts.sums[best, 1] > 0].tolist()) <= set(found.tolist())
        assert len(found) <= 8 * k
    assert scan is counts.sums
    assert sum(size > 8 * k + 12 for size in looked) < 15  # all rows were looked at a few times


def test_accidental_hits_are_masked():
    drawn = draw_negatives(NONE, np.array([1, 3, 4]), 4, rng())
    assert drawn.rows.tolist() == [0, 1, 3, 4]
    hidden = excluded_mask(drawn, np.array([0, 0, 1, 2]), np.array([3, 9, 1, 0]), 3)
    assert np.argwhere(hidden).tolist() == [[0, 2], [1, 1]]
