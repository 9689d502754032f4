"""Each preset on a few lines in its format's true shape, with its traps."""

import gzip
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import RequestError, SourceError
from pipelines.read.foreign_log import parse_records, plan, read_piece
from pipelines.read.mapping.presets import preset, preset_names, sources_of

NOW_MS = 1_790_000_000_000
T = 1_736_150_400  # 2025-01-06T08:00:00Z


class Got:
    """What a preset made of a file."""

    def __init__(self, name: str, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.dead: list[dict[str, Any]] = []
        self.noted: dict[str, int] = {}
        self.read = 0
        for piece in plan([str(path)], sources_of(preset(name), name), f"format {name}"):
            for records in read_piece(piece):
                parsed = parse_records(records, piece, NOW_MS)
                self.events += parsed.valid.to_pylist()
                self.dead += parsed.dead.to_pylist()
                self.read += parsed.read
                for key, number in parsed.noted.items():
                    self.noted[key] = self.noted.get(key, 0) + number
        for event in self.events:
            event["event_time"] = int(event["event_time"].timestamp() * 1000)
        assert self.read == len(self.events) + len(self.dead)

    def these(self, *columns: str) -> list[tuple[Any, ...]]:
        """Columns of the events, sorted."""
        names = columns or ("user_id", "item_id", "event_type")
        return sorted((tuple(event[name] for name in names) for event in self.events), key=repr)

    @property
    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]

    @property
    def reasons(self) -> list[str]:
        return [letter["reason"] for letter in self.dead]


def got(tmp_path: Path, name: str, file: str, content: Any) -> Got:
    path = tmp_path / file
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Got(name, path)


def refusal(tmp_path: Path, name: str, file: str, content: Any) -> str:
    with pytest.raises(SourceError) as caught:
        got(tmp_path, name, file, content)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_preset_is_tested_and_valid():
    tested = Path(__file__).read_text(encoding="utf-8")
    for name in preset_names():
        assert sources_of(preset(name), name)
        assert f'"{name}"' in tested


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(RequestError, match="did you mean movielens"):
        preset("movilens")


def test_movielens(tmp_path):
    hundred = got(tmp_path, "movielens", "u.data", f"1\t2\t3\t{T}\n1\t5\t4\t{T}\n")
    assert hundred.these("user_id", "item_id", "event_type", "event_time", "value") == [
        ("1", "2", "rating", T * 1000, 3.0),
        ("1", "5", "rating", T * 1000, 4.0),
    ]
    million = got(tmp_path, "movielens", "ratings.dat", f"1::2::3::{T}\n1::5::4.5::{T}\n1::5\n")
    assert million.these("item_id", "value") == [("2", 3.0), ("5", 4.5)]
    assert million.reasons == ["bad_row"]
    assert million.dead[0]["payload"] == b"1::5"
    text = f"userId,movieId,rating,timestamp\n1,2,3.5,{T}\n"
    latest = got(tmp_path, "movielens", "ratings.csv.gz", gzip.compress(text.encode()))
    assert latest.these("event_id", "value") == [("1|2", 3.5)]
    told = refusal(
        tmp_path, "movielens", "ratings.csv", "userId,movieId,rating,timestamp\n1,2,3,x\n"
    )
    assert "row 2: timestamp is 'x'" in told
    told = refusal(tmp_path, "movielens", "ratings.csv", "user,movieId,rating,timestamp\n1,2,3,4\n")
    assert "lacks the column userId; it has user, movieId" in told


def test_recbole(tmp_path):
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    rated = got(tmp_path, "recbole", "a.inter", header + f'u\t"i\t4\t{T}\nu\tj\t5\t{T}.0\tmore\n')
    assert rated.these("item_id", "event_type", "event_time") == [('"i', "rating", T * 1000)]
    assert rated.reasons == ["bad_row"]
    header = "session_id:token\titem_id:token\ttimestamp:float\n"
    clicked = got(tmp_path, "recbole", "b.inter", header + f"s\ti\t{T}123\n")
    assert clicked.these("user_id", "event_type", "event_time") == [("s", "click", T * 1000 + 123)]


def test_retailrocket(tmp_path):
    header = "timestamp,visitorid,event,itemid,transactionid\n"
    rows = (
        f"{T}001,1,view,7,\n{T}001,1,addtocart,7,\n{T}002,1,transaction,7,4000\n{T}001,1,view,7,\n"
    )
    log = got(tmp_path, "retailrocket", "events.csv", header + rows)
    assert log.these("event_type", "event_time") == [
        ("cart", T * 1000 + 1),
        ("purchase", T * 1000 + 2),
        ("view", T * 1000 + 1),
        ("view", T * 1000 + 1),
    ]
    assert len(set(log.ids)) == 3  # the exact repeat has the identity of what it repeats
    told = refusal(tmp_path, "retailrocket", "events.csv", header + f"{T},1,view,7,\n")
    assert f"timestamp is '{T}'" in told


def test_yoochoose(tmp_path):
    clicks = got(tmp_path, "yoochoose", "yoochoose-clicks.dat", "1,2025-01-06T08:00:00.123Z,9,0\n")
    assert clicks.these("user_id", "item_id", "event_type", "event_time", "context") == [
        ("1", "9", "click", T * 1000 + 123, [])
    ]
    rows = "1,2025-01-06T08:00:00.000Z,9,1000,2\n1,2025-01-06T08:00:00.000Z,8,0,0\n"
    buys = got(tmp_path, "yoochoose", "yoochoose-buys.dat", rows)
    assert buys.these("item_id", "event_type", "value") == [
        ("8", "purchase", None),
        ("9", "purchase", 2000.0),
    ]


def test_taobao(tmp_path):
    rows = f"1,2,3,pv,{T}\n1,2,3,fav,{T}\n1,2,3,buy,-2134949234\n"
    log = got(tmp_path, "taobao", "UserBehavior.csv", rows)
    assert log.these("event_type", "event_time") == [("like", T * 1000), ("view", T * 1000)]
    assert log.reasons == ["bad_time"]
    assert json.loads(json.dumps(log.dead[0]["payload"].decode())) == "1,2,3,buy,-2134949234"


def test_otto(tmp_path):
    order = [{"aid": a, "ts": T * 1000, "type": "orders"} for a in (5, 6)]
    log = got(tmp_path, "otto", "train.jsonl", [{"session": 3, "events": order}])
    assert log.these() == [("3", "5", "purchase"), ("3", "6", "purchase")]
    assert sorted(log.ids) == ["3|0", "3|1"]


def test_kuairec(tmp_path):
    header = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
    rows = f"1,2,1500,3000,2025-01-06 16:00:00.25,20250106.0,{T}.25,0.5\n1,3,10,10,,,,1.0\n"
    log = got(tmp_path, "kuairec", "small_matrix.csv", header + rows)
    assert log.these("item_id", "event_time", "dwell_ms") == [("2", T * 1000 + 250, 1500)]
    assert log.noted == {"skipped_no_event_time": 1}


def test_kuairand(tmp_path):
    header = (
        "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_forward,is_hate,"
        "play_time_ms,tab\n"
    )
    rows = f"1,2,20250106,400,{T}000,1,1,0,0,700,1\n1,3,20250106,400,{T}000,0,0,0,1,0,1\n"
    log = got(tmp_path, "kuairand", "log_standard.csv", header + rows)
    assert log.these("item_id", "event_type", "dwell_ms") == [
        ("2", "click", None),
        ("2", "like", None),
        ("2", "view", 700),
        ("3", "dislike", None),
        ("3", "view", 0),
    ]
    assert len(set(log.ids)) == 5


def test_mind(tmp_path):
    rows = "1\tU1\t1/6/2025 8:00:00 AM\tN1 N2\tN3-0 N4-1\n2\tU2\t11/6/2019 12:05:00 PM\t\tN5-0\n"
    log = got(tmp_path, "mind", "behaviors.tsv", rows)
    noon = int(datetime(2019, 11, 6, 12, 5, tzinfo=UTC).timestamp() * 1000)
    assert log.these("user_id", "item_id", "event_type", "event_time") == [
        ("U1", "N3", "impression", T * 1000),
        ("U1", "N4", "click", T * 1000),
        ("U1", "N4", "impression", T * 1000),
        ("U2", "N5", "impression", noon),
    ]
    assert len(set(log.ids)) == 4
    unlabelled = "1\tU1\t1/6/2025 8:00:00 AM\tN1 N2\tN3 N4\n"
    assert "impressions is 'N3 N4'" in refusal(tmp_path, "mind", "behaviors.tsv", unlabelled)


def test_amazon(tmp_path):
    record = {"rating": 5.0, "asin": "a", "parent_asin": "p", "user_id": "u", "title": "t"}
    log = got(
        tmp_path,
        "amazon-reviews-2023",
        "All_Beauty.jsonl",
        [
            {**record, "timestamp": T * 1000, "verified_purchase": True},
            {**record, "timestamp": T * 1000 + 5, "verified_purchase": False},
        ],
    )
    assert log.these("item_id", "value", "event_time", "context") == [
        ("p", 5.0, T * 1000, [("verified_purchase", "true")]),
        ("p", 5.0, T * 1000 + 5, [("verified_purchase", "false")]),
    ]
    text = f"user_id,parent_asin,rating,timestamp\nu,p,4.0,{T}000\n"
    table = got(tmp_path, "amazon-reviews-2023", "All_Beauty.csv", text)
    assert table.these("item_id", "value") == [("p", 4.0)]


def test_lastfm(tmp_path):
    stamp = "2009-05-04T23:08:57Z"
    rows = f'user_000001\t{stamp}\ta\tDeep "D\tt1\tSong\nuser_000001\t{stamp}\t\tX\t\tY\n'
    log = got(tmp_path, "lastfm-1k", "userid-timestamp-artid-artname-traid-traname.tsv", rows)
    items = [event["item_id"] for event in log.events]
    assert items[0] == "t1"
    assert len(items[1]) == 32
    assert len(set(log.ids)) == 2


def test_ebnerd(tmp_path):
    at = datetime(2025, 1, 6, 8)
    table = pa.table(
        {
            "impression_id": pa.array([1, 2], pa.uint32()),
            "article_id": pa.array([None, 70], pa.int32()),
            "impression_time": pa.array([at, at], pa.timestamp("us")),
            "read_time": pa.array([30.0, 17.5]),
            "device_type": pa.array([1, 2], pa.int8()),
            "article_ids_inview": [[7, 8], [9]],
            "article_ids_clicked": [[8], []],
            "user_id": pa.array([5, 5], pa.uint32()),
            "session_id": pa.array([3, 3], pa.uint32()),
        }
    )
    pq.write_table(table, tmp_path / "behaviors.parquet")
    log = Got("ebnerd", tmp_path / "behaviors.parquet")
    assert log.these("item_id", "event_type", "dwell_ms", "event_time") == [
        ("7", "impression", None, T * 1000),
        ("70", "view", 17_500, T * 1000),
        ("8", "click", None, T * 1000),
        ("8", "impression", None, T * 1000),
        ("9", "impression", None, T * 1000),
    ]
    assert len(set(log.ids)) == 5


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


def test_rees46(tmp_path):
    header = (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,"
        "user_session\n"
    )
    rows = (
        "2025-01-06 08:00:00 UTC,view,1,2,,,3.5,u,s\n"
        "2025-01-06 08:00:00 UTC,remove_from_cart,1,2,,,3.5,u,s\n"
    )
    log = got(tmp_path, "rees46", "2025-Jan.csv", header + rows)
    assert log.these("item_id", "event_type", "event_time", "value") == [
        ("1", "view", T * 1000, 3.5)
    ]
    assert log.noted == {"skipped_event_type": 1}


def test_personalize(tmp_path):
    text = f"USER_ID,ITEM_ID,EVENT_TYPE,TIMESTAMP\nu,i,Watch,{T}\nu,i,Other,{T}\n"
    log = got(tmp_path, "personalize", "interactions.csv", text)
    assert log.these("event_type", "event_time") == [("view", T * 1000)]
    assert log.noted == {"skipped_event_type": 1}


def test_a_file_of_another_format_is_refused_by_name_of_the_column(tmp_path):
    told = refusal(tmp_path, "otto", "train.jsonl", [{"user": 1, "item": 2}])
    assert "lacks the column session; it has user, item" in told
    told = refusal(tmp_path, "retailrocket", "events.csv", "<!DOCTYPE html>\n<html></html>\n")
    assert "lacks the column timestamp" in told


def test_files_of_other_names_in_a_folder_are_left_out_and_named(tmp_path, caplog):
    (tmp_path / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n1,2,3,{T}\n")
    (tmp_path / "movies.csv").write_text("movieId,title\n1,x\n")
    log = Got("movielens", tmp_path)
    assert len(log.events) == 1
    assert "movies.csv" in caplog.text


def test_the_mappings_of_the_documentation_are_valid():
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    blocks = [block.partition("```")[0] for block in text.split("```toml\n")[1:]]
    assert len(blocks) == 2
    for block in blocks:
        assert sources_of(tomllib.loads(block)["source"], "docs")
