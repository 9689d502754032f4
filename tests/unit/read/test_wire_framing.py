"""Frames by hand: what is cut, what never is, and what ends too early."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.read.kafka.wire.framing import HEADER, Framed, split
from pipelines.read.kafka.wire.outcome import WireError
from pipelines.read.kafka.wire.protobuf import read_index

GUID = UUID("89791762-2336-4186-9674-299b90a802e2")


def test_the_five_bytes() -> None:
    assert split(b"\x00\x00\x00\x01\x02body", {}) == Framed(258, b"body")
    assert split(b"\x00\xff\xff\xff\xff", {}) == Framed(2**32 - 1, b"")


def test_a_guid_in_the_value_and_in_the_header() -> None:
    assert split(b"\x01" + GUID.bytes + b"body", {}) == Framed(GUID, b"body")
    header = {HEADER: b"\x01" + GUID.bytes + b"\x02\x02"}
    assert split(b"\x00 is data here", header) == Framed(GUID, b"\x00 is data here", b"\x02\x02")
    assert split(b"{}", {HEADER: b"\x00\x00\x00\x00\x07"}) == Framed(7, b"{}", b"")


@given(st.text().map(lambda text: b"{" + text.encode()))
def test_nothing_is_cut_from_what_begins_as_json(value: bytes) -> None:
    assert split(value, {}) is None


@pytest.mark.parametrize("value", [b"\x00", b"\x00abc", b"\x01" + GUID.bytes[:15]])
def test_a_frame_that_ends_early_is_told(value: bytes) -> None:
    with pytest.raises(WireError, match=r"got 0[01].*expected 00 and a schema id of 4 bytes"):
        split(value, {})


@pytest.mark.parametrize("header", [b"", b"\x02" + GUID.bytes, b"7"])
def test_a_header_that_is_none_is_told(header: bytes) -> None:
    with pytest.raises(WireError, match="header __value_schema_id"):
        split(b"{}", {HEADER: header})


@pytest.mark.parametrize(
    ("data", "path"),
    [
        (b"\x00", (0,)),
        (b"\x02\x02", (1,)),
        (b"\x04\x00\x00", (0, 0)),
        (b"\x04\x04\x02", (2, 1)),
        (b"\x02\x80\x02", (128,)),  # 128 zigzag is 256: 80 02
    ],
)
def test_the_index_of_a_protobuf_message(data: bytes, path: tuple[int, ...]) -> None:
    assert read_index(data + b"rest") == (path, b"rest")


@pytest.mark.parametrize("data", [b"", b"\x02", b"\x80" * 12, b"\x01", b"\xfe\xff\x7f"])
def test_an_index_that_is_none_is_told(data: bytes) -> None:
    with pytest.raises(WireError):
        read_index(data)
