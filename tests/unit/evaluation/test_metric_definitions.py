"""The figures of an evaluation against slow, plain definitions."""

import math

import numpy as np
import pyarrow as pa
import pytest
from feedback_rows import plain_batch

from models.evaluation.head_metrics import HeadMetrics
from models.evaluation.list_metrics import Categories, ListMetrics, RecommendedLists
from models.evaluation.mean_baselines import RunningMeans
from models.evaluation.metric_definitions import (
    calibration_bins,
    calibration_error,
    logloss,
    novelty,
    per_request,
    per_row,
    spearman,
    spread,
    weighted_auc,
    weighted_calibration,
    weighted_spearman,
)
from models.evaluation.metric_sums import CELLS, MetricSums, TimeCells, compare_with_arm
from models.evaluation.slices import NEW, SLICES, SliceOfRows
from models.feature_batch import head_targets
from models.memory.running_stats import PRIOR


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_figures_of_rows_by_listing_the_ranking():
    rng = draw()
    known = rng.random(60) < 0.8
    greater = rng.integers(0, 30, (known.sum(), 2))
    found = per_row(greater, np.zeros_like(greater), known, 10)
    at = 0
    for row in range(60):
        for arm in range(2):
            rank = greater[at, arm] + 1 if known[row] else math.inf
            wanted = [
                float(rank <= 10),
                1 / math.log2(1 + rank) if rank <= 10 else 0.0,
                1 / rank if rank <= 10 else 0.0,
            ]
            assert found[:, row, arm] == pytest.approx(wanted)
        at += known[row]


def test_ties_are_the_mean_over_the_places_they_may_take():
    greater, ties, k = 8, 5, 10
    places = range(greater + 1, greater + ties + 2)
    found = per_row(np.array([[greater]]), np.array([[ties]]), np.array([True]), k)[:, 0, 0]
    gains = [
        [float(p <= k) for p in places],
        [1 / math.log2(1 + p) if p <= k else 0 for p in places],
        [1 / p if p <= k else 0 for p in places],
    ]
    assert found == pytest.approx([sum(g) / len(g) for g in gains])


def test_a_request_is_all_that_a_user_asks_in_a_batch():
    rng = draw(1)
    user, recall = rng.integers(0, 6, 40), (rng.random((40, 3)) < 0.4).astype(float)
    found = per_request(recall, user, 20)
    for place, one in enumerate(sorted(set(user.tolist()))):
        for arm in range(3):
            answered = recall[user == one, arm]
            hits, asked = answered.sum(), len(answered)
            precision, share = hits / 20, hits / asked
            f1 = 2 * precision * share / (precision + share) if hits else 0.0
            assert found[:, place, arm] == pytest.approx([float(hits > 0), precision, f1])


def test_no_request_without_questions():
    assert per_request(np.zeros((0, 4)), np.zeros(0, int), 5).shape == (3, 0, 4)


def test_diversity_is_the_mean_over_all_pairs():
    lists = draw(2).normal(size=(4, 5, 3))
    lists[0, 0] = 0.0

    def cosine(a, b):
        length = math.sqrt((a @ a) * (b @ b))
        return a @ b / length if length else 0.0

    for one, found in zip(lists, spread(lists), strict=True):
        pairs = [1 - cosine(one[i], one[j]) for i in range(5) for j in range(i)]
        assert found == pytest.approx(sum(pairs) / len(pairs))


def test_bits_of_surprise():
    assert novelty([7, 0], total=24, items=8).tolist() == [2.0, 5.0]


def test_auc_counts_pairs():
    rng = draw(3)
    y, p = rng.random(80) < 0.3, rng.integers(0, 12, 80)
    weights = rng.integers(0, 4, 80)
    _, group = np.unique(p, return_inverse=True)
    right = total = 0.0
    for i in np.flatnonzero(y):
        for j in np.flatnonzero(~y):
            pair = weights[i] * weights[j]
            total += pair
            right += pair * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert weighted_auc(y, group, weights) == pytest.approx(right / total)
    assert math.isnan(weighted_auc(np.ones(3), np.arange(3), np.ones(3)))


def test_spearman_by_the_classical_formula():
    x, y = draw(4).permutation(30), draw(5).permutation(30)
    wanted = 1 - 6 * ((x - y) ** 2).sum() / (30 * (30**2 - 1))
    assert spearman(x, y) == pytest.approx(wanted)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_calibration_by_sorting_into_bins():
    rng = draw(6)
    p = rng.permutation(np.linspace(0.01, 0.99, 60))
    y = rng.random(60) < p**2
    order = np.argsort(p)
    wanted = sum(
        len(part) / 60 * abs(p[part].mean() - y[part].mean()) for part in np.split(order, 15)
    )
    assert calibration_error(y, p) == pytest.approx(wanted)
    assert calibration_error([0, 0], [0.0, 0.0]) == 0


def test_weights_are_repetitions():
    rng = draw(13)
    x, y = rng.integers(0, 9, 50), rng.integers(0, 9, 50)
    weights = rng.integers(0, 4, 50)
    groups = [np.unique(values, return_inverse=True)[1] for values in (x, y)]
    wanted = spearman(np.repeat(x, weights), np.repeat(y, weights))
    assert weighted_spearman(*groups, weights) == pytest.approx(wanted)
    labels, chances = rng.integers(0, 2, 50), rng.random(50)
    which = calibration_bins(chances)
    often = [np.repeat(values, weights) for values in (labels, chances, which)]
    wanted = weighted_calibration(*often, np.ones(weights.sum()))
    assert weighted_calibration(labels, chances, which, weights) == pytest.approx(wanted)
    assert math.isnan(weighted_spearman(*groups, np.zeros(50)))
    assert math.isnan(weighted_calibration(labels, chances, which, np.zeros(50)))


def test_logloss_of_certainty_is_finite():
    assert logloss([1, 0], [1.0, 1.0]) == pytest.approx([0, -math.log(1e-7)], abs=1e-6)


def test_a_long_log_has_no_more_cells_than_that():
    cells = TimeCells(CELLS * 10 + 1)
    assert len(cells) <= CELLS
    assert cells.of(CELLS * 10) == len(cells) - 1
    assert cells.stride * cells.block <= 50
    assert [TimeCells(3).of(place) for place in range(3)] == [0, 1, 2]


def test_the_tally_adds_up_by_slice_and_arm():
    rng = draw(10)
    tally, other = (MetricSums(TimeCells(4), 2, 10) for _ in range(2))
    every = []
    for cell in range(4):
        n = 30
        greater, user = rng.integers(0, 20, (n, 2)), rng.integers(0, 8, n)
        slices = np.stack([np.ones(n, bool), *(rng.random((len(SLICES) - 1, n)) < 0.5)])
        known = np.ones(n, bool)
        tally.add(cell, (greater, np.zeros_like(greater), known), user, slices)
        other.add(cell, (greater[:, ::-1], np.zeros_like(greater), known), user, slices)
        every.append((greater, slices))
    part = every[1:3]
    span = slice(1, 3)
    for place, name in enumerate(SLICES):
        hits = sum((g[s[place], 1] < 10).sum() for g, s in part)
        rows = sum(s[place].sum() for _, s in part)
        assert tally.mean("recall", span, 1, name).value == pytest.approx(hits / rows)
    hits = [sum((g[:, arm] < 10).sum() for g, _ in part) for arm in (0, 1)]
    told = compare_with_arm(tally, other, "recall", span, 0)
    assert told["ratio"]["value"] == pytest.approx(hits[0] / hits[1], abs=1e-6)
    assert told["difference"]["value"] == pytest.approx((hits[0] - hits[1]) / 60, abs=1e-6)
    assert tally.best("recall", span, range(2)) == int(hits[1] > hits[0])
    assert tally.best("recall", span, range(1, 2)) == 1


def test_slices_by_counting_again():
    rng = draw(11)
    activity = SliceOfRows()
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    for _ in range(12):
        pairs = [(f"u{rng.integers(9)}", f"i{rng.integers(15) ** 2 // 15}") for _ in range(40)]
        batch = plain_batch(pairs)
        rows = np.flatnonzero(batch.wanted)
        found = dict(zip(SLICES, activity.before(batch, rows), strict=True))
        assert found["new_users"].tolist() == [users.get(u, 0) < NEW for u, _ in pairs]
        assert found["new_items"].tolist() == [items.get(i, 0) < NEW for _, i in pairs]
        assert (found["new_users"] ^ found["old_users"]).all()
        assert (found["head_items"] ^ found["tail_items"]).all()
        if items:
            head = {
                i for (_, i), is_head in zip(pairs, found["head_items"], strict=True) if is_head
            }
            tail = {i for _, i in pairs} - head
            assert not head or max(items.get(i, 0) for i in tail) <= min(items[i] for i in head)
        for user, item in pairs:
            users[user] = users.get(user, 0) + 1
            items[item] = items.get(item, 0) + 1
        activity.add(batch)
    assert activity.by_item == items
    assert activity.total == sum(items.values())


def test_head_items_are_the_fewest_that_hold_half():
    activity = SliceOfRows()
    activity.add(plain_batch([("u", "a")] * 5 + [("u", "b")] * 3 + [("u", "c")] * 2))
    batch = plain_batch([("v", "a"), ("v", "b"), ("v", "new")])
    found = dict(zip(SLICES, activity.before(batch, np.arange(3)), strict=True))
    assert found["head_items"].tolist() == [True, False, False]
    assert found["tail_items"].tolist() == [False, True, True]


def test_running_means_by_hand():
    means = RunningMeans()
    first = plain_batch([("u", "a"), ("v", "a"), ("u", "b")], likes=[1, 0, 1])
    assert not means.before(first).any()
    means.add(first)
    whole = 2 / 3
    told = means.before(plain_batch([("u", "a"), ("new", "b")], likes=[1, 1]))[:, 1]
    user, item = (2 + PRIOR * whole) / (2 + PRIOR), (1 + PRIOR * whole) / (2 + PRIOR)
    assert told[0] == pytest.approx([whole, user, item, user + item - whole])
    of_b = (1 + PRIOR * whole) / (1 + PRIOR)
    assert told[1] == pytest.approx([whole, whole, of_b, of_b])


def test_running_means_make_room():
    means = RunningMeans()
    for first in (0, 900):
        pairs = [(f"u{first + n}", "a") for n in range(900)]
        batch = plain_batch(pairs, likes=[n % 2 for n in range(900)])
        means.before(batch)
        means.add(batch)
    told = means.before(plain_batch([("u1", "a"), ("u1798", "a")]))[:, 1, 1]
    assert told == pytest.approx([(1 + PRIOR / 2) / (1 + PRIOR), (PRIOR / 2) / (1 + PRIOR)])


def test_heads_are_reported_as_they_predict():
    rng, tally = draw(12), HeadMetrics()
    y, p, new = [], [], []
    for cell in range(30):
        likes = rng.integers(0, 2, 6).tolist()
        batch = plain_batch([(f"u{i}", "a") for i in range(6)], likes=likes)
        predicted = np.full((6, 5), 0.5)
        predicted[:, 1] = rng.random(6)
        slices = np.ones((len(SLICES), 6), bool)
        slices[1] = rng.random(6) < 0.5
        slices[2] = ~slices[1]
        slices[3:] = False
        tally.add(cell, head_targets(batch), predicted, np.full((6, 5, 4), 0.5), slices)
        y += likes
        p += predicted[:, 1].tolist()
        new += slices[1].tolist()
    told = tally.report(5)
    assert set(told) == {"like"}  # the others have no rows, or only one class
    y, p, new = np.array(y), np.array(p), np.array(new)
    model = told["like"]["model"]
    rmse = lambda rows: math.sqrt(np.mean((y - p)[rows] ** 2))  # noqa: E731
    assert model["rmse"]["value"] == pytest.approx(rmse(y >= 0), abs=1e-6)
    assert model["accuracy"]["value"] == pytest.approx(np.mean((p >= 0.5) == y), abs=1e-6)
    assert model["calibration_error"]["value"] == pytest.approx(calibration_error(y, p), abs=1e-6)
    for figure in ("auc", "accuracy", "logloss", "calibration_error", "rmse"):
        found = model[figure]
        assert found["low"] < found["value"] < found["high"]
        assert found["se"] > 0
    assert told["like"]["baselines"]["overall mean"]["auc"] == 0.5
    assert told["like"]["share"] == pytest.approx(y.mean())
    slices = told["like"]["slices"]
    assert set(slices) == {"new_users", "old_users"}
    for name, held in (("new_users", new), ("old_users", ~new)):
        assert slices[name]["rows"] == held.sum()
        assert slices[name]["rmse"]["value"] == pytest.approx(rmse(held), abs=1e-6)
        wanted = weighted_auc(y[held], np.argsort(np.argsort(p[held])), np.ones(held.sum()))
        assert slices[name]["auc"]["value"] == pytest.approx(wanted, abs=1e-6)


def test_lists_by_hand():
    items = pa.table({"item_id": ["a", "b", "c"], "categories": [["x"], ["x", "y"], ["y"]]})
    tally = ListMetrics(Categories(items), TimeCells(2))
    vectors = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    names = ["", "a", "b", "c"]

    def shown(lists, arrived):
        rows = np.unique(np.concatenate(lists))
        return RecommendedLists(
            lists=[np.array(one) for one in lists],
            rows=rows,
            names=[names[row] for row in rows],
            vectors=vectors[rows],
            candidates=4,
            arrived=arrived,
        )

    tally.add(0, shown([[1, 2], [2, 3]], ["a", "b", "c", "d"]), ({"a": 3}, 4))
    tally.add(1, shown([[1]], ["e"]), ({"a": 3}, 4))  # d is gone: still four at a time
    told = tally.report()
    assert told["coverage"] == {"value": 3 / 5}
    assert told["listed"] == 3
    root = 1 / math.sqrt(2)
    values = {name: told[name]["value"] for name in ("diversity", "category_diversity", "novelty")}
    assert values == pytest.approx(
        {
            "diversity": (1 + (1 - root)) / 2,
            "category_diversity": 1 - root,
            "novelty": ((1 + 3) / 2 + 3 + 1) / 3,
        },
        abs=1e-6,
    )
    # Resamples are of the first cell's two lists, of the second's one, or of all.
    assert told["novelty"]["low"] == pytest.approx(1.0, abs=1e-6)
    assert told["novelty"]["high"] == pytest.approx(2.5, abs=1e-6)


def test_few_categories_tell_nothing():
    items = pa.table({"item_id": ["a", "b", "c"], "categories": [["x"], None, None]})
    assert Categories(items).width == 0
    assert Categories(items).of(["a", "b"]).shape == (2, 0)
    assert Categories(None).width == 0
