"""Items and users: what is kept, what is skipped, what is refused."""

import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import SourceError
from pipelines.read.catalogues import read_items, read_users
from pipelines.schema import ITEMS, USERS

ITEM = {
    "item_id": "i1",
    "title": "A title",
    "text": "Some text",
    "categories": ["a", "b"],
    "duration_ms": 1500,
    "published_at": "2025-06-15T12:00:00Z",
}


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def table(path, columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_an_item_of_json_lines(tmp_path):
    found = read_items(lines(tmp_path / "i.jsonl", [ITEM]))
    assert found.table.schema == ITEMS
    moment = datetime(2025, 6, 15, 12, tzinfo=UTC)
    assert found.table.to_pylist() == [ITEM | {"published_at": moment}]
    assert (found.skipped, found.example) == (0, "")


def test_all_but_the_id_may_be_missing(tmp_path):
    empty = dict.fromkeys(ITEMS.names)
    items = read_items(lines(tmp_path / "i.jsonl", [{"item_id": "i1"}]))
    assert items.table.to_pylist() == [empty | {"item_id": "i1"}]
    users = read_users(table(tmp_path / "u.parquet", {"user_id": ["u1"]}))
    assert users.table.schema == USERS
    assert users.table.to_pylist() == [{"user_id": "u1", "attributes": None}]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_further_columns_of_items_become_categories(tmp_path, kind):
    extra = {"year": 1995, "author": "x", "live": True, "score": 0.5, "none": None}
    if kind == "jsonl":
        source = lines(tmp_path / "i.jsonl", [ITEM | extra | {"tags": ["t"]}])
    else:
        columns = {name: [value] for name, value in (ITEM | extra).items()}
        columns["tags"] = [["t"]]
        columns["made"] = pa.array([0], pa.timestamp("ms"))
        source = table(tmp_path / "i.parquet", columns)
    (row,) = read_items(source).table.to_pylist()
    assert row["categories"] == ["a", "b", "year=1995", "author=x", "live=true"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_further_columns_of_users_become_attributes(tmp_path, kind):
    row = {"user_id": "u1", "age": 30, "plan": "free", "paid": False, "score": 0.5, "gap": 3.0}
    if kind == "jsonl":
        source = lines(tmp_path / "u.jsonl", [row | {"none": None, "attributes": {"plan": "pro"}}])
    else:
        columns = {name: [value] for name, value in row.items()}
        attributes = pa.array([[("plan", "pro")]], pa.map_(pa.string(), pa.string()))
        source = table(tmp_path / "u.parquet", columns | {"attributes": attributes})
    (found,) = read_users(source).table.to_pylist()
    assert dict(found["attributes"]) == {
        "age": "30",
        "gap": "3",
        "paid": "false",
        "plan": "pro",
        "score": "0.5",
    }


def test_the_last_row_of_an_id_counts_and_ids_are_in_order(tmp_path):
    rows = [{"item_id": "b", "title": "old"}, {"item_id": "a"}, {"item_id": "b", "title": "new"}]
    found = read_items(lines(tmp_path / "i.jsonl", rows)).table
    assert found.select(["item_id", "title"]).to_pylist() == [
        {"item_id": "a", "title": None},
        {"item_id": "b", "title": "new"},
    ]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"item_id": None}, "item_id: got None"),
        ({"item_id": ""}, "item_id: empty"),
        ({"item_id": 7}, "item_id: got 7"),
        ({"item_id": "x" * 257}, "257 bytes"),
        ({"item_id": "a\0"}, "NUL"),
        ({"title": 7}, "title: got 7"),
        ({"categories": "a"}, "categories: got 'a'"),
        ({"categories": [1]}, "categories: expected"),
        ({"duration_ms": -1}, "duration_ms: got -1"),
        ({"duration_ms": 1.5}, "duration_ms: got 1.5"),
        ({"duration_ms": True}, "duration_ms: got True"),
        ({"published_at": "lately"}, "published_at: got 'lately'"),
        ({"published_at": 10**18}, "published_at: got"),
    ],
)
def test_rows_that_cannot_be_used_are_skipped_and_counted(tmp_path, change, why):
    source = lines(tmp_path / "i.jsonl", [ITEM, ITEM | {"item_id": "i2"} | change])
    found = read_items(source)
    assert found.table.num_rows == 1
    assert found.skipped == 1
    assert why in found.example
    assert source in found.example


def test_lines_that_are_no_objects_are_skipped(tmp_path):
    path = tmp_path / "i.jsonl"
    path.write_text('nope\n[1]\n\n{"item_id": "i1"}\n')
    found = read_items(str(path))
    assert (found.table.num_rows, found.skipped) == (1, 2)


def refusal(read, source):
    with pytest.raises(SourceError) as caught:
        read(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_refused(tmp_path):
    assert "does not exist" in refusal(read_items, str(tmp_path / "none.parquet"))
    path = tmp_path / "a.parquet"
    path.write_bytes(b"")
    assert "is empty" in refusal(read_items, str(path))
    path.write_bytes(b"foreign")
    assert "no whole Parquet file" in refusal(read_users, str(path))
    assert "lacks the column user_id" in refusal(read_users, table(path, {"item_id": ["i"]}))
    assert "column item_id is int64" in refusal(read_items, table(path, {"item_id": [1]}))
    wrong = {"item_id": ["i"], "categories": ["a"]}
    assert "column categories is string" in refusal(read_items, table(path, wrong))
    assert "no usable row" in refusal(read_items, lines(tmp_path / "i.jsonl", [{"item_id": ""}]))


@pytest.mark.parametrize(("name", "rows"), [("kuairand_likes", 9_359), ("movielens_small", 9_742)])
def test_real_items(real_log, name, rows):
    found = read_items(str(real_log(name) / "items.parquet"))
    assert (found.table.num_rows, found.skipped) == (rows, 0)


def test_real_users(real_log):
    found = read_users(str(real_log("kuairand_likes") / "users.parquet"))
    assert (found.table.num_rows, found.skipped) == (664, 0)
    assert "user_active_degree" in dict(found.table.column("attributes")[0].as_py())


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.large_string())],
    ids=str,
)
def test_a_catalogue_takes_the_text_that_events_take(tmp_path, kind):
    names = pa.array(["i1", "i2"]).cast(kind)
    words = pa.array([["a"], ["b", "c"]], pa.list_(pa.large_string()))
    columns = {"item_id": names, "title": names, "maker": names, "categories": words}
    items = read_items(table(tmp_path / "i.parquet", columns)).table
    assert items["item_id"].to_pylist() == items["title"].to_pylist() == ["i1", "i2"]
    assert items["categories"].to_pylist() == [["a", "maker=i1"], ["b", "c", "maker=i2"]]
    users = read_users(table(tmp_path / "u.parquet", {"user_id": names, "town": names})).table
    assert [dict(row) for row in users["attributes"].to_pylist()] == [
        {"town": "i1"},
        {"town": "i2"},
    ]
