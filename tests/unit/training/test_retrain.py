"""A full retrain: published only when no worse, whole or not at all, and gone on from."""

import hashlib
import itertools
import json
import shutil

import pyarrow as pa
import pytest
from fake_trainer import FakeTrainer
from leftovers import contents
from rows import feature_rows
from test_lineage import KEEP, Fakes, Killed, kill_after, train

from models.errors import StoreError
from models.store.canonical_bytes import digest_of
from models.store.embeddings import read_embeddings
from models.store.manifest import utc_ms
from models.store.recovery import recover
from models.store.store import Store
from models.store.version_numbers import VersionNumbers, last_trained_batch
from models.training.retrain import Retrain, log_digest
from pipelines.batches.micro_batch import LogBatches
from pipelines.config import BatchConfig
from pipelines.publish import FileSink
from pipelines.publish.missing_rows import rows_missing_in
from pipelines.publish.sink import SinkState, VersionMark

ROWS = 200
LAST = 50
MODEL = {"dim": 8}
NOW = utc_ms(1_800_000_000_000)


def log(store: Store, rows: int, poison: int | None = None) -> int:
    """Log batches of four of the first `rows` rows of a stream."""
    made = feature_rows(rows, items=60)
    if poison:
        items = made.rows.column("item_id").to_pylist()
        items[(poison - 1) * 4] = "poison"
        at = made.rows.schema.get_field_index("item_id")
        made = type(made)(made.rows.set_column(at, "item_id", pa.array(items)), made.timeline)
    return LogBatches(store, BatchConfig(min_rows=4, max_rows=4), 50, 0)(made)[1]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """A store with 50 versions, as a run leaves it."""
    store = Store(tmp_path_factory.mktemp("live") / "store")
    store.create({"model": {"dim": 4}})
    train(store, log(store, ROWS))
    return store


@pytest.fixture
def store(live, tmp_path):
    shutil.copytree(live.root, tmp_path / "store")
    return Store(tmp_path / "store")


class Worse(Fakes):
    """Makes trainers that predict a little worse than the live one did."""

    by = 0.5

    def fresh(self):
        trainer, by = FakeTrainer(), self.by

        class Spoiled(FakeTrainer):
            def step(self, number, rows, *, predictions=False):
                step = trainer.step(number, rows, predictions=predictions)
                self.__dict__.update(trainer.__dict__)
                step.metrics["model"]["recall@20"] *= by
                return step

        return Spoiled()


def retrain(store: Store, trainers=None, **given):
    return Retrain(
        store=store,
        trainers=trainers or Fakes(),
        model=MODEL,
        publish=[FileSink(store).publish],
        clock=itertools.count(1_800_000_000_000, 7).__next__,
        **{"last": 0.6, **given},
    ).run()


def test_it_becomes_the_served_version_with_a_number_of_its_own(store):
    told = retrain(store)
    assert told["retrained"] == store.current() == LAST + 1
    assert told["reasons"] == []
    made = store.manifest(LAST + 1)
    assert (made.parent, made.retrain_of, made.batch, made.snapshot) == (None, LAST, LAST, LAST + 1)
    assert made.rows == ROWS
    assert made.published_at is not None
    assert made.newest_event_time == store.manifest(LAST).newest_event_time
    assert store.meta()["config"]["model"] == MODEL
    assert VersionNumbers.of(store) == VersionNumbers(shift=1, root=LAST + 1)
    assert last_trained_batch(store) == LAST
    version, table = read_embeddings(store)
    assert version == LAST + 1
    assert set(table["version"].to_pylist()) == {LAST + 1}
    # The same log in the same order: the same vectors as the live model's.
    before = read_embeddings(store, LAST)[1]
    assert table["embedding"].to_pylist() == before["embedding"].to_pylist()


def test_the_digest_is_of_the_log_and_the_vectors(store):
    told = retrain(store, epochs=2)
    hashes = [hashlib.sha256(store.batch_path(n).read_bytes()).digest() for n in range(1, LAST + 1)]
    of_log = hashlib.sha256(b"rillet retrain" + (2).to_bytes(8, "little") + b"".join(hashes))
    snapshot = FakeTrainer.restore(store.checkpoint_path(LAST + 1)).snapshot(LAST + 1)
    vectors = digest_of(snapshot.combine_chunks().to_batches()[0])
    assert told["digest"] == hashlib.sha256(b"\0" * 32 + of_log.digest() + vectors).hexdigest()
    assert store.manifest(LAST + 1).batch_sha256 == of_log.hexdigest()
    assert log_digest(2, [h.hex() for h in hashes]) == of_log.hexdigest()


def test_another_number_of_epochs_is_another_model(live, tmp_path):
    digests = []
    for epochs in (1, 2, 2):
        shutil.copytree(live.root, tmp_path / f"s{len(digests)}")
        digests.append(retrain(Store(tmp_path / f"s{len(digests)}"), epochs=epochs)["digest"])
    assert digests[0] != digests[1] == digests[2]


def test_training_goes_on_from_it(store):
    retrain(store)
    more = log(store, ROWS + 20)
    made = train(store, more, start=LAST)
    assert [m.version for m in made] == [52, 53, 54, 55, 56]
    assert [m.batch for m in made] == [51, 52, 53, 54, 55]
    assert [m.parent for m in made] == [51, 52, 53, 54, 55]
    assert store.current() == 56
    saved = json.loads((store.checkpoint_path(56) / "fake.json").read_text())
    assert saved["stepped"] == list(range(1, more + 1))
    _, table = read_embeddings(store)
    newest = dict(zip(table["id"].to_pylist(), table["version"].to_pylist(), strict=True))
    assert set(newest.values()) <= {51, 52, 53, 54, 55, 56}
    assert max(newest.values()) == 56
    newest = store.manifest(56).snapshot
    served = json.loads((store.serving_path(newest) / "serving.json").read_text())
    assert served["version"] == newest > last_trained_batch(store)
    assert VersionNumbers.of(store) == VersionNumbers(shift=1, root=51)


def test_going_on_gives_the_same_versions_after_a_restart(store, tmp_path):
    retrain(store)
    more = log(store, ROWS + 20)
    shutil.copytree(store.root, tmp_path / "again")
    train(store, more, start=LAST)
    again = Store(tmp_path / "again")
    for until in (51, 53, more):
        train(again, until, start=LAST)
    assert [again.manifest(v).digest for v in again.versions()] == [
        store.manifest(v).digest for v in store.versions()
    ]


def test_predictions_keep_the_numbers_of_the_batches(store, tmp_path):
    import pyarrow.parquet as pq

    retrain(store)
    train(store, log(store, ROWS + 20), start=LAST, predictions=tmp_path / "predictions")
    batches = pq.read_table(tmp_path / "predictions")["batch"].to_pylist()
    assert sorted(set(batches)) == [51, 52, 53, 54, 55]


def test_a_sink_gets_a_whole_copy_then_deltas_again(store):
    def mark(version):
        return SinkState(served=VersionMark(version, store.manifest(version).digest))

    retrain(store)
    whole = rows_missing_in(store, mark(LAST))
    assert whole.mark.version == LAST + 1
    assert whole.whole
    assert set(whole.rows["version"].to_pylist()) == {LAST + 1}
    train(store, log(store, ROWS + 8), start=LAST)
    after = rows_missing_in(store, mark(LAST + 1))
    assert after.mark.version == LAST + 3
    assert min(after.rows["version"].to_pylist()) > LAST + 1 or after.whole


def test_a_second_retrain_counts_on(store):
    retrain(store)
    train(store, log(store, ROWS + 20), start=LAST)
    told = retrain(store)
    assert (told["retrained"], told["retrain_of"]) == (57, 56)
    assert VersionNumbers.of(store) == VersionNumbers(shift=2, root=57)
    assert last_trained_batch(store) == 55


def test_a_worse_model_is_refused_and_everything_stays(store):
    before = contents(store.root)
    told = retrain(store, Worse())
    assert told["retrained"] is told["digest"] is None
    (reason,) = told["reasons"]
    assert "recall@20" in reason
    assert contents(store.root) == before


def test_how_much_worse_is_said(store):
    class Little(Worse):
        by = 0.99

    assert retrain(store, Little(), dry_run=True)["reasons"] == []
    assert len(retrain(store, Little(), dry_run=True, tolerance=0.005)["reasons"]) == 1


def test_the_comparison_is_of_the_same_rows(store):
    found = retrain(store, Worse(), dry_run=True)["comparison"]
    judged = [store.manifest(n) for n in range(21, LAST + 1)]
    rows = sum(m.metrics["evaluated"] for m in judged)
    recall = sum(m.metrics["evaluated"] * m.metrics["model"]["recall@20"] for m in judged) / rows
    assert (found["first"], found["last"], found["rows"]) == (21, LAST, rows)
    told = found["recall@20"]
    assert told["live"] == pytest.approx(recall, abs=1e-6)
    assert told["retrained"] == pytest.approx(recall / 2, abs=1e-6)
    assert told["difference"]["value"] == pytest.approx(-recall / 2, abs=1e-6)


def test_a_dry_run_leaves_no_trace(store):
    before = contents(store.root)
    told = retrain(store, dry_run=True)
    assert told["retrained"] is None
    assert told["comparison"]["recall@20"]["no_worse"] is True
    assert contents(store.root) == before


def test_a_vector_that_is_not_finite_is_refused(store):
    class Broken(Fakes):
        def fresh(self):
            trainer = FakeTrainer()
            real = trainer.snapshot
            trainer.snapshot = lambda version: spoiled(real(version))
            return trainer

    def spoiled(table):
        at = table.schema.get_field_index("embedding")
        column = pa.array([[float("nan"), 0.0]] * len(table), table.schema.field(at).type)
        return table.set_column(at, table.schema.field(at), column)

    told = retrain(store, Broken())
    assert "not finite" in told["reasons"][0]
    assert store.current() == LAST


def test_refused_batches_are_left_out(tmp_path):
    store = Store(tmp_path / "store")
    store.create({"model": {}})
    train(store, log(store, ROWS, poison=LAST))
    assert store.current() == LAST - 1
    told = retrain(store)
    assert (told["retrained"], told["batches"]) == (LAST + 1, LAST - 1)
    saved = json.loads((store.checkpoint_path(LAST + 1) / "fake.json").read_text())
    assert saved["stepped"] == list(range(1, LAST))
    assert store.manifest(LAST + 1).batch == LAST  # what comes next is batch 51


def test_an_interrupted_run_comes_first(store):
    log(store, ROWS + 20)
    with pytest.raises(StoreError, match="up to 55 of an interrupted run"):
        retrain(store)


def test_too_little_to_compare_on(store):
    with pytest.raises(StoreError, match=r"has 20 predicted rows .* needs 100: give a larger"):
        retrain(store, last=0.1)


def test_a_second_retrain_is_compared_with_the_first(store):
    first = retrain(store, Worse(), tolerance=1.0)["comparison"]
    assert store.current() == LAST + 1
    told = retrain(store, dry_run=True)["comparison"]
    assert told["recall@20"]["live"] == first["recall@20"]["retrained"]
    assert (told["rows"], told["first"]) == (first["rows"], first["first"])


def test_after_a_retrain_later_versions_speak_for_themselves(store):
    first = retrain(store, Worse(), tolerance=1.0)["comparison"]
    train(store, log(store, ROWS + 40), start=LAST)
    told = retrain(store, dry_run=True, last=0.9)["comparison"]
    assert (told["first"], told["last"]) == (first["first"], LAST + 10)  # before it nobody knows
    later = [store.manifest(n + 1).metrics for n in range(LAST + 1, LAST + 11)]
    found = [first["rows"] * first["recall@20"]["retrained"]]
    found += [one["evaluated"] * one["model"]["recall@20"] for one in later]
    rows = first["rows"] + sum(one["evaluated"] for one in later)
    assert told["recall@20"]["live"] == pytest.approx(sum(found) / rows, abs=1e-6)


def test_a_model_that_predicted_nothing_replaces_none(store):
    class Silent(Fakes):
        def fresh(self):
            trainer = FakeTrainer()
            real = trainer.step
            trainer.step = lambda *args, **given: silenced(real(*args, **given))
            return trainer

    def silenced(step):
        step.metrics.pop("model")
        return step

    told = retrain(store, Silent())
    assert told["reasons"] == ["recall@20 of the retrained model is not known: nothing to compare"]
    assert store.current() == LAST


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda s: s.batch_path(5).unlink(), r"000005.arrow is missing, version 5 was trained on"),
        (lambda s: (s.root / "versions/000005.json").unlink(), "no version of micro-batch 5"),
        (lambda s: shutil.copy(s.batch_path(7), s.batch_path(5)), "is not the one that version 5"),
    ],
)
def test_a_log_that_is_not_whole_is_refused(store, harm, words):
    harm(store)
    before = contents(store.root)
    with pytest.raises(StoreError, match=words):
        retrain(store)
    assert contents(store.root) == before


WRITES = 8


@pytest.mark.parametrize("writes", range(WRITES + 1))
def test_killed_between_any_two_writes_the_store_is_sound(live, tmp_path, writes):
    shutil.copytree(live.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, writes)
        try:
            retrain(store)
        except Killed:
            assert writes < WRITES
        else:
            assert writes >= WRITES - 1, "it writes less often than this test kills it"
    assert store.current() in (LAST, LAST + 1)
    read_embeddings(store)  # a reader never meets half a version
    recover(store, NOW)
    store.clean()
    published = LAST + 1 in store.versions()
    assert store.current() == LAST + published
    assert store.meta()["config"]["model"] == (MODEL if published else {"dim": 4})
    assert store.checkpoints()[-1] == LAST + published
    more = log(store, ROWS + 20)
    made = train(store, more, start=LAST)
    assert [m.version for m in made] == [n + published for n in range(51, 56)]
    saved = json.loads((store.checkpoint_path(more + published) / "fake.json").read_text())
    assert saved["stepped"] == list(range(1, more + 1))
    assert retrain(store)["retrained"] == more + published + 1


def test_files_of_a_killed_retrain_are_not_taken_for_a_version_of_the_live_line(live, tmp_path):
    shutil.copytree(live.root, tmp_path / "store")
    store = Store(tmp_path / "store")
    with pytest.MonkeyPatch.context() as patch:
        kill_after(patch, 2)  # serving folder and checkpoint are there, no manifest
        with pytest.raises(Killed):
            retrain(store)
    assert store.checkpoint_path(LAST + 1).is_dir()
    recover(store, NOW)
    assert not store.checkpoint_path(LAST + 1).exists()
    assert not store.serving_path(LAST + 1).exists()


def test_a_store_that_never_was_retrained_has_one_line(store):
    assert VersionNumbers.of(store) == VersionNumbers()
    assert (VersionNumbers().version(7), VersionNumbers().batch(7)) == (7, 7)
    before = contents(store.root)
    recover(store, NOW)
    assert contents(store.root) == before


@pytest.mark.parametrize("held", [None, "000999"])
def test_what_is_served_is_found_again(store, held):
    current = store.root / "CURRENT"
    current.unlink() if held is None else current.write_text(held)
    recover(store, NOW)
    assert store.current() == LAST


def test_old_copies_stay_within_their_number_after_a_retrain(store):
    retrain(store)
    train(store, log(store, ROWS + 60), start=LAST)
    assert len(store.embeddings("snapshot")) <= KEEP.keep_snapshots + 1
    assert store.current() in store.embeddings("snapshot")
