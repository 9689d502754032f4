"""Quarantine: a function of content alone, nothing lost, every rule by hand."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clean.quarantine import Suspicion
from pipelines.config import CleanConfig, WindowSpec, load_job
from pipelines.errors import RequestError
from pipelines.read.parse.event_rules import Event, parse_line
from pipelines.schema import DEAD_LETTERS, EVENTS
from tests.support.strategies import START, logs

MINUTE = 60_000
T0 = 1_750_000_020_000  # a whole minute: 29,166,667 · 60,000
rules = st.builds(
    CleanConfig,
    max_events=st.sampled_from([0, 1, 2, 5]),
    per=st.just("1s"),
    max_dwell=st.sampled_from(["0", "1s", "2s"]),
    min_click_dwell=st.sampled_from(["0", "500ms", "1500ms"]),
)
windows = st.sampled_from(["fixed:5s", "sliding:6s/2s", "sliding:5s/2s"]).map(WindowSpec.parse)


def event(number: int, time: int, **more: Any) -> dict[str, Any]:
    known = {"event_id": f"e{number}", "user_id": "u", "item_id": "i", "event_type": "view"}
    return dict.fromkeys(EVENTS.names) | known | {"event_time": time} | more


def apart(events: list[dict[str, Any]], window: str = "fixed:60s", **clean: Any) -> Any:
    batch = pa.RecordBatch.from_pylist(events, schema=EVENTS)
    return Suspicion(CleanConfig(**clean), WindowSpec.parse(window)).set_apart(batch)


def ids(batch: pa.RecordBatch) -> list[str]:
    return sorted(batch.column("event_id").to_pylist())


def content(batch: pa.RecordBatch) -> list[str]:
    return sorted(map(repr, batch.to_pylist()))


def test_all_of_a_flood_is_set_apart_and_no_event_beside_it() -> None:
    flood = [event(n, T0 + n * 100) for n in range(4)]
    beside = [event(8, T0 - 1), event(9, T0 + MINUTE), event(10, T0 + 50, user_id="v")]
    found = apart([*flood, *beside], max_events=3)
    assert ids(found.events) == ["e10", "e8", "e9"]
    assert found.by_rule == {"rate": 4}
    assert found.letters.column("reason").to_pylist() == ["quarantined"] * 4
    detail = found.letters.column("detail")[0].as_py()
    assert "sent 4 events within 60000 ms, clean.max_events allows 3" in detail
    assert apart([*flood, *beside], max_events=4).by_rule == {}


def test_what_is_only_shown_is_no_haste_but_goes_with_it() -> None:
    shown = [event(n, T0 + n, event_type="impression") for n in range(9)]
    assert apart(shown, max_events=1).by_rule == {}
    clicks = [event(20 + n, T0 + n, event_type="click") for n in range(2)]
    assert apart(shown + clicks, max_events=1).by_rule == {"rate": 11}


def test_a_message_that_came_twice_is_a_repeat_and_no_haste() -> None:
    found = apart([event(1, T0), event(1, T0), event(2, T0)], max_events=2)
    assert (found.repeats, found.by_rule) == (1, {})
    assert ids(found.events) == ["e1", "e2"]


@pytest.mark.parametrize(
    ("more", "rule"),
    [
        ({"dwell_ms": 3_600_001}, "dwell"),
        ({"dwell_ms": 3_600_000}, None),
        ({"dwell_ms": 299, "event_type": "click"}, "click"),
        ({"dwell_ms": 300, "event_type": "click"}, None),
        ({"dwell_ms": 299}, None),  # a short view is a view
        ({"event_type": "click"}, None),  # nothing is known of its dwell
        ({"dwell_ms": 3_600_001, "event_type": "click"}, "dwell"),
    ],
)
def test_a_dwell_is_taken_at_its_word(more: dict[str, Any], rule: str | None) -> None:
    found = apart([event(1, T0, **more)], max_dwell="1h", min_click_dwell="300ms")
    assert found.by_rule == ({rule: 1} if rule else {})
    assert found.events.num_rows == (not rule)


@given(logs(), rules, windows, st.randoms(use_true_random=False))
def test_any_order_gives_the_same_and_nothing_is_lost(
    events: list[dict[str, Any]], clean: CleanConfig, window: WindowSpec, dice: Any
) -> None:
    suspicion = Suspicion(clean, window)
    batch = pa.RecordBatch.from_pylist(events, schema=EVENTS)
    found = suspicion.set_apart(batch)
    total = found.events.num_rows + found.letters.num_rows + found.repeats
    assert total == len(events)
    assert sum(found.by_rule.values()) == found.letters.num_rows
    dice.shuffle(events)
    again = suspicion.set_apart(pa.RecordBatch.from_pylist(events, schema=EVENTS))
    assert content(again.letters) == content(found.letters)
    assert again.by_rule == found.by_rule
    if suspicion.on:
        assert content(again.events) == content(found.events)
    at = batch.schema.get_field_index("event_type")
    coded = batch.set_column(at, "event_type", batch.column(at).dictionary_encode())
    assert content(suspicion.set_apart(coded).letters) == content(found.letters)


@given(logs(), st.integers(1, 4), windows)
def test_the_rate_is_what_counting_by_hand_says(
    events: list[dict[str, Any]], allowed: int, window: WindowSpec
) -> None:
    distinct = list({e["event_id"]: e for e in events}.values())
    found = Suspicion(CleanConfig(max_events=allowed, per="1s"), window).set_apart(
        pa.RecordBatch.from_pylist(distinct, schema=EVENTS)
    )
    offset = window.size_ms % window.period_ms

    def piece(one: dict[str, Any]) -> tuple[str, int]:
        return one["user_id"], (one["event_time"] - offset) // 1_000

    acts = Counter(piece(one) for one in distinct if one["event_type"] != "impression")
    want = [one["event_id"] for one in distinct if acts[piece(one)] <= allowed]
    assert ids(found.events) == sorted(want)


def test_off_is_free() -> None:
    batch = pa.RecordBatch.from_pylist([event(1, START), event(1, START)], schema=EVENTS)
    found = Suspicion(CleanConfig(), WindowSpec.parse("session:4s")).set_apart(batch)
    assert found.events is batch
    assert (found.letters.num_rows, found.by_rule, found.repeats) == (0, {}, 0)


def test_a_letter_holds_the_event() -> None:
    given_ = event(1, T0, dwell_ms=9, context={"k": "v"}, user_id="ü")
    letters = apart([given_], max_dwell="5ms").letters
    assert letters.schema.equals(DEAD_LETTERS)
    read, _ = parse_line(letters.column("payload")[0].as_py(), T0)
    assert (read, 0) == parse_line(json.dumps(given_).encode(), T0)
    assert isinstance(read, Event)


def test_a_piece_that_is_not_settled_at_once_is_refused_at_the_door() -> None:
    with pytest.raises(RequestError, match=r"clean\.per: 60000ms does not divide 10000ms"):
        load_job(None, {"features": {"window": "fixed:10s"}, "clean": {"max_events": 3}})
    load_job(None, {"features": {"window": "fixed:10s"}, "clean": {"max_dwell": "1h"}})
    load_job(None, {"features": {"window": "session:30m"}, "clean": {"max_events": 3, "per": "5s"}})
