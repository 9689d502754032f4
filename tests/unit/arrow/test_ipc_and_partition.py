import pyarrow as pa
import pytest

from pipelines.arrow.columns import encode_map
from pipelines.arrow.ipc import concat, conform_to_schema, decode, encode, without_dictionaries
from pipelines.arrow.partition import compact_dictionaries

SCHEMA = pa.schema([("id", pa.string()), ("n", pa.int64())])


def batch(ids, ns=None):
    return pa.RecordBatch.from_arrays(
        [pa.array(ids, pa.string()), pa.array(ns or list(range(len(ids))), pa.int64())],
        schema=SCHEMA,
    )


def coded(ids):
    return pa.RecordBatch.from_arrays(
        [pa.array(ids).dictionary_encode(), pa.array(range(len(ids)), pa.int64())],
        names=["id", "n"],
    )


@pytest.mark.parametrize("rows", [batch(["a", "b"]), batch([]), coded(["a", "a"]), coded([])])
def test_round_trip(rows):
    assert decode(encode(rows)).equals(rows)
    assert decode(encode(rows)).schema == rows.schema


def test_a_slice_ships_only_its_own_rows():
    parent = batch(["x" * 100] * 10_000)
    assert len(encode(parent.slice(5, 10))) < 3_000


def test_plain_writes_dictionaries_out():
    assert without_dictionaries(coded(["a", "b", "a"])).equals(batch(["a", "b", "a"]))
    assert without_dictionaries(pa.RecordBatch.from_arrays([], names=[])).num_columns == 0


def test_concat_merges_dictionaries_and_keeps_order():
    joined = concat([coded(["a", "b"]), coded(["c", "a"])], SCHEMA)
    assert pa.types.is_dictionary(joined.schema.field("id").type)
    assert joined.column("id").to_pylist() == ["a", "b", "c", "a"]


def test_concat_of_mixed_encodings_writes_out():
    joined = concat([coded(["a"]), batch(["b"])], SCHEMA)
    assert joined.schema.field("id").type == pa.string()
    assert joined.column("id").to_pylist() == ["a", "b"]


def test_concat_of_nothing_is_an_empty_batch():
    assert concat([], SCHEMA).equals(batch([]))
    assert concat([batch([])], SCHEMA).num_rows == 0


def test_conform_fills_orders_and_casts():
    rows = pa.RecordBatch.from_arrays(
        [pa.array([1], pa.int32()), pa.array(["x"]), pa.array(["a"]).dictionary_encode()],
        names=["n", "extra", "id"],
    )
    assert conform_to_schema(rows, SCHEMA).equals(batch(["a"], [1]))
    assert conform_to_schema(rows.select(["id"]), SCHEMA).column("n").null_count == 1


def test_a_compact_batch_holds_only_what_its_rows_use():
    pairs = [None if i % 5 == 0 else [(f"k{i}", f"v{i}"), ("same", None)] for i in range(200)]
    maps = encode_map(pa.array(pairs, pa.map_(pa.string(), pa.string())))
    words = pa.array([f"w{i}" for i in range(200)]).dictionary_encode()
    whole = pa.RecordBatch.from_arrays([maps, words], names=["context", "word"])
    for part in (whole.slice(41, 3), whole.slice(7, 0), whole.take(pa.array([41, 42, 43]))):
        small = compact_dictionaries(part)
        small.validate(full=True)
        assert small.to_pylist() == part.to_pylist()
        keys = small.column("context").keys.dictionary.to_pylist()
        assert len(keys) == 4 * bool(part.num_rows)  # k41, k42, k43 and the one they share
        assert len(small.column("word").dictionary) == part.num_rows
