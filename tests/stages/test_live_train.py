"""The live trainer: spans are taken while it trains, and nothing of them is lost."""

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.utils.timestamp import Timestamp
from fake_trainer import FakeTrainer
from rows import feature_rows

from models.config import ModelConfig
from models.errors import JobError, StoreError
from models.store.embeddings import CopyPolicy
from models.store.store import Store
from pipelines import metrics
from pipelines.batches.micro_batch import LogBatches
from pipelines.config import BatchConfig, StoreConfig
from pipelines.live import train_stage
from pipelines.live.stateful_stages import LogSpan
from pipelines.live.train_stage import TrainLive, close_idle_trainers
from pipelines.live.trainer_thread import TrainerThread
from pipelines.passthrough_beam_args import pipeline_options
from pipelines.publish import FileSink
from pipelines.train.fine_tune import FineTune

BATCHES, NOW_MS = 5, 1_800_000_000_000
LIMIT_S = 60.0


class Gate:
    """What steps of `Held` wait for: `through` of them may pass."""

    def __init__(self) -> None:
        self.change, self.through, self.reached = threading.Condition(), 0, 0

    def let(self, through: int) -> None:
        with self.change:
            self.through = through
            self.change.notify_all()

    def pass_(self, number: int) -> None:
        with self.change:
            self.reached = number
            self.change.notify_all()
            assert self.change.wait_for(lambda: self.through >= number, LIMIT_S)

    def wait_for_step(self, number: int) -> None:
        with self.change:
            assert self.change.wait_for(lambda: self.reached >= number, LIMIT_S)


class Held(FakeTrainer):
    """Begins a step and waits at the gate."""

    gate = Gate()

    def step(self, number, rows, *, predictions=False):
        self.gate.pass_(number)
        return super().step(number, rows, predictions=predictions)


class Unreadable(FakeTrainer):
    """Its third step finds the store damaged, once."""

    left = 1

    def step(self, number, rows, *, predictions=False):
        if number == 3 and type(self).left:
            type(self).left -= 1
            raise StoreError("micro-batch 3 is damaged")
        return super().step(number, rows, predictions=predictions)


@pytest.fixture
def gate() -> Iterator[Gate]:
    Held.gate = Gate()
    yield Held.gate
    Held.gate.let(BATCHES)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """One with nothing in its log; see `log`."""
    made = Store(tmp_path / "store")
    made.create({})
    return made


@pytest.fixture
def log(store: Store, tmp_path: Path) -> Callable[[int], None]:
    """Puts the next micro-batches into the log, up to a number."""
    whole = Store(tmp_path / "whole")
    whole.create({})
    batch = BatchConfig(min_rows=4, max_rows=4)
    LogBatches(whole, batch, 50, 0)(feature_rows(4 * BATCHES))

    def until(last: int) -> None:
        for number in range(store.last_batch() + 1, last + 1):
            store.batch_path(number).parent.mkdir(exist_ok=True)
            shutil.copy(whole.batch_path(number), store.batch_path(number))

    return until


def job(store: Store, trainer: str = "fake_trainer:FakeTrainer") -> FineTune:
    return FineTune(
        store=store,
        model=ModelConfig(),
        keep=CopyPolicy(**StoreConfig().model_dump()),
        sinks=[FileSink(store).publish],
        trainer=trainer,
    )


def do_fn(store: Store, trainer: str) -> train_stage._Train:
    return train_stage._Train(job(store, trainer), None, lambda: NOW_MS)


@dataclass
class Remembered:
    """State and timer of the one key, as a runner keeps them."""

    value: int | None = None
    due: Timestamp | None = None

    def read(self) -> int | None:
        return self.value

    def write(self, value: int) -> None:
        self.value = value

    def set(self, due: Timestamp) -> None:
        self.due = due

    def clear(self) -> None:
        self.value = self.due = None


def told(
    stage: train_stage._Train, last: int, *, final: bool = False, kept: Remembered | None = None
) -> list[int]:
    kept = kept or Remembered()
    stage.start_bundle()
    return list(stage.process((0, LogSpan(last, final)), kept, kept))


Log = Callable[[int], None]


def test_spans_of_a_stream_become_versions(store: Store, log: Log) -> None:
    log(BATCHES)
    pipeline = beam.Pipeline(options=pipeline_options([]))
    spans = [LogSpan(2), LogSpan(BATCHES), LogSpan(BATCHES, final=True)]
    made = pipeline | beam.Create(spans, reshuffle=False) | TrainLive(job=job(store))
    assert_that(made, equal_to([1, 2, 3, 4, 5]))
    result = pipeline.run()
    result.wait_until_finish()
    assert store.versions() == [1, 2, 3, 4, 5]
    assert metrics.counters(result)["batches"] == BATCHES
    with store.lock("writer"):  # let go
        pass


def test_a_span_that_nothing_is_before_waits_until_it_is_trained(store: Store, log: Log) -> None:
    stage = do_fn(store, "fake_trainer:FakeTrainer")
    log(2)
    assert told(stage, 2) == [1, 2]
    assert told(stage, 2) == []  # once more, as after a restart
    log(3)
    assert told(stage, 3) == [3]
    log(4)
    assert told(stage, 4, final=True) == [4]
    assert store.manifest(4).checkpoint  # the last one of a stream
    stage.teardown()


def test_a_backlog_holds_no_span_up_and_the_last_one_waits_for_all(
    store: Store, log: Log, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_stage, "PATIENCE_S", 0.0)
    stage = do_fn(store, f"{__name__}:Held")
    log(1)
    assert told(stage, 1) == []
    gate.wait_for_step(1)  # in the middle of the step
    log(3)
    assert told(stage, 3) == []
    assert store.versions() == []
    gate.let(2)
    gate.wait_for_step(3)  # 3 was asked for while 1 was held
    assert store.versions() == [1, 2]
    gate.let(BATCHES)
    log(BATCHES)
    assert told(stage, BATCHES, final=True) == [1, 2, 3, 4, 5]
    stage.teardown()


def test_what_was_taken_and_not_trained_is_trained_whatever_is_asked_for_next(
    store: Store, log: Log, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_stage, "PATIENCE_S", 0.0)
    stage = do_fn(store, f"{__name__}:Held")
    gate.let(1)
    log(4)
    told(stage, 4)
    gate.wait_for_step(2)
    live = train_stage._live.pop(stage.stage)
    ending = threading.Thread(target=live.close)  # as when the process ends
    ending.start()
    with live._change:
        assert live._change.wait_for(lambda: live._closed, LIMIT_S)
    gate.let(BATCHES)
    ending.join(LIMIT_S)
    assert store.versions() == [1, 2]  # the step in progress, and no more
    again = do_fn(store, "fake_trainer:FakeTrainer")
    told(again, 1)  # the runner has gone back further
    train_stage._live[again.stage].wait(4, LIMIT_S)
    assert store.versions() == [1, 2, 3, 4]
    told(again, 4, final=True)
    again.teardown()


def test_a_silent_stream_is_gone_on_with_by_the_timer(
    store: Store, log: Log, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_stage, "PATIENCE_S", 0.0)
    stage, kept = do_fn(store, f"{__name__}:Held"), Remembered()
    log(3)
    assert told(stage, 3, kept=kept) == []
    assert kept.value == 3
    assert kept.due == Timestamp(micros=NOW_MS * 1_000) + train_stage.AGAIN_S
    gate.let(2)
    gate.wait_for_step(3)
    assert list(stage.look(kept, kept)) == [1, 2]
    assert kept.value == 3  # still due
    gate.let(3)
    train_stage._live[stage.stage].wait(3, LIMIT_S)
    assert list(stage.look(kept, kept)) == [3]
    assert (kept.value, kept.due) == (None, None)
    told(stage, 3, final=True)
    stage.teardown()


def test_a_restart_goes_on_from_what_the_runner_remembers(store: Store, log: Log) -> None:
    log(4)
    stage, kept = do_fn(store, "fake_trainer:FakeTrainer"), Remembered(value=4)
    list(stage.look(kept, kept))  # the first that this process hears of it
    train_stage._live[stage.stage].wait(4, LIMIT_S)
    assert store.versions() == [1, 2, 3, 4]
    list(stage.look(kept, kept))
    assert kept == Remembered()
    told(stage, 4, final=True)
    stage.teardown()


def test_the_spans_of_a_bundle_share_their_patience(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(train_stage.time, "monotonic", lambda: now[0])
    waited = []
    monkeypatch.setattr(
        TrainerThread, "wait", lambda _, last, limit_s: waited.append(limit_s) or False
    )
    monkeypatch.setattr(TrainerThread, "ask", lambda *_, **__: True)
    stage, kept = do_fn(store, "fake_trainer:FakeTrainer"), Remembered()
    for seconds in (0.0, 0.5, 1.75, 30.0):
        now[0] = 100.0 + seconds
        if not seconds:
            stage.start_bundle()
        list(stage.process((0, LogSpan(1)), kept, kept))
    assert waited == [2.0, 1.5, 0.25, 0.0]
    train_stage._live.pop(stage.stage).close()


def test_who_waits_for_a_model_that_was_closed_is_told(store: Store, log: Log, gate: Gate) -> None:
    log(1)
    forward = TrainerThread(job(store, f"{__name__}:Held"), lambda: NOW_MS)
    forward.ask(1)
    gate.wait_for_step(1)
    ending = threading.Thread(target=forward.close)
    ending.start()
    with pytest.raises(JobError, match="training ended before micro-batch 1"):
        forward.wait(1, LIMIT_S)
    gate.let(1)
    ending.join(LIMIT_S)
    with store.lock("writer"):  # let go by whoever ends last
        pass


def test_what_training_fails_with_is_raised_once_and_tried_again(store: Store, log: Log) -> None:
    Unreadable.left = 1
    log(BATCHES)
    stage = do_fn(store, f"{__name__}:Unreadable")
    with pytest.raises(StoreError, match="micro-batch 3 is damaged"):
        told(stage, BATCHES, final=True)
    assert store.versions() == [1, 2]
    assert told(stage, BATCHES, final=True) == [1, 2, 3, 4, 5]
    stage.teardown()


def test_a_failed_stage_lets_the_store_go(store: Store, log: Log) -> None:
    Unreadable.left = 1
    log(BATCHES)
    stage = do_fn(store, f"{__name__}:Unreadable")
    with pytest.raises(StoreError):
        told(stage, BATCHES)
    stage.teardown()
    with store.lock("writer"):
        pass


def test_a_model_outlives_the_stage_that_idles_and_is_let_go_with_the_job(
    store: Store, log: Log
) -> None:
    FakeTrainer.made = 0
    stage = do_fn(store, "fake_trainer:FakeTrainer")
    log(1)
    assert told(stage, 1) == [1]
    stage.teardown()  # a minute without a span
    log(2)
    assert told(stage, 2) == [2]
    assert FakeTrainer.made == 1
    stage.teardown()
    close_idle_trainers(store)
    with store.lock("writer"):
        pass


def test_another_job_of_the_same_process_takes_the_store_over(store: Store, log: Log) -> None:
    first, second = (do_fn(store, "fake_trainer:FakeTrainer") for _ in range(2))
    log(1)
    assert told(first, 1) == [1]
    first.teardown()
    log(2)
    assert told(second, 2) == [2]
    assert told(second, 2, final=True) == []
    second.teardown()


def test_freshness_is_taken_when_the_version_is_on_record(store: Store, log: Log) -> None:
    log(1)
    forward = TrainerThread(job(store), lambda: NOW_MS)
    forward.ask(1)
    forward.wait(1, None)
    (made,) = forward.made()
    newest = made.manifest.newest_event_time.timestamp() * 1_000
    assert made.freshness_ms == NOW_MS - newest
    assert forward.made() == []
    forward.close()
