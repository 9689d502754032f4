"""The kernel against the oracle, and by numbers derived here by hand."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import deduplicate, feature_rows, from_batch, load_events
from strategies import START, configs, logs

from pipelines.config import FeatureConfig
from pipelines.features.aggregate import compute
from pipelines.schema import EVENTS, FEATURES


def batch_of(events):
    return pa.RecordBatch.from_pylist(events, schema=EVENTS)


def rows_of(events, config):
    batch = compute(batch_of(events), config).materialise()
    batch.validate(full=True)
    assert batch.schema.equals(FEATURES)
    return from_batch(batch)


def assert_same(got, want):
    """Rows equal: integers and strings exactly, floats to 1e-9."""
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        floats = {k for k, v in other.items() if isinstance(v, float)}
        assert {k: v for k, v in one.items() if k not in floats} == {
            k: v for k, v in other.items() if k not in floats
        }
        for name in floats:
            assert math.isclose(one[name], other[name], rel_tol=1e-9, abs_tol=1e-9), name


@given(logs(), configs)
def test_rows_equal_the_oracles(events, config):
    unique = deduplicate(events, config.dedupe_horizon)
    assert_same(rows_of(unique, config), feature_rows(events, config))


@given(logs(), configs, st.randoms(use_true_random=False))
def test_order_of_arrival_and_encoding_leave_no_trace(events, config, random):
    unique = deduplicate(events, config.dedupe_horizon)
    shuffled = random.sample(unique, len(unique))
    batch = batch_of(shuffled)
    for name in ("user_id", "item_id", "event_type"):
        at = batch.schema.get_field_index(name)
        batch = batch.set_column(at, name, batch.column(at).dictionary_encode())
    plain, encoded = compute(batch_of(unique), config), compute(batch, config)
    assert plain.materialise().equals(encoded.materialise())


@given(logs(), configs)
def test_a_row_of_an_encoded_batch_reads_the_same(events, config):
    rows = compute(batch_of(deduplicate(events, config.dedupe_horizon)), config)
    encoded = rows.materialise(encoded=True)
    assert [f.nullable for f in encoded.schema] == [f.nullable for f in FEATURES]
    assert from_batch(encoded) == from_batch(rows.materialise())


@pytest.mark.parametrize("name", ["otto_sessions", "kuairand_likes", "movielens_small"])
def test_rows_of_real_logs_equal_the_oracles(real_log, name):
    config = FeatureConfig()
    events = load_events(real_log(name) / "events.parquet")
    unique = deduplicate(events, config.dedupe_horizon)
    assert_same(rows_of(unique, config), feature_rows(events, config))


def event(event_id, seconds, kind, item="a", user="u", **more):
    blank = dict.fromkeys(EVENTS.names)
    known = {"event_id": event_id, "user_id": user, "item_id": item, "event_type": kind}
    return blank | known | {"event_time": MINUTE + round(1000 * seconds)} | more


MINUTE = START - START % 60_000
"""A whole minute: here begins a window of `fixed:60s`."""


def test_dwell_is_known_when_the_user_moves_on_and_lies_in_that_window():
    events = [
        event("1", 50, "view", "a", platform="web"),
        event("2", 70, "view", "b", platform="app"),
        event("3", 75, "like", "b"),
    ]
    first, second, third = rows_of(events, FeatureConfig())
    assert (first["item_id"], first["n_view"], first["n_dwell"]) == ("a", 1, 0)
    assert first["dwell_ms_max"] is None
    # The dwell on a: 20 s, seen at second 70, in the next minute's row of a.
    assert (second["item_id"], second["n_view"], second["dwell_ms_sum"]) == ("a", 0, 20_000)
    assert second["window_start"] == MINUTE + 60_000
    assert second["anchor_time"] == MINUTE + 50_000
    assert second["platform"] == "web"
    assert second["confidence"] == pytest.approx(1 + 0.5 * math.log(21))
    assert (third["item_id"], third["dwell_ms_sum"], third["n_like"]) == ("b", 5_000, 1)
    assert third["confidence"] == pytest.approx(1 + 0.5 * math.log(6) + 0.1 + 1)
    assert (third["since_event_ms"], third["since_item_ms"]) == (20_000, None)
    assert (third["history_items"], third["history_age_ms"]) == (["a"], [20_000])


@pytest.mark.parametrize(
    ("gap", "sessions", "known"),
    [
        (1800, (None, None), True),  # just the session gap
        (1800.001, (None, None), False),
        (10, ("s", "s"), True),
        (10, ("s", None), True),
        (10, ("s", "t"), False),
    ],
)
def test_when_a_dwell_becomes_known(gap, sessions, known):
    events = [
        event("1", 0, "click", session_id=sessions[0]),
        event("2", gap, "impression", "b", session_id=sessions[1]),
    ]
    assert sum(row["n_dwell"] for row in rows_of(events, FeatureConfig())) == known


def test_purchases_give_interval_and_value():
    events = [
        event("1", 0, "purchase", "a", value=10.0),
        event("2", 30, "purchase", "b", value=None),
        event("3", 100, "purchase", "c", value=2.5),
        event("4", 160, "cart", "d"),
    ]
    rows = {row["item_id"]: row for row in rows_of(events, FeatureConfig())}
    assert [rows[i]["purchase_value"] for i in "abcd"] == [10.0, 0.0, 2.5, 0.0]
    assert [rows[i]["purchase_interval_ms"] for i in "abcd"] == [None, None, 30_000.0, 50_000.0]
    assert [rows[i]["since_purchase_ms"] for i in "abcd"] == [None, 30_000, 70_000, 60_000]


@pytest.mark.parametrize(("gap", "remembered"), [(10, True), (10.001, False)])
def test_retention_lets_a_user_start_anew(gap, remembered):
    events = [event("1", 0, "view"), event("2", gap, "view")]
    rows = rows_of(events, FeatureConfig(retention="10s", window="fixed:1s"))
    last = next(r for r in rows if r["n_view"] and r["anchor_time"] > MINUTE)
    assert (last["since_event_ms"] is not None) == remembered
    assert (last["history_items"] == ["a"]) == remembered
    assert (sum(r["n_dwell"] for r in rows) == 1) == remembered


def test_a_gap_as_long_as_the_sessions_begins_another():
    events = [event("1", 0, "like"), event("2", 9.999, "like"), event("3", 19.999, "like")]
    rows = rows_of(events, FeatureConfig(window="session:10s"))
    spans = [(r["window_start"] - MINUTE, r["window_end"] - MINUTE) for r in rows]
    assert spans == [(0, 19_999), (19_999, 29_999)]


def test_a_log_without_events_has_no_rows():
    rows = compute(batch_of([]), FeatureConfig()).materialise()
    assert rows.num_rows == 0
    assert rows.schema.equals(FEATURES)
