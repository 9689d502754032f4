"""Which items are published anew: the calendar against a look at every item."""

import numpy as np

from models.memory.republish_schedule import StaleCounts

HOUR = 3_600_000
NEVER = np.iinfo(np.int64).min
HALF_LIVES = (0.25, 1.0, 48.0)


def by_looking_at_all(now: int, last: np.ndarray, published: np.ndarray) -> np.ndarray:
    """The rule as it is told: half the time since the last event, at least 7.5 minutes."""
    held = np.flatnonzero((last > NEVER) & (now - last < 4 * 48 * HOUR))
    wait = np.maximum((now - last[held]) // 2, HOUR // 8)
    return held[now - published[held] >= wait]


def test_what_is_due_is_what_a_look_at_all_finds():
    rng = np.random.default_rng(0)
    calendar, n = StaleCounts(HALF_LIVES), 300
    last, published = np.full(n, NEVER), np.full(n, NEVER)
    now, some = 1_700_000_000_000, 0
    for turn in range(400):
        now += int(rng.integers(1, 2 * HOUR if turn % 50 else 100 * HOUR))
        touched = np.unique(rng.integers(0, n, 3))
        last[touched], published[touched] = now, now
        expected = by_looking_at_all(now, last, published)
        found = calendar.take(now, last, published, n)
        assert np.sort(found).tolist() == expected.tolist()
        both = np.union1d(touched, found)
        published[both] = now
        calendar.note(both, last[both], published[both])
        some += len(found)
    assert some > 400


def test_beyond_the_limit_they_stay_due_the_longest_waiting_first():
    calendar = StaleCounts(HALF_LIVES)
    last = np.array([0, 0, 0, 0])
    published = np.array([3, 1, 2, 0]) * 1_000
    calendar.note(np.arange(4), last, published)
    assert calendar.take(HOUR, last, published, 2).tolist() == [3, 1]
    published[[3, 1]] = HOUR
    assert calendar.take(HOUR, last, published, 9).tolist() == [2, 0]
    assert calendar.take(HOUR, last, published, 9).tolist() == []


def test_what_was_recycled_is_forgotten():
    calendar = StaleCounts(HALF_LIVES)
    last, published = np.zeros(2, np.int64), np.zeros(2, np.int64)
    calendar.note(np.arange(2), last, published)
    last[0] = NEVER
    assert calendar.take(HOUR, last, published, 9).tolist() == [1]
