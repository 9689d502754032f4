"""How far a log has come: by many clocks, never by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.bounded.between_runs.frontier import needed, reached

HOUR = 3_600_000
TIMES = st.lists(st.tuples(st.integers(0, 100 * HOUR), st.integers(0, 9)), min_size=1)


def plainly(times: list[int], users: list[int], slack: int) -> int:
    """The rule, word by word."""
    wanted = needed(np.array(times), slack)
    for time in sorted(times, reverse=True):
        near = [user for t, user in zip(times, users, strict=True) if t >= time - slack]
        if len(near) >= wanted and len(set(near)) >= min(wanted, len(set(users))):
            return time
        if len(near) >= len(times) / 10:
            return time
    raise AssertionError("the first event is supported by all")


@given(TIMES, st.sampled_from([0, HOUR, 24 * HOUR]), st.randoms())
def test_it_is_the_rule_whatever_the_order(events, slack, random):
    times, users = zip(*events, strict=True)
    found = reached(np.array(times), np.array(users, np.uint64), slack)
    assert found == plainly(list(times), list(users), slack)
    random.shuffle(events)
    times, users = zip(*events, strict=True)
    assert reached(np.array(times), np.array(users, np.uint64), slack) == found


@given(st.integers(1, 30 * 24), st.integers(1, 30))
def test_one_user_ahead_moves_nothing(hours, repeats):
    times = np.arange(300) * HOUR // 10
    users = np.arange(300).astype(np.uint64) % 20
    odd = np.full(repeats, times[-1] + (hours + 1) * HOUR)
    ahead = np.append(times, odd), np.append(users, np.full(repeats, 3, np.uint64))
    assert reached(*ahead, HOUR) == reached(times, users, HOUR) == times[-1]


def test_of_a_log_of_few_every_event_counts():
    times = np.array([0, 150 * HOUR])
    assert reached(times, np.zeros(2, np.uint64), HOUR) == 150 * HOUR


def test_a_large_log_asks_for_more_than_a_few_wrong_clocks():
    per_hour, hours = 5_000, 24
    times = np.arange(per_hour * hours) * HOUR // per_hour
    users = np.arange(len(times)).astype(np.uint64)
    assert needed(times, HOUR) == per_hour // 100
    odd = np.full(40, times[-1] + 5 * HOUR)
    ahead = np.append(times, odd), np.append(users, np.arange(40).astype(np.uint64))
    assert reached(*ahead, HOUR) == times[-1]
