"""The store's door, its files, and what a full disk leaves behind."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import JobError, StoreError
from models.schema import EMBEDDINGS
from models.store import atomic_files, gate
from models.store.canonical_bytes import canonical, digest_of, to_ipc
from models.store.catalogue import read_catalogue
from models.store.manifest import Manifest
from models.store.store import Store


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "store")
    made.create({"model": {"dim": 8}})
    return made


def test_a_missing_store_is_explained(tmp_path):
    with pytest.raises(StoreError, match=r"there is no store at .*make one with rillet run"):
        Store.open(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError, match=r"is not a Rillet store \(it holds 'thesis.tex'"):
        Store(tmp_path).is_new()


def test_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file: give a folder"):
        Store(tmp_path / "file").is_new()


def test_an_empty_folder_is_a_new_store(tmp_path):
    assert Store(tmp_path).is_new()


@pytest.mark.parametrize("leftover", [".rillet-run.lock", ".rillet-run.pid", ".meta.json.tmp"])
def test_a_store_killed_while_it_was_made_is_new(tmp_path, leftover):
    (tmp_path / leftover).write_text("")
    assert Store(tmp_path).is_new()


def test_another_format_is_refused(store):
    (store.root / "meta.json").write_text(json.dumps({"format": 2}))
    with pytest.raises(StoreError, match="has format 2, this Rillet reads 1: use the Rillet that"):
        Store.open(store.root)


@pytest.mark.parametrize("damage", ["", "{", "[1]"])
def test_a_damaged_meta_is_explained(store, damage):
    (store.root / "meta.json").write_text(damage)
    with pytest.raises(StoreError, match=r"meta\.json cannot be read"):
        Store.open(store.root)


def test_what_was_made_with_is_on_record(store):
    assert Store.open(store.root).meta()["config"] == {"model": {"dim": 8}}


_HOLD = """
import sys; from pathlib import Path; from models.store.store import Store
with Store(Path(sys.argv[1])).lock():
    print("held", flush=True); sys.stdin.read()
"""


def test_a_store_in_use_names_the_holder_and_a_killed_holder_lets_go(store):
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    with holder:
        assert holder.stdout.readline() == b"held\n"
        in_use = pytest.raises(StoreError, match=f"in use by run with pid {holder.pid}: wait")
        with in_use, store.lock():
            pass
        holder.kill()
    with store.lock():
        pass


def test_locking_leaves_no_trace_of_a_store_that_was_not_made(tmp_path):
    with Store(tmp_path / "a" / "b").lock():
        assert (tmp_path / "a" / "b").exists()
    assert not (tmp_path / "a" / "b").exists()


def test_a_store_with_nothing_in_it_can_be_taken_back(store):
    store.discard()
    assert store.is_new()


def test_an_unknown_version_is_explained(store):
    with pytest.raises(StoreError, match="has no version 3: there are none yet"):
        store.manifest(3)


def test_a_damaged_manifest_is_explained(store):
    (store.root / "versions" / "000001.json").write_text('{"version": 1}')
    with pytest.raises(StoreError, match=r"000001.json is damaged \(Object missing required"):
        store.manifest(1)


def test_a_damaged_current_is_explained(store):
    (store.root / "CURRENT").write_text("latest")
    with pytest.raises(StoreError, match="CURRENT does not hold the number"):
        store.current()


@pytest.mark.parametrize("data", [b"", b"ARROW1", None])
def test_a_damaged_batch_is_explained(store, data):
    if data is not None:
        store.batch_path(1).write_bytes(data)
    with pytest.raises(StoreError, match=r"000001.arrow cannot be read"):
        store.read_batch(1)


@pytest.mark.parametrize("kept", [0, 3, 200])  # bytes of a whole file, the rest is lost
def test_a_damaged_catalogue_is_one_line_with_its_cure(store, kept):
    path = store.catalogue_path("items")
    assert read_catalogue(store, "items") is None
    pq.write_table(pa.table({"item_id": [f"i{n}" for n in range(99)], "title": ["t"] * 99}), path)
    assert read_catalogue(store, "items", ["title", "text"]).column_names == ["title"]
    whole = path.read_bytes()
    path.write_bytes(whole[:kept].ljust(len(whole) - 200, b"x") + whole[-200:])
    with pytest.raises(StoreError, match=r"items.parquet cannot be read.*rillet run --items") as no:
        read_catalogue(store, "items")
    assert "\n" not in str(no.value)


def test_only_checkpoints_with_a_manifest_count(store):
    store.put_checkpoint(4, lambda folder: (folder / "weights").write_bytes(b"1"))
    assert store.checkpoints() == []
    (store.root / "versions" / "000004.json").write_text("{}")
    assert store.checkpoints() == [4]


def test_a_newer_state_replaces_the_older(store):
    for number in (3, 12):
        store.put_state(number, lambda folder: (folder / "state").write_text("x"))
    assert [p.name for p in (store.root / "state").iterdir()] == ["000012"]
    assert store.last_state() == 12


# -- atomic writes -----------------------------------------------------------


def test_a_failing_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "CURRENT"
    atomic_files.write_bytes(path, b"old")

    def fail(file):
        file.write(b"ne")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(JobError, match=r"no space left to write .*CURRENT.*free some"):
        atomic_files.write_file(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["CURRENT"]
    assert path.read_bytes() == b"old"


def test_a_failing_folder_leaves_what_was_there(tmp_path):
    path = tmp_path / "000004"
    atomic_files.replace_folder(path, lambda folder: (folder / "a").write_text("old"))

    def fail(folder):
        (folder / "b").write_text("new")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(JobError, match="no space left"):
        atomic_files.replace_folder(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == ["000004"]
    assert (path / "a").read_text() == "old"


def test_a_folder_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        atomic_files.write_bytes(tmp_path / "file" / "x", b"1")


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "000004"
    atomic_files.replace_folder(path, lambda folder: (folder / "a").write_text("old"))
    atomic_files.replace_folder(path, lambda folder: (folder / "b").write_text("new"))
    assert [p.name for p in path.iterdir()] == ["b"]


def test_leftovers_are_swept(tmp_path):
    (tmp_path / "versions").mkdir()
    for name in (".CURRENT.tmp", "versions/.000001.json.tmp", "versions/000001.json"):
        (tmp_path / name).write_text("")
    (tmp_path / "versions" / ".000004-old.tmp").mkdir()
    atomic_files.sweep(tmp_path)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*"))
    assert left == ["versions", "versions/000001.json"]


# -- equal rows, equal bytes ---------------------------------------------------

_COLUMNS = {
    "text": (pa.string(), st.none() | st.text(max_size=4)),
    "number": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "real": (pa.float64(), st.none() | st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.none() | st.booleans()),
    "time": (pa.timestamp("ms", "UTC"), st.none() | st.integers(0, 2**40)),
    "list": (
        pa.list_(pa.string()),
        st.none() | st.lists(st.none() | st.text(max_size=2), max_size=3),
    ),
    "pair": (
        pa.list_(pa.float32(), 2),
        st.none() | st.tuples(st.integers(0, 9), st.integers(0, 9)).map(list),
    ),
    "map": (
        pa.map_(pa.string(), pa.string()),
        st.none()
        | st.dictionaries(st.text(max_size=2), st.none() | st.text(max_size=2), max_size=3).map(
            lambda d: list(d.items())
        ),
    ),
}
rows = st.lists(st.tuples(*(values for _, values in _COLUMNS.values())), max_size=12)


@given(rows, st.integers(0, 12), st.integers(0, 12))
def test_equal_rows_give_equal_bytes(rows, before, cut):
    def batch(of):
        columns = list(zip(*of, strict=True)) or [[]] * len(_COLUMNS)
        return pa.RecordBatch.from_arrays(
            [pa.array(c, t) for c, (t, _) in zip(columns, _COLUMNS.values(), strict=True)],
            names=list(_COLUMNS),
        )

    whole = batch(rows)
    padded = batch([*rows[:before], *rows]).slice(min(before, len(rows)))
    joined = pa.concat_batches([whole.slice(0, cut), whole.slice(cut)])
    taken = whole.take(pa.array(np.arange(len(rows))))
    told = canonical(whole)
    told.validate(full=True)
    assert told.equals(whole)
    for other in (padded, joined, taken):
        assert to_ipc(canonical(other)) == to_ipc(told)
        assert digest_of(other) == digest_of(whole)


def test_dictionaries_are_written_out():
    plain = pa.record_batch({"id": ["a", "b", "a"]})
    coded = pa.record_batch({"id": pa.array(["a", "b", "a"]).dictionary_encode()})
    assert to_ipc(canonical(coded)) == to_ipc(canonical(plain))


def test_other_rows_give_another_digest():
    assert digest_of(pa.record_batch({"id": ["a"]})) != digest_of(pa.record_batch({"id": ["b"]}))


# -- the gate ------------------------------------------------------------------


def vectors(*rows: list[float]) -> pa.RecordBatch:
    n = len(rows)
    columns = [["item"] * n, [str(i) for i in range(n)], list(rows), [1] * n, [0] * n, [False] * n]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, EMBEDDINGS, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=EMBEDDINGS)


@pytest.mark.parametrize(
    ("metrics", "delta", "reason"),
    [
        ({"loss": 0.3, "model": {"recall@20": None}}, vectors([3.0, 4.0]), None),
        ({}, vectors(), None),
        ({"loss": float("nan")}, vectors([1.0]), "loss is nan"),
        ({"heads": {"click": {"loss": float("inf")}}}, vectors(), "heads.click.loss is inf"),
        ({"model": {"recall@20": 1.5}}, vectors(), "model.recall@20 is 1.5, outside [0, 1]"),
        ({}, vectors([0.0], [float("nan")]), "1 of 2 vectors of the delta are not finite"),
        ({}, vectors([9e3, 9e3]), "a vector of the delta has length 1.27e+04, above 10000"),
    ],
)
def test_the_gate_refuses_with_a_reason(metrics, delta, reason):
    verdict = gate.judge(metrics, delta)
    assert verdict.reasons == ([] if reason is None else [reason])
    assert verdict.served is (reason is None)


def test_an_empty_snapshot_is_not_served():
    empty = pa.Table.from_batches([vectors()])
    assert gate.judge({}, vectors(), snapshot=empty).reasons == [
        "there is not a single vector to serve"
    ]


def test_a_manifest_is_closed_to_unknown_fields():
    with pytest.raises(StoreError, match="is damaged"):
        Manifest.decode(b'{"surprise": 1}', "x")
