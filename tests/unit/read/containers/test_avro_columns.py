"""Avro blocks read abreast hold what the library reads record by record."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.errors import SourceError
from pipelines.read.containers import avro_columns, tables

SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "E",
    "fields": [
        {"name": "text", "type": "string"},
        {"name": "long", "type": "long"},
        {"name": "int", "type": ["int", "null"]},
        {"name": "real", "type": ["null", "double"]},
        {"name": "small", "type": "float"},
        {"name": "flag", "type": "boolean"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "inside",
            "type": [
                "null",
                {
                    "type": "record",
                    "name": "I",
                    "fields": [
                        {"name": "a", "type": ["null", "string"]},
                        {"name": "b", "type": "bytes"},
                    ],
                },
            ],
        },
    ],
}
INT32 = st.integers(-(2**31), 2**31 - 1)
RECORDS = st.fixed_dictionaries(
    {
        "text": st.text(max_size=200),
        "long": st.integers(-(2**63), 2**63 - 1),
        "int": st.none() | INT32,
        "real": st.none() | st.floats(allow_nan=False),
        "small": st.floats(width=32, allow_nan=False),
        "flag": st.booleans(),
        "at": st.integers(0, 2**41),
        "inside": st.none()
        | st.fixed_dictionaries({"a": st.none() | st.text(max_size=3), "b": st.binary(max_size=3)}),
    }
)


def written(records: list[dict[str, Any]], interval: int, codec: str = "null") -> bytes:
    out = io.BytesIO()
    fastavro.writer(out, SCHEMA, records, codec=codec, sync_interval=interval)
    return out.getvalue()


def rows(data: bytes, wanted: list[str] | None = None) -> list[dict[str, Any]]:
    batches = tables.read_avro(io.BytesIO(data), "a.avro", wanted)
    return [row for batch in batches for row in batch.to_pylist()]


@settings(max_examples=60)
@given(st.lists(RECORDS, max_size=30), st.integers(1, 300))
def test_they_are_equal(records, interval):
    data = written(records, interval, "deflate")
    usual = avro_columns.MIN_BLOCKS
    try:
        avro_columns.MIN_BLOCKS = 10**9
        singly = rows(data)
        avro_columns.MIN_BLOCKS = 1
        abreast = rows(data)
    finally:
        avro_columns.MIN_BLOCKS = usual
    assert abreast == singly
    assert len(abreast) == len(records)


def test_only_what_is_wanted_comes_back(monkeypatch):
    monkeypatch.setattr(avro_columns, "MIN_BLOCKS", 1)
    record = {"text": "é", "long": -7, "small": 0.5, "flag": True, "at": 5, "inside": None}
    data = written([{**record, "int": None, "real": 1.5}] * 3, 1)
    assert rows(data, ["long", "text"]) == [{"text": "é", "long": -7}] * 3


@settings(max_examples=100)
@given(st.data())
def test_damage_is_told_or_harmless(data):
    record = {"text": "abc", "long": 300, "small": 0.5, "flag": True, "at": 5, "inside": None}
    whole = written([{**record, "int": 3, "real": None}] * 5, 20)
    start = whole.index(b"abc")
    place = data.draw(st.integers(start, len(whole) - 1))
    broken = whole[:place] + bytes([data.draw(st.integers(0, 255))]) + whole[place + 1 :]
    usual = avro_columns.MIN_BLOCKS
    try:
        avro_columns.MIN_BLOCKS = 1
        told = f"{len(rows(broken))} rows"
    except SourceError as error:
        told = str(error)
    except EOFError:  # told by `read_records`, as of every container
        told = "damaged"
    finally:
        avro_columns.MIN_BLOCKS = usual
    assert told == "5 rows" or "damaged" in told


def test_an_array_is_for_the_library():
    schema = {"fields": [{"name": "l", "type": {"type": "array", "items": "int"}}]}
    with pytest.raises(avro_columns.UnknownKindError):
        avro_columns.columns(schema, [b""], [0], ["l"])
