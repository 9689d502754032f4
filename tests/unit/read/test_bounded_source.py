"""Sources: what is found, what is refused at the door, and how files are cut in pieces."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clean.validate import validate
from pipelines.errors import SourceError
from pipelines.read import find_files as sources_module
from pipelines.read import jsonl_reader as lines_module
from pipelines.read.bounded_source import read_unit
from pipelines.read.find_files import SourceFile, Unit, check_sources, find_files, units
from pipelines.read.jsonl_reader import blocks, read_lines
from pipelines.read.parse.event_rules import MAX_LINE_BYTES

NOW = 1_750_000_000_000


def event(number):
    return {
        "event_id": f"e{number}",
        "user_id": "u",
        "item_id": "i",
        "event_type": "view",
        "event_time": NOW,
    }


def jsonl(count):
    return b"".join(json.dumps(event(n)).encode() + b"\n" for n in range(count))


def write_parquet(path, count=5, **changes):
    table = pa.Table.from_pylist([event(n) for n in range(count)])
    for name, column in changes.items():
        table = table.drop(name)
        if column is not None:
            table = table.append_column(name, column)
    pq.write_table(table, path, row_group_size=2)


def read_all(path, start=0, end=None, gzipped=False):
    with path.open("rb") as file:
        batches = list(read_lines(file, str(path), gzipped=gzipped, start=start, end=end))
    return [
        (position, line)
        for batch in batches
        for line, position in zip(*(c.to_pylist() for c in batch), strict=True)
    ]


def test_lines_know_their_place_and_blank_ones_are_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a":1}\n\n  \r\n\t\n{"b":2}\r\nlast')
    assert read_all(path) == [(3, b'{"a":1}\n'), (18, b'{"b":2}\r\n'), (27, b"last")]


@pytest.mark.parametrize("content", [b"", b"\n", b" \n\n  "])
def test_files_without_lines(tmp_path, content):
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    assert read_all(path) == []


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), max_size=20),
    st.integers(1, 25),
    st.integers(1, 60),
)
def test_every_line_is_in_exactly_one_range(lines, size, span):
    data = b"\n".join(lines)
    whole = [(at, line) for at, line in cut(io.BytesIO(data), 1 << 20)]
    apart = [
        found
        for start in range(0, max(len(data), 1), span)
        for found in cut(io.BytesIO(data), size, start, start + span)
    ]
    assert apart == whole
    assert b"".join(line for _, line in whole) == data.removeprefix(b"\xef\xbb\xbf")


def cut(file, size, start=0, end=None):
    for at, block in blocks(file, start=start, end=end, size=size):
        for line in _lines(block):
            yield at, line
            at += len(line)  # noqa: PLW2901 - the place of the next one


def _lines(block):
    pieces = block.split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])


class Endless(io.RawIOBase):
    """A line of `size` bytes that is made as it is read, then another line."""

    def __init__(self, size):
        self.left, self.tail, self.largest = size, b"\nshort\n", 0

    def read(self, size=-1):
        self.largest = max(self.largest, size)
        taken = min(size, self.left)
        self.left -= taken
        data = b"x" * taken + self.tail[: size - taken]
        self.tail = self.tail[size - taken :]
        return data


def test_an_endless_line_is_not_held():
    file = Endless(50 << 20)
    batches = list(read_lines(file, "f", gzipped=False, start=0, end=None))
    found = [line for batch in batches for line in batch.column("payload").to_pylist()]
    assert [len(line) for line in found] == [MAX_LINE_BYTES + 1, len(b"short\n")]
    assert file.largest == lines_module.BLOCK_BYTES
    assert batches[1].column("position").to_pylist() == [(50 << 20) + 1]
    assert validate(batches[0], NOW).dead.column("reason").to_pylist() == ["too_large"]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".ndjson", ".parquet"])
def test_every_kind_of_file(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        write_parquet(path)
    else:
        path.write_bytes(gzip.compress(jsonl(5)) if suffix.endswith("gz") else jsonl(5))
    (file,) = check_sources([str(path)])
    parsed = [validate(batch, NOW) for unit in units(file) for batch in read_unit(unit)]
    ids = [i for p in parsed for i in p.valid.column("event_id").to_pylist()]
    assert sorted(ids) == ["e0", "e1", "e2", "e3", "e4"]
    assert sum(p.read for p in parsed) == 5


def test_rows_know_their_place_across_row_groups(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, user_id=pa.array(["u", "u", "u", "", "u"]))
    (file,) = find_files([str(path)])
    assert len(units(file)) == 3
    dead = [validate(b, NOW).dead.to_pylist() for u in units(file) for b in read_unit(u)]
    assert [(d["position"], d["source"]) for letters in dead for d in letters] == [(3, str(path))]


def test_long_files_are_cut(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_bytes(jsonl(50))
    monkeypatch.setattr(sources_module, "RANGE_BYTES", 999)
    (file,) = find_files([str(path)])
    pieces = units(file)
    assert len(pieces) == -(-len(jsonl(50)) // 999)
    found = [b.num_rows for unit in pieces for b in read_unit(unit)]
    assert sum(found) == 50


def test_folders_globs_and_repeats(tmp_path):
    (tmp_path / "day=1").mkdir()
    (tmp_path / "_tmp").mkdir()
    for name in ("b.jsonl", "day=1/a.jsonl", "_tmp/c.jsonl", ".hidden.jsonl"):
        (tmp_path / name).write_bytes(jsonl(1))
    (tmp_path / "README.md").write_text("no feedback")
    inside = [str(tmp_path / "b.jsonl"), str(tmp_path / "day=1/a.jsonl")]
    assert [f.path for f in find_files([str(tmp_path)])] == inside
    assert [f.path for f in find_files([str(tmp_path / "*/a.jsonl")])] == inside[1:]
    assert [f.path for f in find_files([*inside[::-1], inside[0], str(tmp_path)])] == inside
    assert [f.path for f in find_files(["file://" + inside[0]])] == inside[:1]


def refusal(*sources):
    with pytest.raises(SourceError) as caught:
        check_sources(list(map(str, sources)))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_sources_that_are_not_there(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.parquet")
    assert "matches no file" in refusal(tmp_path / "*.jsonl")
    assert "holds no" in refusal(tmp_path)
    assert "no source" in refusal()
    assert "--events is empty" in refusal("")
    (tmp_path / "a.csv").write_text("a,b")
    assert "none of .parquet" in refusal(tmp_path / "a.csv")
    assert "holds no" in refusal(tmp_path)
    assert "nowhere://" in refusal("nowhere://bucket/a.jsonl")


def test_parquet_files_that_are_none(tmp_path):
    good, path = tmp_path / "good.parquet", tmp_path / "a.parquet"
    write_parquet(good)
    for content in (b"PAR1", jsonl(3), good.read_bytes()[:-20], good.read_bytes()[:50], b"\0" * 99):
        path.write_bytes(content)
        assert "no whole Parquet file" in refusal(path)
    path.write_bytes(b"")
    assert "is empty" in refusal(path)


def test_parquet_columns_that_cannot_be(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path, user_id=None, event_time=None)
    assert "lacks the columns user_id, event_time" in refusal(path)
    write_parquet(path, user_id=pa.array([["u"]] * 5))
    assert "column user_id is list" in refusal(path)
    write_parquet(path, user_id=pa.array([7] * 5))
    assert "column user_id is int64, expected text; cast it" in refusal(path)


def test_damaged_pages_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path)
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    (file,) = check_sources([str(path)])
    with pytest.raises(SourceError, match="is damaged"):
        list(read_unit(Unit(file)))


def test_gzip_that_is_none_or_ends_early(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(jsonl(3))
    assert "is not gzip" in refusal(path)
    plain = tmp_path / "b.jsonl"
    plain.write_bytes(gzip.compress(jsonl(3)))
    assert "is gzip, not text" in refusal(plain)
    path.write_bytes(gzip.compress(jsonl(3)) + gzip.compress(jsonl(2)))
    assert len(read_all(path, gzipped=True)) == 5
    path.write_bytes(gzip.compress(jsonl(3000))[:-30])
    file = SourceFile(str(path), 1, "lines", gzip=True)
    with pytest.raises(SourceError, match="damaged gzip"):
        list(read_unit(Unit(file)))


def test_a_file_that_went_away(tmp_path):
    with pytest.raises(SourceError, match="cannot be opened"):
        list(read_unit(Unit(SourceFile(str(tmp_path / "a.jsonl"), 1, "lines"))))


def test_files_that_are_left_out_are_named(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(jsonl(1))
    check_sources([str(tmp_path)])
    assert not caplog.records
    for number in range(5):
        (tmp_path / f"b{number}.csv").write_bytes(b"x")
    (tmp_path / ".hidden.csv").write_bytes(b"x")
    assert len(check_sources([str(tmp_path)])) == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("5 files are left out")
    assert f"{tmp_path}/b0.csv" in told
    assert "b3" not in told
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(SourceError, match=r"but 5 others \(b0.csv, b1.csv, b2.csv, …\)"):
        check_sources([str(tmp_path)])


def test_a_mark_of_utf_8_may_begin_each_file_that_was_put_together(tmp_path):
    mark, one = b"\xef\xbb\xbf", jsonl(2)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(mark + one) + gzip.compress(mark + one))
    (batch,) = read_unit(Unit(SourceFile(str(path), path.stat().st_size, "lines", gzip=True)))
    assert batch.column("payload").to_pylist() == 2 * one.splitlines(keepends=True)
    line = len(one) // 2
    places = [3, 3 + line, 3 + len(one) + 3, 3 + len(one) + 3 + line]
    assert batch.column("position").to_pylist() == places


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_a_time_without_a_zone_is_refused(tmp_path, unit):
    path = tmp_path / "a.parquet"
    zone = pa.array([NOW], pa.timestamp("ms", "UTC")).cast(pa.timestamp(unit, "UTC"))
    write_parquet(path, 1, event_time=zone)
    check_sources([str(path)])
    write_parquet(path, 1, event_time=zone.cast(pa.timestamp(unit)))
    with pytest.raises(SourceError, match=r"event_time is timestamp.* without a zone"):
        check_sources([str(path)])
    with pytest.raises(SourceError, match="without a zone"):  # a file that came later
        list(read_unit(Unit(SourceFile(str(path), path.stat().st_size, "parquet"))))
