"""What a run knows of the runs before it: repeats, late events, revisions."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rows import feature_rows

from pipelines.arrow.hashing import hash_strings
from pipelines.bounded.run_state import (
    Past,
    advance,
    last_end,
    load,
    read_ends,
    revise,
    save,
    tell_apart,
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


def past(*seen: tuple[str, int], frontier: int, **more) -> Past:
    ids = hash_strings(pa.array([name for name, _ in seen], pa.string()))
    order = np.argsort(ids)
    times = np.array([time for _, time in seen], np.int64)
    return Past(frontier=frontier, ids=ids[order], times=times[order], **more)


def names(events: pa.RecordBatch) -> list[str]:
    return events.column("event_id").to_pylist()


def test_before_any_run_every_event_is_fresh():
    told = tell_apart(batch(("a", 0), ("b", -HOUR)), Past(), CONFIG)
    assert (names(told.fresh), told.repeats, told.ancient) == (["a", "b"], 0, 0)


def test_each_event_is_told_apart_by_its_id_and_its_age():
    stood = past(("seen", 95 * HOUR), ("long ago", 89 * HOUR), frontier=100 * HOUR)
    told = tell_apart(
        batch(
            ("seen", 95 * HOUR),  # a repeat
            ("seen", 105 * HOUR),  # within the horizon of 95: a repeat
            ("seen", 105 * HOUR + 1),  # beyond it: it counts again
            ("long ago", 101 * HOUR),  # 12 h after the one that is remembered
            ("old", 90 * HOUR - 1),  # nobody remembers ids from then
            ("late", 97 * HOUR + 1),  # its window ended at 98, two hours before the frontier
            ("too late", 96 * HOUR + 1),
            ("new", 100 * HOUR),
        ),
        stood,
        CONFIG,
    )
    assert names(told.fresh) == ["seen", "long ago", "late", "new"]
    assert names(told.too_late) == ["too late"]
    assert (told.repeats, told.ancient) == (2, 1)


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 120 * HOUR))))
def test_every_event_is_exactly_one_thing(events):
    stood = past(("a", 95 * HOUR), ("b", 99 * HOUR), frontier=100 * HOUR)
    told = tell_apart(batch(*events), stood, CONFIG)
    parts = told.fresh.num_rows + told.too_late.num_rows + told.repeats + told.ancient
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
    stood = Past(frontier=second, revisions={first: 3})
    told = revise(rows, stood, config)
    ends = told.rows.column("window_end").cast(pa.int64()).to_pylist()
    numbers = set(zip(ends, told.rows.column("revision").to_pylist(), strict=True))
    assert numbers == {(first, 4), (second, 1), (third, 0)}
    gone = revise(rows, Past(frontier=third), FeatureConfig(allowed_lateness="1m"))
    assert len(gone) == 8, "a window more than a minute behind is not revised"
    assert revise(rows, Past(), config) is rows


def test_what_a_run_leaves_is_what_the_next_one_finds(tmp_path):
    rows = feature_rows(12, per_window=4).rows
    write_ends(tmp_path / "ends.json", rows)
    ends = read_ends(tmp_path / "ends.json")
    assert sorted(ends.values()) == [3, 3, 3]  # the rows' revisions are 0 to 3
    frontier = max(ends)
    recent, old = frontier - HOUR, frontier - 11 * HOUR
    write_ids(tmp_path / "ids-0.arrow", np.array([7, 5], np.uint64), np.array([recent, old]))
    write_ids(tmp_path / "ids-1.arrow", np.array([7], np.uint64), np.array([recent + 1]))
    before = Past(frontier=5, ids=np.array([9], np.uint64), times=np.array([recent + 2]))
    now = advance(before, ends, tmp_path.glob("ids-*.arrow"), CONFIG)
    assert (now.frontier, now.newest) == (frontier, recent + 2)
    assert now.ids.tolist() == [7, 9]
    assert now.times.tolist() == [recent + 1, recent + 2]
    folder = tmp_path / "state"
    save(folder, now)
    again = load(folder)
    assert again.revisions == now.revisions == ends
    assert (again.frontier, again.newest) == (now.frontier, now.newest)
    assert again.ids.tolist() == [7, 9]


def test_nothing_left_is_the_beginning(tmp_path):
    assert load(tmp_path / "nothing").frontier == Past().frontier
