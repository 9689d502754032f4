"""A retrain with the real model: once through the log, it is the live model to the byte."""

import itertools

import pyarrow.parquet as pq
import pytest
from feedback import batches
from logged import logged
from scripted_log import SMALL, items, script

from models.store.embeddings import CopyPolicy, read_embeddings
from models.store.lineage import Lineage
from models.training.retrain import Retrain
from models.training.trainer import Trainer
from pipelines.publish import FileSink


class Real:
    def __init__(self, store):
        self.tables = pq.read_table(store.catalogue_path("items")), None

    def fresh(self):
        return Trainer(SMALL, *self.tables)

    def restore(self, folder):
        return Trainer.restore(folder, SMALL, *self.tables)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = logged(tmp_path_factory.mktemp("real"), batches(script(330)), SMALL, items())
    live(made, made.last_batch() - 1)
    return made


def live(store, last, start=0):
    job = Lineage(
        store=store,
        trainers=Real(store),
        publish=[FileSink(store).publish],
        keep=CopyPolicy(checkpoint_every=4, snapshot_every=3, keep_checkpoints=2, keep_snapshots=2),
        clock=itertools.count(1_700_000_000_000).__next__,
        start=start,
        last=last,
    )
    return list(job.run())


def retrain(store, **given):
    settings = SMALL.model_dump(mode="json")
    return Retrain(
        store=store,
        trainers=Real(store),
        model=settings,
        publish=[FileSink(store).publish],
        clock=itertools.count(1_800_000_000_000).__next__,
        last=0.6,
        **given,
    ).run()


def test_once_through_is_the_live_model_and_training_goes_on_alike(store):
    held = store.batch_path(store.last_batch())
    aside = store.root.parent / held.name
    held.rename(aside)  # comes later
    last = store.last_batch()
    twice = retrain(store, epochs=2, dry_run=True)["comparison"]["recall@20"]
    assert twice["retrained"] != twice["live"]
    told = retrain(store)
    assert told["comparison"]["recall@20"]["difference"]["value"] == 0
    assert told["comparison"]["ndcg@20"]["difference"]["value"] == 0
    assert told["retrained"] == last + 1
    mine, theirs = (read_embeddings(store, version)[1] for version in (last + 1, last))
    assert mine["id"].equals(theirs["id"])
    assert mine["embedding"].equals(theirs["embedding"])
    aside.rename(held)
    (made,) = live(store, last + 1, start=last)
    assert (made.version, made.batch, made.parent) == (last + 2, last + 1, last + 1)
    assert made.metrics["evaluated"] > 0
    assert store.current() == last + 2
