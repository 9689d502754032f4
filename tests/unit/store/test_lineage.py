"""A lineage of versions, killed anywhere, ends as if nothing had happened."""

import itertools
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_trainer import FakeTrainer
from leftovers import contents
from rows import feature_rows

from models.errors import JobError, StoreError
from models.store import atomic_files
from models.store.embeddings import CopyPolicy, lineage, read_embeddings
from models.store.lineage import Lineage
from models.store.store import GENESIS, Store
from pipelines.batches.micro_batch import LogBatches
from pipelines.config import BatchConfig
from pipelines.publish import FileSink

KEEP = CopyPolicy(checkpoint_every=4, snapshot_every=3, keep_checkpoints=2, keep_snapshots=2)

WRITES = 42
"""Files and folders that training ten batches puts in place."""


class Fakes:
    def fresh(self):
        return FakeTrainer()

    def restore(self, folder):
        return FakeTrainer.restore(folder)


def logged(folder: Path, rows: int = 40, *, poison: int | None = None) -> tuple[Store, int]:
    """A store with a log of batches of four rows; batch `poison` holds a poisoned one."""
    store = Store(folder / "store")
    store.create({})
    made = feature_rows(rows)
    if poison:
        items = made.rows.column("item_id").to_pylist()
        items[(poison - 1) * 4] = "poison"
        at = made.rows.schema.get_field_index("item_id")
        made = type(made)(made.rows.set_column(at, "item_id", pa.array(items)), made.timeline)
    _, last = LogBatches(store, BatchConfig(min_rows=4, max_rows=4), 50, 0)(made)
    return store, last


def train(store: Store, last: int, *, start: int = 0, predictions=None, group_s=0.0):
    job = Lineage(
        store=store,
        trainers=Fakes(),
        publish=[FileSink(store).publish],
        keep=KEEP,
        clock=itertools.count(1_700_000_000_000, 7).__next__,
        start=start,
        last=last,
        predictions=predictions,
        group_s=group_s,
    )
    return list(job.run())


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is cleaned up after it."""


def kill_after(monkeypatch, writes: int) -> None:
    """Let `writes` files or folders reach their place, then die before the next one does."""
    left = itertools.count(writes, -1)

    def guarded(real, first, *fill):
        files = [(first, *fill)] if fill else first
        for path, fill in files:
            if next(left) == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.with_name(f".{path.name}.tmp").write_bytes(b"half a fi")
                raise Killed
            real(path, fill) if real.__name__ == "replace_folder" else real([(path, fill)])

    for name in ("write_files", "replace_folder"):
        monkeypatch.setattr(atomic_files, name, partial(guarded, getattr(atomic_files, name)))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    store, last = logged(folder, poison=6)
    train(store, last, predictions=folder / "predictions")
    return contents(folder / "store", folder / "predictions")


@pytest.mark.parametrize(
    ("group_s", "writes"),
    [(0, n) for n in range(WRITES + 1)] + [(1e9, n) for n in range(1, WRITES, 4)],
)
def test_killed_between_any_two_writes_it_ends_the_same(tmp_path, undisturbed, group_s, writes):
    store, last = logged(tmp_path, poison=6)
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, writes)
        try:
            train(store, last, predictions=tmp_path / "predictions", group_s=group_s)
        except Killed:
            pass
        else:
            assert writes >= WRITES - (8 if group_s else 0), (
                "the run writes more often than this test kills it"
            )
    store.clean()
    atomic_files.sweep(tmp_path / "predictions")
    train(store, last, predictions=tmp_path / "predictions")
    assert contents(tmp_path / "store", tmp_path / "predictions") == undisturbed


def test_predictions_that_were_not_asked_for_before_the_kill_are_there_after(tmp_path, undisturbed):
    store, last = logged(tmp_path, poison=6)
    train(store, 9)  # ended early, without predictions
    train(store, last, predictions=tmp_path / "predictions")
    names = [n for n in undisturbed if n.startswith("predictions/")]
    got = contents(tmp_path / "predictions")
    rows = lambda files: sorted(  # noqa: E731
        (json.dumps(r, default=str) for name in names for r in files.get(name, [])),
    )
    read = pq.read_table(tmp_path / "predictions")
    assert len(read) == 40
    assert sorted(json.dumps(r, default=str) for r in read.to_pylist()) == rows(undisturbed)
    assert len(got) == len(names) + 1  # batch 9 ended a run: a file of its own


def test_a_poisoned_batch_is_refused_left_out_and_not_trained_on(tmp_path):
    store, last = logged(tmp_path, poison=6)
    manifests = train(store, last)
    refused = manifests[5]
    assert refused.gate.served is False
    assert refused.gate.reasons == ["loss is nan"]
    assert refused.published_at is None
    assert refused.digest == manifests[4].digest
    assert manifests[6].parent == 5
    assert store.current() == last
    saved = json.loads((store.checkpoint_path(last) / "fake.json").read_text())
    assert saved["stepped"] == [1, 2, 3, 4, 5, 7, 8, 9, 10]
    assert "poison" not in read_embeddings(store)[1]["id"].to_pylist()


def test_current_stays_at_the_last_good_version(tmp_path):
    store, last = logged(tmp_path, poison=10)
    train(store, last)
    assert last == 10
    assert store.current() == 9
    assert lineage(store, 9) == [9] or lineage(store, 9)[-1] == 9


def test_a_version_reads_as_its_snapshot_and_the_deltas_after_it(tmp_path):
    store, last = logged(tmp_path)
    train(store, last)
    counts = {}
    for number in range(1, last + 1):
        batch, _ = store.read_batch(number)
        for item in batch.column("item_id").to_pylist():
            counts[item] = counts.get(item, 0) + 1
        if number < 7:  # pruned: two snapshots are kept, of versions 9 and 10
            continue
        if number >= 9:
            read, table = read_embeddings(store, number)
            assert read == number
            got = dict(zip(table["id"].to_pylist(), table["embedding"].to_pylist(), strict=True))
            assert {i: v[0] for i, v in got.items()} == counts
            assert table["id"].to_pylist() == sorted(counts)
            assert pa.types.is_fixed_size_list(table.schema.field("embedding").type)


def test_old_copies_go_and_those_that_are_needed_stay(tmp_path):
    store, last = logged(tmp_path, rows=80)
    train(store, last)
    assert last == 20
    assert store.checkpoints() == [16, 20]
    assert store.embeddings("snapshot") == [18, 20]
    assert store.embeddings("delta") == [19, 20]
    assert sorted(p.name for p in (store.root / "serving").iterdir()) == ["000018", "000020"]
    assert store.versions() == list(range(1, 21))
    with pytest.raises(StoreError, match=r"version 5 .* can no longer be read"):
        read_embeddings(store, 5)


def test_a_later_deletion_takes_an_id_away(tmp_path):
    store, last = logged(tmp_path)
    train(store, last)
    path = store.embeddings_path("delta", last)
    table = pq.read_table(path)
    gone = table["id"][0].as_py()
    at = table.schema.get_field_index("deleted")
    flags = pa.array(np.array(table["id"].to_pylist()) == gone)
    pq.write_table(table.set_column(at, table.schema.field(at), flags), path)
    # The last version is a snapshot, too; read it as if it were not.
    manifest = json.loads((store.root / "versions" / f"{last:06d}.json").read_text())
    manifest["snapshot"] = 9
    (store.root / "versions" / f"{last:06d}.json").write_text(json.dumps(manifest))
    assert gone not in read_embeddings(store)[1]["id"].to_pylist()
    assert gone in read_embeddings(store, deleted=True)[1]["id"].to_pylist()


def test_what_is_done_needs_no_trainer(tmp_path):
    store, last = logged(tmp_path)
    train(store, last)
    made = FakeTrainer.made
    assert train(store, last) == []
    assert FakeTrainer.made == made


def test_the_digest_chains_parent_batch_and_vectors(tmp_path):
    store, last = logged(tmp_path)
    manifests = train(store, last)
    digests = [m.digest for m in manifests]
    assert len(set(digests)) == last
    assert GENESIS not in digests
    assert [m.parent for m in manifests] == [None, *range(1, last)]


def test_a_replay_that_differs_is_told(tmp_path, caplog):
    store, last = logged(tmp_path)
    train(store, 6)
    path = store.root / "versions" / "000006.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "digest": "f" * 64, "checkpoint": False}))
    shutil.rmtree(store.checkpoint_path(6))
    with caplog.at_level("WARNING", "rillet"):
        train(store, last)
    assert "replaying batch 6 gave other bytes" in caplog.text
    assert store.current() == last


def test_late_rows_alone_make_no_version_older(tmp_path):
    store, last = logged(tmp_path)
    made = train(store, last)
    store.log_batches([(last + 1, store.batch_path(2).read_bytes())])
    (late,) = train(store, last + 1, start=last)
    assert made[1].newest_event_time < made[-1].newest_event_time == late.newest_event_time
    assert late.watermark == made[-1].watermark


def test_a_changed_batch_is_not_trained_on(tmp_path):
    store, last = logged(tmp_path)
    train(store, 6)
    shutil.rmtree(store.checkpoint_path(6))
    shutil.copy(store.batch_path(7), store.batch_path(5))
    with pytest.raises(StoreError, match=r"000005.arrow is not the one that version 5"):
        train(store, last)


def test_a_failing_step_names_the_batch(tmp_path):
    store, _ = logged(tmp_path)
    batch, _ = store.read_batch(3)
    at = batch.schema.get_field_index("item_id")
    crash = batch.set_column(at, batch.schema.field(at), pa.array(["crash"] * 4))
    with pa.ipc.new_file(str(store.batch_path(3)), crash.schema) as writer:
        writer.write_batch(crash)
    with pytest.raises(JobError, match=r"micro-batch 3 failed \(RuntimeError: out of something\)"):
        train(store, 10)
    assert store.current() == 2
