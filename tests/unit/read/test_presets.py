"""Each preset on a few lines in its format's true shape, with its traps."""

import gzip
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from preset_files import Got, T, got, refusal

from pipelines.errors import RequestError
from pipelines.read.mapping.presets import preset, preset_names, sources_of


def test_every_preset_is_tested_and_valid():
    files = Path(__file__).parent.glob("test_presets*.py")
    tested = "".join(file.read_text(encoding="utf-8") for file in files)
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
