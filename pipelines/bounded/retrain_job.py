"""`rillet retrain`: a bounded job that trains a store's log anew, on the worker with the model.

TensorFlow is loaded where the step runs, never where the job is launched.
"""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apache_beam as beam
import msgspec

from models.config import ModelConfig
from models.errors import StoreError
from models.store import atomic_files
from models.store.manifest import utc_ms
from models.store.recovery import recover
from models.store.store import Store
from models.training.retrain import Retrain
from pipelines.bounded.between_runs import store_compatibility
from pipelines.bounded.between_runs.stored_settings import stored_model
from pipelines.clock import wall_clock_ms
from pipelines.config import JobConfig
from pipelines.errors import explain
from pipelines.passthrough_beam_args import TrainerOptions, pipeline_options
from pipelines.publish import FileSink
from pipelines.train.fine_tune import TRAINER, TrainerLoader

__all__ = ["RetrainJob", "RetrainModel", "RetrainRequest", "run_retrain"]

_log = logging.getLogger("rillet")
_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class RetrainRequest:
    """What `rillet retrain` was asked to do; `config` None: with the store's own settings."""

    store: Path
    config: JobConfig | None = None
    epochs: int = 1
    last: float = 0.2
    tolerance: float = 0.02
    dry_run: bool = False
    beam_args: tuple[str, ...] = ()
    trainer: str = TRAINER
    clock: Callable[[], int] = wall_clock_ms


@dataclass(frozen=True, kw_only=True)
class RetrainJob:
    """What the worker needs to know; picklable."""

    store: Store
    model: ModelConfig
    settings: dict[str, Any]  # the `[model]` section that the store has from then on
    epochs: int
    last: float
    tolerance: float
    dry_run: bool
    trainer: str
    clock: Callable[[], int]

    def run(self) -> dict[str, Any]:
        """Retrain, compare, publish; the outcome, which is also left in the store."""
        # It has to predict what it is compared on, whatever the settings say of later runs.
        judged, quiet = (self.model.model_copy(update={"evaluate": told}) for told in (True, False))
        with self.store.lock("writer"):
            outcome = Retrain(
                store=self.store,
                trainers=TrainerLoader(self.store, judged, self.trainer),
                warmers=TrainerLoader(self.store, quiet, self.trainer),
                model=self.settings,
                publish=[FileSink(self.store).publish],
                clock=self.clock,
                epochs=self.epochs,
                last=self.last,
                tolerance=self.tolerance,
                dry_run=self.dry_run,
                tell=_Teller(),
            ).run()
            atomic_files.write_bytes(outcome_path(self.store), msgspec.json.encode(outcome))
        return outcome


@dataclass
class _Teller:
    """Says how far it is, at most every two seconds and at the end of each part."""

    _told_at: float = -_EVERY_S

    def __call__(self, what: str, done: int, of: int) -> None:
        now = time.monotonic()
        if now - self._told_at >= _EVERY_S or done == of:
            self._told_at = now
            _log.info("%s: %d of %d micro-batches", what, done, of)


class _RetrainDoFn(beam.DoFn):
    """A job → the number of the retrained version, 0 where it was not published."""

    def process(self, job: RetrainJob) -> Iterator[int]:
        yield job.run()["retrained"] or 0


@dataclass(eq=False, kw_only=True)
class RetrainModel(beam.PTransform):
    """One retrain, on one worker.

    Attributes:
        job: what the worker needs to know.
        resource_hints: Beam's, for a worker with an accelerator.
    """

    job: RetrainJob
    resource_hints: dict[str, str] = field(default_factory=dict)

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[int]:
        """A job, and what comes of it."""
        train = beam.ParDo(_RetrainDoFn()).with_output_types(int)
        return (
            begin
            | "Job" >> beam.Create([self.job], reshuffle=False)
            | "Retrain" >> train.with_resource_hints(**self.resource_hints)
        )


def outcome_path(store: Store) -> Path:
    """Where the last retrain left what it found."""
    return store.root / "retrain.json"


def run_retrain(request: RetrainRequest) -> dict[str, Any]:
    """Retrain a store; what is printed as one line of JSON.

    Raises:
        RequestError: there is no store, it is in use, or its log does not allow it; it is as
            it was.
        JobError: the job failed; the live model stays.
    """
    try:
        return _run(request)
    except Exception as error:
        raise explain(error) from error


def _run(request: RetrainRequest) -> dict[str, Any]:
    store = Store.open(request.store)
    with store.lock():
        recover(store, utc_ms(request.clock()))
        store.clean()
        job = _job(request, store)
        atomic_files.remove(outcome_path(store))
        options = pipeline_options(request.beam_args)
        pipeline = beam.Pipeline(options=options)
        hints = options.view_as(TrainerOptions).hints()
        _ = pipeline | "RetrainModel" >> RetrainModel(job=job, resource_hints=hints)
        pipeline.run().wait_until_finish()
        outcome: dict[str, Any] = msgspec.json.decode(outcome_path(store).read_bytes())
    return {**outcome, "served": store.current()}


def _job(request: RetrainRequest, store: Store) -> RetrainJob:
    """The job, with the settings that are asked for, or the store's.

    Raises:
        StoreError: nothing was trained yet, or another section than `[model]` differs.
    """
    if not store.versions():
        raise StoreError(f"store {store.root} has no version yet: let rillet run finish one")
    if request.config:
        store_compatibility.check(store, request.config, but="model")
    model, settings = stored_model(store), store.meta()["config"]["model"]
    if request.config:
        settings = request.config.model.model_dump(mode="json", exclude={"overlap"})
        model = request.config.model.model_copy(update={"overlap": model.overlap})
    return RetrainJob(
        store=store,
        model=model,
        settings=settings,
        epochs=request.epochs,
        last=request.last,
        tolerance=request.tolerance,
        dry_run=request.dry_run,
        trainer=request.trainer,
        clock=request.clock,
    )
