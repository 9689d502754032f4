"""The baselines against loops that follow their definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import ModelConfig
from models.memory.online_baselines import Baselines, Excluded

HOUR = 3_600_000
START = 1_700_000_000_000
CONFIG = ModelConfig(baseline_half_lives_h=(1.0, 3.0), baseline_smoothing=(1.0, 50.0))
ITEMS = 7

events = st.lists(
    st.tuples(st.integers(1, ITEMS - 1), st.integers(0, ITEMS - 1), st.integers(0, 5)),
    min_size=1,
    max_size=12,
)


def slow_score(past, last, half_life, m, now, known, item):
    """(T + m·p) / (R + m), or p alone; R is the same for all items of a row."""
    weight = {
        i: sum(0.5 ** ((now - t * HOUR) / HOUR / half_life) for j, _, t in past if i == j)
        for i in known
    }
    p = weight[item] / (sum(weight.values()) or 1)
    if m is None:
        return p
    moves = [j for j, before, _ in past if before == last and last]
    return (moves.count(item) + m * p) / (len(moves) + m)


@given(events, st.integers(0, ITEMS - 1), st.integers(1, ITEMS - 1), st.data())
def test_every_arm_ranks_as_its_definition_says(past, last, true, data):
    hidden = data.draw(st.sets(st.integers(1, ITEMS - 1)))
    known = [i for i in range(1, ITEMS) if i == true or i % 4]
    excluded = sorted(hidden & set(known) - {true})
    base = Baselines(CONFIG, ITEMS)
    for item, before, time in past:
        base.update(np.array([item]), np.array([before]), np.array([START + time * HOUR]))
    mask = np.isin(np.arange(ITEMS), known)
    pairs = Excluded(np.zeros(len(excluded), np.int64), np.array(excluded, np.int64))
    now = START + 6 * HOUR
    arms = base.ranks(now, mask, np.array([true]), np.array([last]), pairs)
    for index in range(arms.greater.shape[1]):
        arm = base.arm(index)
        half_life = arm["half_life_h"] or np.inf
        scores = {
            i: slow_score(past, last, half_life, arm.get("m"), 6 * HOUR, known, i)
            for i in known
            if i not in excluded
        }
        own = scores.pop(true)
        near = [abs(s - own) < 1e-12 for s in scores.values()]
        above = sum(s > own and not n for s, n in zip(scores.values(), near, strict=True))
        # Levels that differ by rounding alone may fall either way.
        assert above <= arms.greater[0, index] <= above + sum(near), arm
        assert arms.greater[0, index] + arms.ties[0, index] <= above + sum(near)


def test_rows_do_not_disturb_each_other():
    base = Baselines(CONFIG, 9)
    rng = np.random.default_rng(0)
    items, before = rng.integers(1, 9, 200), rng.integers(0, 9, 200)
    base.update(items, before, np.full(200, START))
    known = np.arange(9) > 0
    true, last = np.array([3, 4, 5]), np.array([1, 0, 2])
    pairs = Excluded(np.array([0, 0, 2]), np.array([4, 5, 1]))
    together = base.ranks(START, known, true, last, pairs)
    for row in range(3):
        mine = pairs.row == row
        alone = base.ranks(
            START,
            known,
            true[[row]],
            last[[row]],
            Excluded(np.zeros(mine.sum(), np.int64), pairs.item[mine]),
        )
        assert np.array_equal(together.greater[[row]], alone.greater)
        assert np.array_equal(together.ties[[row]], alone.ties)


def test_many_rows_are_ranked_in_pieces(monkeypatch):
    base = Baselines(CONFIG, 9)
    rng = np.random.default_rng(1)
    base.update(rng.integers(1, 9, 50), rng.integers(0, 9, 50), np.full(50, START))
    true, last = rng.integers(1, 9, 12), rng.integers(0, 9, 12)
    row = np.repeat(np.arange(12), 2)
    pairs = Excluded(row, (true[row] + np.tile([0, 2], 12)) % 8 + 1)
    whole = base.ranks(START, np.arange(9) > 0, true, last, pairs)
    monkeypatch.setattr("models.memory.online_baselines._CELLS", 1)
    pieces = base.ranks(START, np.arange(9) > 0, true, last, pairs)
    assert np.array_equal(whole.greater, pieces.greater)
    assert np.array_equal(whole.ties, pieces.ties)


def test_some_arms_rank_as_they_do_among_all():
    base = Baselines(CONFIG, 9)
    rng = np.random.default_rng(2)
    base.update(rng.integers(1, 9, 50), rng.integers(0, 9, 50), np.full(50, START))
    known, true, last = np.arange(9) > 0, rng.integers(1, 9, 12), rng.integers(0, 9, 12)
    row = np.repeat(np.arange(12), 2)
    pairs = Excluded(row, (true[row] + np.tile([0, 2], 12)) % 8 + 1)
    every = base.ranks(START, known, true, last, pairs)
    some = [8, 0, 2, 5]
    alone = base.ranks(START, known, true, last, pairs, some)
    assert np.array_equal(alone.greater, every.of(some).greater)
    assert np.array_equal(alone.ties, every.of(some).ties)


def test_the_arm_that_leads_is_reported():
    base = Baselines(CONFIG, 60)
    # Item 1 was loved long ago, item 2 of late; an hour's half-life sees only the second.
    base.update(np.full(9, 1), np.zeros(9, np.int64), np.full(9, START))
    base.update(np.full(3, 2), np.zeros(3, np.int64), np.full(3, START + 9 * HOUR))
    known = np.arange(60) > 0
    none = Excluded(np.zeros(0, np.int64), np.zeros(0, np.int64))
    arms = base.ranks(START + 9 * HOUR, known, np.array([2]), np.array([0]), none)
    base.count(arms)
    leading = base.leading()
    assert leading["popularity"] == 0
    ranks = base.ranks(
        START + 9 * HOUR, known, np.array([2]), np.array([0]), none, tuple(leading.values())
    )
    figures = base.figures(leading, ranks, missed=1)
    assert figures["popularity"]["half_life_h"] == 1.0
    assert figures["popularity"]["recall@20"] == pytest.approx(0.5)  # one of two was unknown
    assert figures["popularity"]["ndcg@20"] == pytest.approx(0.5)
    assert base.arm(2) == {"half_life_h": None}
    assert base.arm(3) == {"half_life_h": 1.0, "m": 1.0}


def test_nothing_known_yet():
    base = Baselines(CONFIG, 3)
    none = Excluded(np.zeros(0, np.int64), np.zeros(0, np.int64))
    empty = np.zeros(0, np.int64)
    base.count(base.ranks(START, np.zeros(3, bool), empty, empty, none))
    leading = base.leading()
    ranks = base.ranks(START, np.zeros(3, bool), empty, empty, none, tuple(leading.values()))
    assert base.figures(leading, ranks, missed=2)["transitions"]["recall@20"] == 0
