"""The line at which a record begins, found again by its byte."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clean.line_numbers import line_numbers

lines = st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b".") + b"x"), min_size=1)


@given(lines, st.data())
def test_each_record_is_found_in_its_line(tmp_path_factory, records, data):
    path = tmp_path_factory.mktemp("lines") / "log.jsonl"
    zipped = data.draw(st.booleans())
    text = b"".join(record + b"\n" for record in records)
    path.write_bytes(gzip.compress(text) if zipped else text)
    starts = [sum(len(one) + 1 for one in records[:n]) for n in range(len(records))]
    asked = data.draw(st.lists(st.sampled_from(range(len(records))), max_size=20))
    if not zipped and text[:2] == b"\x1f\x8b":
        return  # it says that it is gzip
    found = line_numbers(path, [(starts[n], records[n]) for n in asked])
    assert found == [n + 1 for n in asked]


def test_what_is_no_longer_there_has_no_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"one\ntwo\n")
    places = [(0, b"one"), (4, b"TWO"), (90, b"x"), (4, b"two"), (4, b"")]
    assert line_numbers(path, places) == [1, None, None, 2, None]
    assert line_numbers(tmp_path / "gone", places) == [None] * 5


@pytest.mark.parametrize("cut", [5, 20])
def test_what_stands_before_the_damage_of_a_gzip_is_found(tmp_path, cut):
    path = tmp_path / "log.jsonl.gz"
    path.write_bytes(gzip.compress(b"one\n")[:cut])
    assert line_numbers(path, [(0, b"one"), (4, b"two")])[1] is None
