"""Records in a source's own columns → rows with the columns of an event."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.read.mapping import Mapped, Source, apply
from pipelines.read.mapping.frame import Frame
from pipelines.read.mapping.json_columns import read_texts
from pipelines.read.mapping.spec import Explode

SHOP: dict[str, Any] = {
    "container": "csv",
    "user_id": "visitor",
    "item_id": "item",
    "event_type": {"column": "event", "map": {"pv": "view", "buy": "purchase"}},
    "event_time": {"column": "at", "unit": "s"},
    "event_id": {"hash": ["visitor", "item", "at"]},
}


def source(**changes: Any) -> Source:
    return Source.model_validate({**SHOP, **changes})


def table(**columns: list[Any]) -> pa.RecordBatch:
    rows = len(next(iter(columns.values())))
    given = {
        "visitor": ["u"] * rows,
        "item": ["i"] * rows,
        "event": ["pv"] * rows,
        "at": ["1736150400"] * rows,
        **columns,
    }
    return pa.RecordBatch.from_pydict(given)


def column(mapped: Mapped, name: str) -> list[Any]:
    return mapped.rows.column(name).to_pylist()


def from_json(spec: Source, *records: dict[str, Any]) -> Mapped:
    texts = pa.array([json.dumps(record).encode() for record in records], pa.binary())
    return apply(spec, read_texts(texts, spec.tree()).columns)


def test_seconds_are_milliseconds_and_unlisted_words_are_counted():
    mapped = apply(source(), table(event=["pv", "scroll", "buy"]))
    assert column(mapped, "event_type") == ["view", "purchase"]
    assert column(mapped, "event_time") == [1736150400_000] * 2
    assert mapped.origin.tolist() == [0, 2]
    assert mapped.skipped == {"event_type": 1}


def test_an_unlisted_word_can_be_refused():
    kind = {"column": "event", "map": {"pv": "view"}, "unlisted": "refuse"}
    mapped = apply(source(event_type=kind), table(event=["pv", "Pv"]))
    assert [(row, fault.reason) for row, fault in mapped.faults] == [(1, "bad_value")]
    assert "'Pv'" in mapped.faults[0][1].detail


@pytest.mark.parametrize(
    ("how", "text", "expected"),
    [
        ({"unit": "s"}, "1736150400", 1736150400_000),
        ({"unit": "s"}, "1736150400.25", 1736150400_250),
        ({"unit": "ms"}, "1736150400123", 1736150400_123),
        ({"unit": "us"}, "1736150400123999", 1736150400_123),
        ({"unit": "s|ms"}, "1736150400", 1736150400_000),
        ({"unit": "s|ms"}, "1736150400123", 1736150400_123),
        ({"format": "iso"}, "2025-01-06T08:00:00Z", 1736150400_000),
        ({"format": "iso"}, "2025-01-06 08:00:00 UTC", 1736150400_000),
        ({"format": "iso"}, "2025-01-06T13:30:00+0530", 1736150400_000),
        ({"format": "iso"}, "2025-01-06T08:00:00", None),
        ({"format": "iso", "zone": "UTC"}, "2025-01-06 08:00:00.5", 1736150400_500),
        ({"format": "iso", "zone": "Asia/Shanghai"}, "2025-01-06 16:00:00", 1736150400_000),
        ({"format": "%m/%d/%Y %I:%M:%S %p", "zone": "UTC"}, "1/6/2025 8:00:00 AM", 1736150400_000),
        ({"format": "%Y-%m-%d %H:%M:%S.%f", "zone": "UTC"}, "2025-01-06 08:00:00.1", 1736150400100),
        ({"unit": "s"}, "yesterday", None),
    ],
)
def test_times(how: dict[str, Any], text: str, expected: int | None):
    mapped = apply(source(event_time={"column": "at", **how}), table(at=[text]))
    assert column(mapped, "event_time") == ([] if expected is None else [expected])
    assert [fault.reason for _, fault in mapped.faults] == ["bad_time"] * (expected is None)


def test_a_timestamp_without_zone_asks_for_one():
    naive = table(at=pa.array([1736150400_000], pa.timestamp("ms")))
    with pytest.raises(ValueError, match="without a zone"):
        apply(source(event_time={"column": "at", "format": "iso"}), naive)
    zoned = source(event_time={"column": "at", "format": "iso", "zone": "Asia/Tokyo"})
    assert column(apply(zoned, naive), "event_time") == [1736150400_000 - 9 * 3_600_000]


def test_a_time_without_unit_or_zone_is_refused_at_once():
    with pytest.raises(ValidationError, match="is ever guessed"):
        source(event_time="at")
    with pytest.raises(ValidationError, match="says no zone"):
        source(event_time={"column": "at", "format": "%Y-%m-%d"})
    with pytest.raises(ValidationError, match="dwell_ms needs a unit"):
        source(dwell_ms="at")


def test_a_float_is_no_id_unless_the_mapping_says_so():
    floats = table(item=pa.array([1.0, 2.5]))
    refused = apply(source(), floats)
    assert [fault.reason for _, fault in refused.faults] == ["bad_type", "bad_type"]
    whole = apply(source(item_id={"column": "item", "whole": True}), floats)
    assert column(whole, "item_id") == ["1"]
    assert column(apply(source(), table(item=["1.0"])), "item_id") == ["1.0"]
    assert column(apply(source(), table(item=pa.array([7], pa.int64()))), "item_id") == ["7"]


def test_words_for_null_and_numbers_as_text():
    spec = source(
        value={"column": "price", "currency": True, "thousands": ",", "nulls": ["0"]},
        session_id={"column": "session", "nulls": ["-1"]},
        dwell_ms={"column": "spent", "unit": "s", "min": 0, "max": 86_400},
    )
    mapped = apply(
        spec,
        table(
            price=["$ 1,079.95", "0", "€3"],
            session=pa.array([-1, 5, 6]),
            spent=["1.5", "-3", "90000"],
        ),
    )
    assert column(mapped, "value") == [1079.95, None, 3.0]
    assert column(mapped, "session_id") == [None, "5", "6"]
    assert column(mapped, "dwell_ms") == [1500, None, None]
    assert mapped.nulled == {"dwell_ms": 2}


def test_a_number_that_is_none_is_a_dead_letter():
    mapped = apply(source(value="price"), table(price=["12 apples", "3"]))
    assert [(row, fault.reason) for row, fault in mapped.faults] == [(0, "bad_type")]
    assert column(mapped, "value") == [3.0]


def test_clock_text_is_dwell():
    mapped = apply(source(dwell_ms={"column": "d", "unit": "clock"}), table(d=["00:06:01"]))
    assert column(mapped, "dwell_ms") == [361_000]


def test_flags_make_several_events_each_with_its_own_identity():
    spec = source(
        event_id=None,
        event_type=None,
        emit=[
            {"event_type": {"constant": "view"}},
            {"event_type": {"constant": "like"}, "when": {"column": "liked", "is": "1"}},
        ],
    )
    mapped = apply(spec, table(liked=["0", "1"]))
    assert column(mapped, "event_type") == ["view", "view", "like"]
    assert mapped.origin.tolist() == [0, 1, 1]
    assert len(set(column(mapped, "event_id"))) == 3


def test_an_order_makes_an_event_of_each_product():
    spec = source(
        container=None,
        user_id={"first": ["userId", "anonymousId"], "nulls": [""]},
        item_id={"first": ["products[].sku", "product_id"]},
        event_type={"constant": "purchase"},
        event_time={"column": "at", "format": "iso"},
        event_id="{messageId}|{$ordinal}",
        value={"column": "products.price", "times": "products.quantity", "currency": True},
        explode={"column": "products", "empty": "keep"},
    )
    at = "2025-01-06T08:00:00Z"
    order = {"anonymousId": 7, "userId": "", "messageId": "m", "at": at}
    mapped = from_json(
        spec,
        {**order, "products": [{"sku": "a", "price": "$ 2.50", "quantity": 2}, {"sku": 5}]},
        {**order, "products": [], "product_id": "b"},
    )
    assert column(mapped, "item_id") == ["a", "5", "b"]
    assert column(mapped, "event_id") == ["m|0", "m|1", "m|0"]
    assert column(mapped, "user_id") == ["7"] * 3
    assert column(mapped, "value") == [5.0, None, None]


def test_empty_lists_and_unmet_conditions_are_counted_once_a_record():
    spec = source(
        explode={"column": "item", "split": " "},
        where={"column": "visitor", "not": "bot"},
        event_type={"constant": "view"},
    )
    mapped = apply(spec, table(item=["a b", "", "c"], visitor=["u", "u", "bot"]))
    assert column(mapped, "item_id") == ["a", "b"]
    assert mapped.skipped == {"where": 1, "empty_list": 1}


def test_lists_of_keys_and_values_and_json_in_text():
    spec = source(
        container=None,
        item_id="params[key=page].value.*",
        session_id="props.session",
        event_type={"constant": "view"},
    )
    record = {
        "visitor": "u",
        "at": 1736150400,
        "params": [
            {"key": "x", "value": {"string_value": "no"}},
            {"key": "page", "value": {"string_value": None, "int_value": 3}},
        ],
        "props": '{"session": "s1", "other": 1}',
    }
    mapped = from_json(spec, record, {**record, "params": [], "props": None})
    assert column(mapped, "item_id") == ["3", None]
    assert column(mapped, "session_id") == ["s1", None]


def test_context_holds_what_is_not_null():
    mapped = apply(
        source(context={"country": "c", "os": "o"}), table(c=["DE", ""], o=["linux", "mac"])
    )
    assert column(mapped, "context") == [[("country", "DE"), ("os", "linux")], [("os", "mac")]]


def test_without_an_event_id_the_whole_record_is_the_identity():
    mapped = apply(source(event_id=None), table(item=["a", "b", "a"]))
    first, second, third = column(mapped, "event_id")
    assert first == third != second


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "u": st.one_of(st.none(), st.text(max_size=5), st.integers(), st.floats()),
                "l": st.one_of(
                    st.none(), st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=3)))
                ),
                "t": st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=8)),
                "f": st.sampled_from(["0", "1", 1, None]),
            }
        ),
        max_size=8,
    )
)
def test_every_record_is_accounted_for(records: list[dict[str, Any]]):
    spec = Source.model_validate(
        {
            "user_id": {"column": "u", "missing": "skip"},
            "item_id": "l",
            "event_type": {"constant": "view"},
            "event_time": {"column": "t", "unit": "s"},
            "explode": "l",
            "emit": [{}, {"when": {"column": "f", "is": "1"}}],
        }
    )
    texts = pa.array([json.dumps(record).encode() for record in records], pa.binary())
    read = read_texts(texts, spec.tree())
    mapped = apply(spec, read.columns)
    entries = 0
    for row in read.origin:
        record = records[row]
        size = len(record["l"] or [])
        entries += max(size, 1) if size == 0 else size * (1 + (str(record["f"]) == "1"))
    assert mapped.rows.num_rows + len(mapped.faults) + sum(mapped.skipped.values()) == entries
    assert len(read.origin) + len(read.faults) == len(records)
    assert set(np.unique(mapped.origin)) <= set(range(len(records)))


def test_a_record_whose_list_is_none_does_not_hurt_the_others():
    spec = source(container=None, explode="l", item_id="l[].id", event_type={"constant": "view"})
    record = {"visitor": "u", "at": 1736150400}
    mapped = from_json(
        spec,
        {**record, "l": [{"id": "a"}, {"id": 2}]},
        {**record, "l": 5},
        {**record, "l": {"id": "x"}},
        {**record, "l": '[{"id": "b"}]'},
    )
    assert column(mapped, "item_id") == ["a", "2", "b"]
    assert mapped.origin.tolist() == [0, 0, 3]
    assert mapped.skipped == {"empty_list": 2}


def test_a_list_where_an_object_is_meant_is_null():
    mapped = from_json(
        source(container=None, item_id="p.id"),
        {"visitor": "u", "event": "pv", "at": 1736150400, "p": {"id": "a"}},
        {"visitor": "u", "event": "pv", "at": 1736150400, "p": [1]},
    )
    assert column(mapped, "item_id") == ["a", None]


LISTS = st.lists(
    st.none()
    | st.lists(
        st.none() | st.fixed_dictionaries({"k": st.sampled_from("ab"), "v": st.integers(0, 9)}),
        max_size=3,
    ),
    min_size=1,
    max_size=6,
)


@given(LISTS, st.integers(0, 5), st.sampled_from(["a", "b"]))
def test_lists_are_followed_in_slices_too(lists, start, word):
    kind = pa.list_(pa.struct([("k", pa.string()), ("v", pa.int64())]))
    whole = pa.record_batch({"l": pa.array(lists, kind)})
    part, rest = whole.slice(start), lists[start:]
    tree = {"l": {"k": {}, "v": {}}}
    elements = [[one or {} for one in each or []] for each in rest]
    keyed = Frame(part, tree).at(f"l[k={word}].v").to_pylist()
    assert keyed == [
        next((one["v"] for one in each if one.get("k") == word), None) for each in elements
    ]
    second = Frame(part, tree).at("l[1].v").to_pylist()
    assert second == [each[1].get("v") if len(each) > 1 else None for each in elements]
    exploded, lost = Frame(part, tree).exploded(Explode(column="l"))
    assert exploded.at("l[].v").to_pylist() == [one.get("v") for each in elements for one in each]
    assert lost.tolist() == [row for row, each in enumerate(elements) if not each]
