"""The stage that trains: spans of the log in, versions out, progress as it goes."""

import dataclasses
import logging

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from rows import feature_rows

from models.config import ModelConfig
from models.store.embeddings import CopyPolicy
from models.store.manifest import Manifest, Verdict, utc_ms
from models.store.store import Store
from pipelines import metrics
from pipelines.batches.micro_batch import LogBatches
from pipelines.config import BatchConfig, StoreConfig
from pipelines.passthrough_beam_args import pipeline_options
from pipelines.publish import FileSink
from pipelines.train.fine_tune import FineTune, FineTuneModel, Progress


@pytest.fixture
def store(tmp_path) -> Store:
    made = Store(tmp_path / "store")
    made.create({})
    LogBatches(made, BatchConfig(min_rows=4, max_rows=4), 50, 0)(feature_rows(20))
    return made


def fine_tune(store: Store) -> FineTune:
    return FineTune(
        store=store,
        model=ModelConfig(),
        keep=CopyPolicy(**StoreConfig().model_dump()),
        sinks=[FileSink(store).publish],
        trainer="fake_trainer:FakeTrainer",
    )


def test_a_span_of_the_log_becomes_versions(store, caplog):
    pipeline = beam.Pipeline(options=pipeline_options([]))
    last = pipeline | beam.Create([(0, 5)]) | FineTuneModel(job=fine_tune(store))
    assert_that(last, equal_to([5]))
    with caplog.at_level(logging.INFO, "rillet"):
        result = pipeline.run()
        result.wait_until_finish()
    assert store.current() == 5
    assert metrics.counters(result)["batches"] == 5
    assert metrics.counters(result, ["nothing"])["nothing"] == 0
    told = [record.getMessage() for record in caplog.records if record.name == "rillet"]
    lines = [line for line in told if not line.startswith("loading the trainer")]
    assert lines[0].startswith("batch 1 of 5 (version 1): 4 rows, recall@20 so far 0.0000, events")
    assert lines[-1].startswith("batch 5 of 5 (version 5): 20 rows")


def test_the_trainer_may_ask_for_a_worker_of_its_own(store):
    pipeline = beam.Pipeline(options=pipeline_options([]))
    hints = {"accelerator": "type:t4;count:1;install-nvidia-driver", "min_ram": "8GB"}
    step = FineTuneModel(job=fine_tune(store), resource_hints=hints)
    _ = pipeline | beam.Create([(0, 5)]) | step
    environments = pipeline.to_runner_api().components.environments.values()
    asked = [dict(environment.resource_hints) for environment in environments]
    assert {
        "beam:resources:accelerator:v1": hints["accelerator"].encode(),
        "beam:resources:min_ram_bytes:v1": b"8000000000",
    } in asked


def manifest(version: int, evaluated: int, recall: float | None) -> Manifest:
    return Manifest(
        version=version,
        parent=None,
        batch_sha256="0",
        rows=10,
        windows=1,
        first_window_start=utc_ms(0),
        newest_event_time=utc_ms(1_600_000_000_000),
        watermark=utc_ms(0),
        metrics={"evaluated": evaluated, "model": {"recall@20": recall}},
        gate=Verdict(served=True),
        digest="0",
        snapshot=None,
        checkpoint=False,
        created_at=utc_ms(0),
        published_at=None,
        seconds=0.0,
    )


def test_progress_is_told_now_and_then_and_at_the_end():
    moments = iter([0.0, 0.5, 2.5, 2.6, 2.7])
    progress = Progress(40, 45, clock=lambda: next(moments))
    recalls = [(0, None), (10, 0.5), (30, 0.1), (0, None), (10, 0.2)]
    told = [progress(manifest(41 + i, n, recall)) for i, (n, recall) in enumerate(recalls)]
    assert told == [
        "batch 1 of 5 (version 41): 10 rows, recall@20 so far –, events up to 2020-09-13 12:26:40",
        None,
        "batch 3 of 5 (version 43): 30 rows, recall@20 so far 0.2000, "
        "events up to 2020-09-13 12:26:40",
        None,
        "batch 5 of 5 (version 45): 50 rows, recall@20 so far 0.2000, "
        "events up to 2020-09-13 12:26:40",
    ]


class Listener:
    """Counts how often it is woken."""

    closed = 0

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1

    def told(self) -> tuple[dict[str, int], list[int]]:
        woken, self.woken = self.woken, 0
        return {"sink_versions": woken}, [40] * woken

    def close(self) -> None:
        Listener.closed += 1


def test_followers_are_woken_and_what_they_say_is_counted(store):
    pipeline = beam.Pipeline(options=pipeline_options([]))
    before = Listener.closed
    job = dataclasses.replace(fine_tune(store), follow=Listener)
    _ = pipeline | beam.Create([(0, 5)]) | FineTuneModel(job=job)
    result = pipeline.run()
    result.wait_until_finish()
    assert metrics.counters(result)["sink_versions"] == 5
    (fresh,) = [
        told.committed
        for told in result.metrics().query()["distributions"]
        if told.key.metric.name == "sink_freshness_ms"
    ]
    assert (fresh.count, fresh.min, fresh.max) == (5, 40, 40)
    assert Listener.closed == before + 1
