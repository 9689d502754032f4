"""Sparse pairs: against dicts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.memory.pair_counts import PairCounts
from models.memory.seen_items import SeenItems

HOUR = 3_600_000

triples = st.lists(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 50)), min_size=1, max_size=8
    ),
    max_size=8,
)


@given(triples, st.lists(st.integers(0, 5), max_size=4), st.booleans())
def test_seen_sets_hold_the_first_time_of_each_pair(batches, users, merge):
    seen, oracle = SeenItems(per_user=100), {}
    for batch in batches:
        user, item, time = (np.array(column) for column in zip(*batch, strict=True))
        seen.add(user, item, time)
        for u, i, t in batch:
            if u and i:
                oracle[u, i] = min(t, oracle.get((u, i), t))
        if merge:
            seen._merge()
    owner, item, time = seen.of(np.array(users, np.int64))
    found = sorted(zip(owner.tolist(), item.tolist(), time.tolist(), strict=True))
    expected = [(p, i, t) for p, u in enumerate(users) for (v, i), t in oracle.items() if u == v]
    assert found == sorted(expected)
    assert len(seen) == len(oracle)


def test_the_newest_pairs_of_a_user_stay():
    seen = SeenItems(per_user=2)
    seen.add(np.array([1, 1, 1, 2]), np.array([1, 2, 3, 4]), np.array([30, 10, 20, 5]))
    seen._merge()
    owner, item, _ = seen.of(np.array([1, 2]))
    assert sorted(zip(owner.tolist(), item.tolist(), strict=True)) == [(0, 1), (0, 3), (1, 4)]


def test_recycled_rows_are_forgotten():
    seen = SeenItems(per_user=10)
    seen.add(np.array([1, 1, 2, 3]), np.array([7, 8, 7, 9]), np.zeros(4, np.int64))
    seen.drop(users=np.array([3]), items=np.array([7]))
    assert len(seen) == 1
    assert seen.of(np.array([1]))[1].tolist() == [8]


stayed = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(1, 15)), max_size=6),
    min_size=1,
    max_size=6,
)


@given(stayed, st.lists(st.booleans(), min_size=6, max_size=6))
def test_the_last_known_dwell_of_a_pair_stays(batches, merges):
    seen, oracle = SeenItems(per_user=100), {}
    for batch, merge in zip(batches, merges, strict=False):
        user, item, stay = np.array(batch, np.int64).reshape(-1, 3).T
        half = len(batch) // 2  # of the others no interaction is known yet
        seen.add(user[:half], item[:half], np.zeros(half, np.int64))
        if merge:
            seen._merge()
        for u, i, _ in batch[:half]:
            if u and i:
                oracle.setdefault((u, i), 0)
        seen.add_dwells(user, item, stay)
        for u, i, s in batch:
            if (u, i) in oracle:
                oracle[u, i] = s
    every = np.array([(u, i) for u in range(5) for i in range(7)])
    copy = SeenItems(per_user=100)
    copy.load(seen.arrays())
    found = copy.dwells(every[:, 0], every[:, 1])
    assert found.tolist() == [oracle.get(pair, 0) for pair in map(tuple, every.tolist())]


def test_seen_sets_survive_a_checkpoint():
    seen = SeenItems(per_user=10)
    seen.add(np.array([1, 2]), np.array([3, 4]), np.array([5, 6]))
    again = SeenItems(per_user=10)
    again.load(seen.arrays())
    again.add(np.array([1]), np.array([3]), np.array([1]))
    assert again.of(np.array([1, 2]))[2].tolist() == [1, 6]
    assert seen.of(np.array([1]))[2].tolist() == [5]


@given(triples)
def test_pair_counts_add_up(batches):
    pairs, oracle = PairCounts(limit=1_000), {}
    for batch in batches:
        left, right, weight = (np.array(column) for column in zip(*batch, strict=True))
        pairs.add(left, right, weight.astype(float), 0)
        for a, b, w in batch:
            oracle[a, b] = oracle.get((a, b), 0) + w
    for left in range(5):
        items, weights = pairs.of(left)
        assert dict(zip(items.tolist(), weights.tolist(), strict=True)) == {
            b: w for (a, b), w in oracle.items() if a == left
        }


def test_pairs_decay_relative_to_each_other_and_never_overflow():
    pairs = PairCounts(limit=10, half_life_h=1.0)
    one = np.ones(1)
    start = 1_700_000_000_000
    pairs.add(np.array([1]), np.array([1]), one, start)
    pairs.add(np.array([1]), np.array([2]), one, start + 2 * HOUR)
    items, weights = pairs.of(1)
    assert items.tolist() == [1, 2]
    assert weights[0] / weights[1] == pytest.approx(0.25)
    assert weights[1] * pairs.scale(start + 3 * HOUR) == pytest.approx(0.5)
    pairs.add(np.array([1]), np.array([3]), one, start + 100_000 * HOUR)
    assert np.isfinite(pairs.of(1)[1]).all()
    assert pairs.of(1)[1].argmax() == 2


def test_the_lightest_pairs_go_first():
    pairs = PairCounts(limit=8)
    pairs.add(np.zeros(9, np.int64), np.arange(9), np.arange(9, dtype=float), 0)
    pairs._merge()
    assert sorted(pairs.of(0)[0].tolist()) == [2, 3, 4, 5, 6, 7, 8]


def test_pairs_of_recycled_rows_are_forgotten():
    pairs = PairCounts(limit=10)
    pairs.add(np.array([1, 2, 3]), np.array([2, 3, 4]), np.ones(3), 0)
    pairs.drop(np.array([2]), left=True, right=True)
    assert len(pairs) == 1
    copy = PairCounts(limit=10)
    copy.load(pairs.arrays())
    assert copy.of(3)[0].tolist() == [4]
