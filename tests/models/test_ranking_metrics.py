"""Figures from ranks; every number is derived here."""

import math

import numpy as np
import pytest

from models import ranking_metrics


def test_a_constant_score_wins_what_chance_wins():
    scores = np.zeros((1, 100), np.float32)
    greater, ties = ranking_metrics.count_above(scores, np.array([7]))
    assert (greater[0], ties[0]) == (0, 99)
    assert ranking_metrics.recall(greater, ties, 20)[0] == pytest.approx(0.20)
    mean = sum(1 / math.log2(1 + place) for place in range(1, 21)) / 100
    assert ranking_metrics.ndcg(greater, ties, 20)[0] == pytest.approx(mean)


def test_places_without_ties():
    assert ranking_metrics.ndcg([1], [0], 20)[0] == pytest.approx(1 / math.log2(3))
    assert ranking_metrics.reciprocal_rank([3, 20], [0, 0], 20).tolist() == pytest.approx(
        [0.25, 0.0]
    )


def test_ties_across_the_edge():
    # Places 19, 20, 21, 22 are equally likely: two of four are within 20.
    assert ranking_metrics.recall([18], [3], 20)[0] == 0.5
    expected = (1 / math.log2(20) + 1 / math.log2(21)) / 4
    assert ranking_metrics.ndcg([18], [3], 20)[0] == pytest.approx(expected)


def test_nan_never_ranks_first():
    scores = np.array([[np.nan, 1.0, 2.0], [np.nan, -np.inf, 0.0]])
    greater, ties = ranking_metrics.count_above(scores, np.array([0, 0]))
    assert greater.tolist() == [2, 1]
    assert ties.tolist() == [0, 1]  # beside what is left out, not above it


def test_the_order_of_ties_is_fair_and_fixed():
    rows = np.arange(2_000)
    order = ranking_metrics.tie_order(rows, 3)
    assert len(np.unique(order)) == 2_000
    assert not np.array_equal(np.argsort(order), np.argsort(ranking_metrics.tie_order(rows, 4)))
    scores = np.zeros((1, 2_000))
    places = [ranking_metrics.rank_of_true(scores, np.array([i]), order)[0] for i in range(2_000)]
    assert sorted(places) == list(range(1, 2_001))
    assert np.mean(places[:500]) == pytest.approx(1_000, rel=0.1)


def test_best_agrees_with_place():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (1, 50)).astype(float)
    scores[0, ::7] = -np.inf
    order = ranking_metrics.tie_order(np.arange(50), 1)
    best = ranking_metrics.top_columns(scores[0], order, 20)
    assert len(best) == 20
    for place, column in enumerate(best, 1):
        assert ranking_metrics.rank_of_true(scores, np.array([column]), order)[0] == place
    assert np.isfinite(scores[0, ranking_metrics.top_columns(scores[0], order, 50)]).all()


def test_auc_by_counting_pairs():
    rng = np.random.default_rng(1)
    label, score = rng.integers(0, 2, 60), rng.integers(0, 6, 60)
    pairs = [(p > n) + 0.5 * (p == n) for p in score[label == 1] for n in score[label == 0]]
    assert ranking_metrics.auc(label, score) == pytest.approx(np.mean(pairs))
    assert math.isnan(ranking_metrics.auc([1, 1], [0.1, 0.2]))
