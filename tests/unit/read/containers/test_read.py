"""Files of any container → the same records."""

import bz2
import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.feather
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import SourceError
from pipelines.read.containers import Found, Records, find, read_records
from pipelines.read.containers import compression as compression_module
from pipelines.read.mapping.spec import Layout

ROWS = [{"a": "1", "b": "x"}, {"a": "2", "b": "y, z"}, {"a": "3", "b": 'q"'}]


def read(path: Path, *own: str, tree: Any = None, **layout: Any) -> list[Records]:
    found = Found(str(path), path.stat().st_size)
    wanted = {"a": {}, "b": {}} if tree is None else tree
    return list(read_records(found, Layout.model_validate(layout), wanted, own))


def rows(path: Path, **layout: Any) -> list[dict[str, Any]]:
    return [row for records in read(path, **layout) for row in records.batch.to_pylist()]


def lost(path: Path, **layout: Any) -> list[tuple[int, str, str]]:
    found = [one for records in read(path, **layout) for one in records.lost]
    return [(one.position, one.fault.reason, one.fault.detail) for one in found]


def file(tmp_path: Path, name: str, data: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


CSV = 'a,b\n1,x\n2,"y, z"\n3,"q"""\n'


def test_csv_with_quotes_and_its_dialects(tmp_path):
    assert rows(file(tmp_path, "a.csv", CSV)) == ROWS
    assert rows(file(tmp_path, "a.csv", "\ufeff" + CSV.replace("\n", "\r\n"))) == ROWS
    tabs = 'a\tb\n1\tx\n2\ty, z\n3\tq"\n'
    assert rows(file(tmp_path, "a.tsv", tabs), quote="") == ROWS
    colons = '1::x\n2::y, z\n3::q"\n'
    layout = {"delimiter": "::", "header": False, "columns": ["a", "b"]}
    assert rows(file(tmp_path, "a.dat", colons), **layout) == ROWS
    typed = 'a:token\tb:token_seq\n1\tx\n2\ty, z\n3\tq"\n'
    assert rows(file(tmp_path, "a.inter", typed), quote="", header="typed") == ROWS
    escaped = 'a,b\n1,x\n2,"y, z"\n3,"q\\""\n'
    assert rows(file(tmp_path, "a.csv", escaped), escape="\\") == ROWS
    comments = "# made by hand\na,b\n\n1,x\n#2,y\n"
    assert rows(file(tmp_path, "a.csv", comments), comment="#") == ROWS[:1]


def test_other_encodings(tmp_path):
    for encoding in ("latin-1", "utf-16"):
        path = file(tmp_path, "a.csv", "a,b\n1,é\n".encode(encoding))
        assert rows(path, encoding=encoding) == [{"a": "1", "b": "é"}]


def test_a_byte_that_is_no_utf8_loses_its_row_alone(tmp_path):
    path = file(tmp_path, "a.csv", b"a,b\n1,x\n2,\xe9\n3,z\n")
    assert [row["a"] for row in rows(path)] == ["1", "3"]
    assert [(line, reason) for line, reason, _ in lost(path)] == [(2, "bad_row")]


def test_uneven_rows_are_lost_with_line_and_count_never_shifted(tmp_path):
    path = file(tmp_path, "a.csv", 'a,b\n1,"x\ny"\n2\n3,z,w\n4,v\n')
    assert rows(path) == [{"a": "1", "b": "x\ny"}, {"a": "4", "b": "v"}]
    found = lost(path)
    assert [line for line, _, _ in found] == [3, 4]
    assert "got 1 fields, expected 2" in found[0][2]
    assert "got 3 fields, expected 2" in found[1][2]
    (records,) = read(path)
    assert [one.payload for one in records.lost] == [b"2", b"3,z,w"]
    assert records.positions.tolist() == [1, 5]
    assert records.payload(1) == b"4,v"


def test_a_quote_that_is_never_closed_loses_its_line(tmp_path):
    path = file(tmp_path, "a.csv", 'a,b\n1,x\n2,"y\n3,z\n')
    assert [row["a"] for row in rows(path)] == ["1", "3"]
    assert [(line, reason) for line, reason, _ in lost(path)] == [(2, "bad_row")]


def test_a_header_that_names_a_column_twice_is_refused(tmp_path):
    with pytest.raises(SourceError, match="names 'a' twice"):
        rows(file(tmp_path, "a.csv", "a,a\n1,2\n"))


@given(
    table=st.lists(
        st.tuples(
            *[st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=6)] * 2
        ),
        max_size=20,
    ),
    block=st.integers(1, 40),
)
def test_whatever_csv_writes_is_read_back_in_blocks_of_any_size(tmp_path_factory, table, block):
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(["a", "b"])
    writer.writerows(table)
    path = file(tmp_path_factory.mktemp("csv"), "a.csv", text.getvalue())
    found = Found(str(path), path.stat().st_size)
    read_back = [
        (row["a"], row["b"])
        for records in read_records(found, Layout(), {"a": {}, "b": {}}, (), block=block)
        for row in records.batch.to_pylist()
    ]
    assert read_back == table


@given(data=st.binary(max_size=200), block=st.integers(1, 50))
def test_whatever_bytes_come_nothing_is_lost_unseen(tmp_path_factory, data, block):
    path = file(tmp_path_factory.mktemp("any"), "a.csv", b"x,y\n" + data)
    found = Found(str(path), path.stat().st_size)
    layout = Layout.model_validate({"header": False, "columns": ["a", "b"], "quote": ""})
    seen = sum(records.count for records in read_records(found, layout, {"a": {}}, (), block=block))
    lines = (b"x,y\n" + data).split(b"\n")
    assert seen == sum(bool(line.strip(b" \r\n\v\f")) for line in lines)


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        "\n" + LINES.replace("\n", "\r\n\n"),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "".join(json.dumps(row, indent=1) for row in ROWS),
        json.dumps(ROWS[:1]) + "\n" + json.dumps(ROWS[1:]),
        "\ufeff" + LINES.rstrip(),
    ],
)
def test_json_in_any_arrangement_under_any_ending(tmp_path, text):
    assert rows(file(tmp_path, "export.txt", text)) == ROWS


def test_json_fields_of_several_types_become_text_as_they_stood(tmp_path):
    path = file(
        tmp_path, "a.json", '{"a":1}\n{"a":"x"}\n{"a":[1,{"b":2}]}\n{"a":null}\n{"b":true}\n'
    )
    assert [row["a"] for row in rows(path)] == ["1", "x", '[1,{"b":2}]', None, None]


def test_text_that_looks_like_a_time_stays_text(tmp_path):
    path = file(tmp_path, "a.json", '{"a":"2025-01-01","b":"2025-01-01T00:00:00Z"}\n')
    assert rows(path) == [{"a": "2025-01-01", "b": "2025-01-01T00:00:00Z"}]


def test_a_line_that_is_no_json_is_lost_alone(tmp_path):
    path = file(tmp_path, "a.jsonl", '{"a":1}\n{"a":\n[1]\n{"a":2}{"a":3}\n{"a":4}\n')
    assert [row["a"] for row in rows(path)] == [1, 4]
    assert [(line, reason) for line, reason, _ in lost(path)] == [
        (1, "bad_json"),
        (2, "bad_json"),
        (3, "bad_json"),
    ]


def test_what_stands_between_values_is_lost_not_ignored(tmp_path):
    path = file(tmp_path, "a.json", '[{"a":1}, 7, {"a":"}{"}, }, {"a":2}]')
    assert [row["a"] for row in rows(path)] == ["1", "}{", "2"]
    assert [reason for _, reason, _ in lost(path)] == ["bad_json", "bad_json"]


def test_packed_files_are_known_by_their_first_bytes(tmp_path):
    data = CSV.encode()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("inside.csv", data)
    zstd = pa.compress(data, "zstd", asbytes=True)
    packed = [gzip.compress(data[:5]) + gzip.compress(data[5:]), bz2.compress(data), zstd]
    for one in [*packed, zipped.getvalue()]:
        assert rows(file(tmp_path, "some.csv", one)) == ROWS


def test_a_zip_of_two_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.csv", CSV)
        archive.writestr("two.csv", CSV)
    with pytest.raises(SourceError, match=r"holds 2 files \(one.csv, two.csv\)"):
        rows(tmp_path / "a.zip")


def test_a_bomb_is_refused_with_its_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(compression_module, "ALWAYS_BYTES", 1 << 16)
    path = file(tmp_path, "a.csv.gz", gzip.compress(b"a,b\n" + b"1,x\n" * 2_000_000))
    with pytest.raises(SourceError, match="grows over 250 times"):
        rows(path)


def test_a_damaged_gzip_is_told(tmp_path):
    path = file(tmp_path, "a.csv.gz", gzip.compress(CSV.encode())[:-9])
    with pytest.raises(SourceError, match="is damaged"):
        rows(path)


def test_tables(tmp_path):
    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "a.parquet")
    pa.orc.write_table(table, tmp_path / "a.orc")
    pa.feather.write_feather(table, tmp_path / "a.arrow")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    file(tmp_path, "b.arrows", sink.getvalue().to_pybytes())
    for path in sorted(tmp_path.iterdir()):
        assert rows(path) == ROWS
        (records,) = read(path)
        assert json.loads(records.payload(1)) == ROWS[1]
        assert records.positions.tolist() == [0, 1, 2]


def test_avro_with_unions_and_logical_types(tmp_path):
    import datetime as dt

    schema = {
        "type": "record",
        "name": "E",
        "fields": [
            {"name": "a", "type": ["null", "string", "long"]},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {
                "name": "in",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "name": "I",
                        "fields": [{"name": "x", "type": ["null", "int"]}],
                    },
                },
            },
            {"name": "unread", "type": "bytes"},
        ],
    }
    at = dt.datetime(2025, 1, 6, 8, tzinfo=dt.UTC)
    records = [
        {"a": a, "at": at, "in": [{"x": 1}, {"x": None}], "unread": b""} for a in ("u", 7, None)
    ]
    for codec in ("null", "deflate"):
        with (tmp_path / "a.avro").open("wb") as out:
            fastavro.writer(out, schema, records, codec=codec)
        (batch,) = [r.batch for r in read(tmp_path / "a.avro", tree={"a": {}, "at": {}, "in": {}})]
        assert batch.column("a").to_pylist() == ["u", "7", None]
        assert batch.column("at").type == pa.timestamp("ms", "UTC")
        assert batch.column("at").to_pylist() == [at] * 3
        assert batch.column("in").to_pylist()[0] == [{"x": 1}, {"x": None}]


def test_hive_partitions_are_columns(tmp_path):
    folder = tmp_path / "log" / "event_type=click" / "day=2025-01-06"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"a": ["1"]}), folder / "part.parquet")
    (found,) = find([str(tmp_path / "log")])
    (records,) = read_records(found, Layout(), {"a": {}, "event_type": {}}, ())
    assert records.batch.to_pylist() == [{"a": "1", "event_type": "click", "day": "2025-01-06"}]


def test_what_is_stated_and_what_is_there(tmp_path):
    pq.write_table(pa.table({"a": ["1"]}), tmp_path / "a.csv")
    with pytest.raises(SourceError, match="is parquet, not csv"):
        rows(tmp_path / "a.csv", container="csv")


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        find([str(tmp_path / "no.csv")])
    with pytest.raises(SourceError, match="holds no file"):
        find([str(tmp_path)])
    with pytest.raises(SourceError, match="matches no file"):
        find([str(tmp_path / "*.csv")])
