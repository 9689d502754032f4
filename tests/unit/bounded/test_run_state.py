"""What a run knows of the runs before it: repeats, late events, revisions."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import feature_rows

from pipelines.arrow.hashing import hash_strings
from pipelines.bounded.between_runs.run_state import (
    RunState,
    advance,
    as_revisions,
    last_end,
    load_run_state,
    read_ends,
    save_run_state,
    split_by_novelty,
    write_ends,
    write_ids,
)
from pipelines.config import FeatureConfig, WindowSpec
from pipelines.schema import EVENTS

HOUR = 3_600_000
CONFIG = FeatureConfig(window="fixed:1h", dedupe_horizon="10h", allowed_lateness="2h")


def batch(*events: tuple[str, int]) -> pa.RecordBatch:
    blank = dict.fromkeys(EVENTS.names) | {"user_id": "u", "item_id": "i", "event_type": "view"}
    rows = [blank | {"event_id": name, "event_time": time} for name, time in events]
    return pa.RecordBatch.from_pylist(rows, schema=EVENTS)


def past(*seen: tuple[str, int], frontier: int, **more) -> RunState:
    ids = hash_strings(pa.array([name for name, _ in seen], pa.string()))
    order = np.argsort(ids)
    times = np.array([time for _, time in seen], np.int64)
    return RunState(frontier=frontier, ids=ids[order], times=times[order], **more)


def names(events: pa.RecordBatch) -> list[str]:
    return events.column("event_id").to_pylist()


def test_before_any_run_every_event_is_fresh():
    told = split_by_novelty(batch(("a", 0), ("b", -HOUR)), RunState(), CONFIG)
    assert (names(told.fresh), told.repeats, told.others) == (["a", "b"], 0, 0)


def test_each_event_is_told_apart_by_its_id_and_its_age():
    older = {"older": hash_strings(pa.array(["ancient"])), "older_times": np.array([3 * HOUR])}
    stood = past(("seen", 95 * HOUR), ("long ago", 89 * HOUR), frontier=100 * HOUR, **older)
    told = split_by_novelty(
        batch(
            ("seen", 95 * HOUR),  # a repeat
            ("seen", 105 * HOUR),  # within the horizon of 95: a repeat
            ("seen", 105 * HOUR + 1),  # beyond it: it counts again
            ("long ago", 101 * HOUR),  # 12 h after the one that is remembered
            ("old", 90 * HOUR - 1),  # never seen: refused, and not taken for a repeat
            ("ancient", 3 * HOUR),  # seen long ago
            ("late", 97 * HOUR + 1),  # its window ended at 98, two hours before the frontier
            ("too late", 96 * HOUR + 1),
            ("new", 100 * HOUR),
        ),
        stood,
        CONFIG,
    )
    assert names(told.fresh) == ["seen", "long ago", "late", "new"]
    assert names(told.too_late) == ["old", "too late"]
    assert (told.repeats, told.others) == (3, 1)  # the other one: "seen", ten hours later


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 120 * HOUR))))
def test_every_event_is_exactly_one_thing(events):
    stood = past(("a", 95 * HOUR), ("b", 99 * HOUR), frontier=100 * HOUR)
    told = split_by_novelty(batch(*events), stood, CONFIG)
    parts = told.fresh.num_rows + told.too_late.num_rows + told.repeats
    assert parts == len(events)


@pytest.mark.parametrize(
    ("window", "end"), [("fixed:1m", 120_000), ("sliding:3m/1m", 240_000), ("session:5m", 390_000)]
)
def test_the_last_window_of_an_instant(window, end):
    assert last_end(np.array([90_000]), WindowSpec.parse(window)).tolist() == [end]


def test_rows_of_fired_windows_become_revisions():
    rows = feature_rows(12, per_window=4)  # three windows
    first, second, third = sorted(set(rows.rows.column("window_end").cast(pa.int64()).to_pylist()))
    config = FeatureConfig(allowed_lateness="1m")
    stood = RunState(frontier=second, revisions={first: 3})
    told = as_revisions(rows, stood, config)
    ends = told.rows.column("window_end").cast(pa.int64()).to_pylist()
    numbers = set(zip(ends, told.rows.column("revision").to_pylist(), strict=True))
    assert numbers == {(first, 4), (second, 1), (third, 0)}
    gone = as_revisions(rows, RunState(frontier=third), FeatureConfig(allowed_lateness="1m"))
    assert len(gone) == 8, "a window more than a minute behind is not revised"
    assert as_revisions(rows, RunState(), config) is rows


def test_what_a_run_leaves_is_what_the_next_one_finds(tmp_path):
    rows = feature_rows(12, per_window=4).rows
    write_ends(tmp_path / "ends.json", rows)
    ends = read_ends(tmp_path / "ends.json")
    assert sorted(ends.values()) == [3, 3, 3]  # the rows' revisions are 0 to 3
    frontier = max(ends)
    recent, old = frontier - HOUR, frontier - 11 * HOUR
    write_ids(tmp_path / "ids-0.arrow", np.array([7, 5], np.uint64), np.array([recent, old]))
    write_ids(tmp_path / "ids-1.arrow", np.array([7], np.uint64), np.array([recent + 1]))
    before = RunState(frontier=5, ids=np.array([9], np.uint64), times=np.array([recent + 2]))
    now = advance(before, ends, tmp_path.glob("ids-*.arrow"), CONFIG)
    assert (now.frontier, now.newest) == (frontier, recent + 2)
    assert now.ids.tolist() == [7, 9]
    assert now.times.tolist() == [recent + 1, recent + 2]
    folder = tmp_path / "state"
    save_run_state(folder, now)
    again = load_run_state(folder)
    assert again.revisions == now.revisions == ends
    assert (again.frontier, again.newest) == (now.frontier, now.newest)
    assert again.ids.tolist() == [7, 9]
    assert (again.older.tolist(), again.older_times.tolist()) == ([5], [old])


def test_nothing_left_is_the_beginning(tmp_path):
    assert load_run_state(tmp_path / "nothing").frontier == RunState().frontier


def test_a_repeat_is_another_event_where_user_item_or_time_differ():
    one = np.array([HOUR, HOUR, HOUR], np.int64)
    users, items = (hash_strings(pa.array(3 * [name])) for name in "ui")
    ids = np.sort(hash_strings(pa.array(["a", "b", "c"])))
    stood = RunState(frontier=HOUR, ids=ids, times=one, users=users, items=items)
    blank = dict.fromkeys(EVENTS.names) | {"user_id": "u", "item_id": "i", "event_type": "view"}
    same = {"event_id": "a", "event_time": HOUR}
    rows = [same, same | {"user_id": "v"}, same | {"item_id": "j"}, same | {"event_time": HOUR - 1}]
    events = pa.RecordBatch.from_pylist([blank | row for row in rows], schema=EVENTS)
    told = split_by_novelty(events, stood, CONFIG)
    assert (told.repeats, told.others, told.fresh.num_rows) == (4, 3, 0)


def leave(folder, at: list[int], users: list[str], before: RunState | None = None) -> RunState:
    """Where a run stands after events at these times, in windows of an hour."""
    times = np.array(at, np.int64)
    ids = hash_strings(pa.array([f"{len(str(folder))}-{n}" for n in range(len(at))]))
    write_ids(folder / "ids-0.arrow", ids, times, hash_strings(pa.array(users)), ids)
    ends = dict.fromkeys(last_end(times, CONFIG.window).tolist(), 0)
    return advance(before or RunState(), ends, [folder / "ids-0.arrow"], CONFIG)


def test_one_wrong_clock_moves_the_frontier_for_nobody(tmp_path):
    at = [n * HOUR // 10 for n in range(300)]  # 30 hours, ten events in each
    users = [f"u{n % 20}" for n in range(300)]
    right = leave(tmp_path, at, users)
    assert right.frontier == 30 * HOUR
    odd = 270 * HOUR
    bent = leave(tmp_path, [*at, odd], [*users, "u3"])
    assert (bent.frontier, bent.newest) == (right.frontier, odd)
    assert bent.revisions == {odd + HOUR: 0}, "what was told ahead of the frontier is remembered"
    next_day = batch(*((f"n{n}", 30 * HOUR + n * HOUR // 10) for n in range(300)))
    assert split_by_novelty(next_day, bent, CONFIG).fresh.num_rows == 300
    # Once the log has come so far, the odd window is one that was told.
    rows = feature_rows(4, per_window=4)
    end = rows.rows.column("window_end").cast(pa.int64())[0].as_py()
    revised = as_revisions(rows, RunState(frontier=end - HOUR, revisions={end: 0}), CONFIG)
    assert set(revised.rows.column("revision").to_pylist()) == {1}


def test_a_log_that_goes_on_moves_the_frontier(tmp_path):
    first = leave(tmp_path, [n * HOUR for n in range(100)], [f"u{n % 7}" for n in range(100)])
    # An event an hour. One user alone is not believed at once; a tenth of all events are.
    one = leave(tmp_path, [103 * HOUR], ["u1"], before=first)
    many = leave(tmp_path, [n * HOUR for n in range(100, 150)], 50 * ["u1"], before=first)
    assert (first.frontier, one.frontier, many.frontier) == (100 * HOUR, 100 * HOUR, 147 * HOUR)
    # 60 events are remembered; six of them, from 144 to 149, are within two hours of 146.
    two = leave(tmp_path, [100 * HOUR, 101 * HOUR], ["u1", "u2"], before=first)
    assert two.frontier == 102 * HOUR


def test_what_is_remembered_of_old_ids_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.bounded.between_runs.run_state.OLDER", 3)
    stood = leave(tmp_path, [n * HOUR for n in range(30)], [f"u{n % 7}" for n in range(30)])
    # The frontier is at 30 h: what is not within ten hours of it is old, of that the newest stay.
    assert sorted(stood.older_times.tolist()) == [17 * HOUR, 18 * HOUR, 19 * HOUR]
    assert stood.older.tolist() == sorted(stood.older.tolist())
