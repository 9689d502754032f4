"""Presets of logs that products write, each on a few lines in its true shape, with its traps."""

import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from preset_files import Got, T, got

from pipelines.read.mapping.presets import preset, sources_of


def test_gorse(tmp_path):
    base = {"UserId": "u", "ItemId": "i", "Value": 0, "Comment": ""}
    values = [
        {**base, "FeedbackType": "read", "Timestamp": "2025-01-06T08:00:00Z"},
        {**base, "FeedbackType": "star", "Timestamp": "2025-01-06 08:00:00"},
        {**base, "FeedbackType": "hide", "Timestamp": "2025-01-06T08:00:00Z"},
        {**base, "FeedbackType": "like", "Timestamp": "0001-01-01T00:00:00Z"},
    ]
    text = "".join(json.dumps(value, indent=2) for value in values)
    log = got(tmp_path, "gorse", "feedback.json", text)
    assert log.these("event_id", "event_type", "event_time") == [
        ("read|u|i", "view", T * 1000),
        ("star|u|i", "like", T * 1000),
    ]
    assert log.noted == {"skipped_event_type": 1}
    assert log.reasons == ["bad_time"]


def test_metarank(tmp_path):
    log = got(
        tmp_path,
        "metarank",
        "events.jsonl",
        [
            {"event": "item", "id": "m", "timestamp": str(T), "item": "a", "fields": []},
            {
                "event": "ranking",
                "id": "r",
                "timestamp": f"{T}000",
                "user": "u",
                "session": "s",
                "items": [{"id": "a"}, {"id": "b"}],
            },
            {
                "event": "interaction",
                "id": "x",
                "timestamp": T,
                "user": None,
                "session": "s",
                "type": "click",
                "item": "a",
                "ranking": "r",
            },
            {
                "event": "interaction",
                "id": "y",
                "timestamp": "2025-01-06T08:00:00Z",
                "user": "u",
                "type": "purchase",
                "item": "a",
            },
        ],
    )
    assert log.these("event_id", "user_id", "item_id", "event_type", "event_time") == [
        ("r|a", "u", "a", "impression", T * 1000),
        ("r|b", "u", "b", "impression", T * 1000),
        ("x", "s", "a", "click", T * 1000),
        ("y", "u", "a", "purchase", T * 1000),
    ]
    assert log.noted == {"skipped_where": 1}


def test_segment(tmp_path):
    at = {"timestamp": "2025-01-06T13:30:00.5+05:30", "userId": "", "anonymousId": "anon"}
    products = [{"sku": 1, "price": "$ 79.95", "quantity": 2}, {"product_id": "b", "price": 3}]
    log = got(
        tmp_path,
        "segment",
        "calls.json",
        [
            {**at, "type": "identify", "messageId": "0", "traits": {}},
            {**at, "type": "page", "messageId": "1", "properties": {"path": "/home"}},
            {**at, "type": "track", "event": "order completed", "messageId": "2",
             "properties": {"products": products}, "context": {"sessionId": 99}},
            {**at, "type": "track", "event": "Order Completed", "messageId": "3",
             "properties": {"products": []}},
            {**at, "type": "track", "event": "Product Added", "properties": {"product_id": 10}},
            {**at, "type": "track", "event": "Signed Up", "messageId": "5", "properties": {}},
        ],
    )  # fmt: skip
    when = T * 1000 + 500
    assert log.these("item_id", "event_type", "value", "session_id", "event_time") == [
        ("/home", "view", None, None, when),
        ("1", "purchase", 159.9, "99", when),
        ("10", "cart", None, None, when),
        ("b", "purchase", 3.0, "99", when),
    ]
    assert {event["user_id"] for event in log.events} == {"anon"}
    assert len(set(log.ids)) == 4
    assert log.noted == {"skipped_where": 1, "skipped_event_type": 1, "skipped_no_item_id": 1}


def test_posthog(tmp_path):
    inside = {"$pathname": "/a", "$session_id": "s"}
    base = {"uuid": "1", "event": "$pageview", "distinct_id": "d", "person_id": "p"}
    lines = got(
        tmp_path,
        "posthog",
        "export.jsonl",
        [
            {**base, "timestamp": "2025-01-06T08:00:00.000000Z", "properties": inside},
            {**base, "uuid": "2", "event": "$pageleave", "timestamp": "2025-01-06T08:00:00Z",
             "properties": {}},
        ],
    )  # fmt: skip
    at = pa.array([datetime(2025, 1, 6, 8, tzinfo=UTC)], pa.timestamp("us", "UTC"))
    columns = {key: [value] for key, value in base.items()}
    table = pa.table({**columns, "timestamp": at, "properties": [json.dumps(inside)]})
    pq.write_table(table, tmp_path / "export.parquet")
    for log in (lines, Got("posthog", tmp_path / "export.parquet")):
        assert log.these("event_id", "user_id", "item_id", "session_id", "event_time") == [
            ("1", "p", "/a", "s", T * 1000)
        ]


def test_amplitude(tmp_path):
    base = {"user_id": None, "amplitude_id": 12345678901234567, "session_id": -1, "$insert_id": ""}
    log = got(
        tmp_path,
        "amplitude",
        "export.json.gz",
        gzip.compress(
            json.dumps(
                {**base, "uuid": "a", "event_type": "Product Viewed",
                 "event_time": "2025-01-06 08:00:00.123456",
                 "event_properties": {"product_id": 7}, "platform": "iOS"}
            ).encode()
        ),
    )  # fmt: skip
    assert log.these("event_id", "user_id", "item_id", "session_id", "event_time", "platform") == [
        ("a", "12345678901234567", "7", None, T * 1000 + 123, "iOS")
    ]


def test_mixpanel(tmp_path):
    def line(time: int, insert: str) -> dict[str, Any]:
        inside = {"distinct_id": "d", "time": time, "$insert_id": insert, "video_id": 5279}
        return {"event": "Video Viewed", "properties": inside}

    log = got(
        tmp_path, "mixpanel", "raw.txt", [line(T, "x"), line(T * 1000 + 7, "x"), line(T, "x")]
    )
    assert log.these("item_id", "event_time") == [
        ("5279", T * 1000),
        ("5279", T * 1000),
        ("5279", T * 1000 + 7),
    ]
    assert len(set(log.ids)) == 2


def test_matomo(tmp_path):
    page = {"type": "action", "url": "/a", "pageIdAction": 4, "timestamp": T, "timeSpent": "17"}
    last = {"type": "action", "url": "/b", "pageIdAction": "5", "timestamp": T + 1, "timeSpent": 0}
    items = [{"itemSKU": "k", "price": "2.5", "quantity": 2}, {"itemSKU": "l", "price": 1}]
    order = {"type": "ecommerceOrder", "timestamp": T + 2, "itemDetails": items}
    goal = {"type": "goal", "timestamp": T + 3, "url": "/b"}
    visit = {"idVisit": 9, "visitorId": "v", "userId": None, "deviceType": "Desktop"}
    visits = [{**visit, "actionDetails": [page, last, order, goal]}]
    log = got(tmp_path, "matomo", "answer.json", json.dumps(visits))
    assert log.these("item_id", "event_type", "dwell_ms", "value", "event_id") == [
        ("4", "view", 17_000, None, "9|0"),
        ("5", "view", None, None, "9|1"),
        ("k", "purchase", None, 5.0, "9|2|0"),
        ("l", "purchase", None, 1.0, "9|2|1"),
    ]
    assert log.noted == {"skipped_event_type": 1}


def ga4(name: str, **more: Any) -> dict[str, Any]:
    params = [
        {"key": "ga_session_id", "value": {"string_value": None, "int_value": "55"}},
        {"key": "page_location", "value": {"string_value": "https://x/p?utm=1", "int_value": None}},
    ]
    return {
        "event_date": "20250106",
        "event_timestamp": f"{T}000123",
        "event_name": name,
        "event_params": params,
        "user_pseudo_id": "1234567.1690000000",
        "user_id": None,
        "platform": "WEB",
        "stream_id": "1",
        "geo": {"country": "Norway"},
        "items": [],
        **more,
    }


def test_ga4(tmp_path):
    items = [
        {"item_id": "a", "item_name": "A", "price": 2.5, "quantity": "2"},
        {"item_id": "(not set)", "item_name": "B", "price": None, "quantity": None},
        {"item_id": "(not set)", "item_name": "(not set)", "price": None, "quantity": None},
    ]
    log = got(
        tmp_path,
        "ga4",
        "events_20250106.json",
        [
            ga4("page_view"),
            ga4("purchase", items=items),
            ga4("session_start"),
            ga4("page_view", user_pseudo_id=None),
        ],
    )
    session = "1234567.1690000000|55"
    assert log.these("user_id", "item_id", "event_type", "value", "session_id", "event_time") == [
        ("1234567.1690000000", "B", "purchase", None, session, T * 1000),
        ("1234567.1690000000", "a", "purchase", 5.0, session, T * 1000),
        ("1234567.1690000000", "https://x/p", "view", None, session, T * 1000),
    ]
    assert len(set(log.ids)) == 3
    assert log.noted == {
        "skipped_no_user_id": 1,
        "skipped_event_type": 1,
        "skipped_no_item_id": 1,
    }


def snowplow(**given: str) -> str:
    names = sources_of(preset("snowplow"), "snowplow")[0].columns
    assert len(names) == 131
    return "\t".join(given.get(name, "") for name in names) + "\n"


def test_snowplow(tmp_path):
    base = {
        "derived_tstamp": "2025-01-06 08:00:00.123",
        "domain_userid": "d",
        "domain_sessionid": "s",
        "platform": "web",
        "page_urlpath": "/p",
    }
    rows = (
        snowplow(event_id="1", event_name="page_view", contexts='{"data":[{"a":"\\"q"}]}', **base)
        + snowplow(event_id="2", event_name="page_ping", **base)
        + snowplow(
            event_id="3", event_name="transaction_item", ti_sku="k", ti_price="2.5",
            ti_quantity="2", **base,
        )
        + "one\ttwo\n"
    )  # fmt: skip
    log = got(tmp_path, "snowplow", "part-0.tsv", rows)
    assert log.these("event_id", "user_id", "item_id", "event_type", "value", "event_time") == [
        ("1", "d", "/p", "view", None, T * 1000 + 123),
        ("3", "d", "k", "purchase", 5.0, T * 1000 + 123),
    ]
    assert log.noted == {"skipped_where": 1}
    assert log.reasons == ["bad_row"]
