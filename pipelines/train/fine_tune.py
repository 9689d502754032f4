"""The one DoFn that holds a model: trains the log forward, on one worker.

TensorFlow is loaded when the first step is due, on the worker, never where the
job is launched.
"""

import importlib
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import apache_beam as beam
import pyarrow as pa

from models.config import ModelConfig
from models.store.catalogue import read_catalogue
from models.store.embeddings import CopyPolicy
from models.store.lineage import Lineage, Publication, Trainer
from models.store.manifest import Manifest
from models.store.store import Store
from pipelines.clock import wall_clock_ms
from pipelines.metrics import count_all, observe

__all__ = [
    "TRAINER",
    "FineTune",
    "FineTuneModel",
    "Progress",
    "SinkFollowers",
    "TrainerLoader",
    "count_followers",
    "counts_of",
]

TRAINER = "models.training.trainer:Trainer"
"""The class that is trained, as `module:name`: imported on the worker only."""

_log = logging.getLogger("rillet")


@dataclass(frozen=True)
class TrainerLoader:
    """Makes the trainer from what lies in the store; imports its module when first asked."""

    store: Store
    config: ModelConfig
    trainer: str = TRAINER

    def fresh(self) -> Trainer:
        """One that has seen nothing."""
        return self._with_log(self._class()(self.config, *self._catalogues()))

    def restore(self, folder: Path) -> Trainer:
        """The one that was saved to `folder`."""
        return self._with_log(self._class().restore(folder, self.config, *self._catalogues()))

    def _with_log(self, trainer: Any) -> Any:
        """It may read the training log, where rows are replayed."""
        trainer.log = self._read
        return trainer

    def _read(self, number: int) -> pa.RecordBatch:
        return self.store.read_batch(number)[0]

    def _class(self) -> Any:
        module, _, name = self.trainer.partition(":")
        if module not in sys.modules:
            _log.info("loading the trainer; with TensorFlow that takes some seconds")
        return getattr(importlib.import_module(module), name)

    def _catalogues(self) -> tuple[pa.Table | None, pa.Table | None]:
        return read_catalogue(self.store, "items"), read_catalogue(self.store, "users")


@dataclass
class Progress:
    """Says how far training is, at most every `every_s` seconds, and at the end.

    `clock` counts seconds and never goes back.
    """

    start: int
    last: int
    clock: Callable[[], float] = time.monotonic
    every_s: float = 2.0
    _told_at: float | None = field(default=None, init=False)
    _hits: float = field(default=0.0, init=False)
    _rows: int = field(default=0, init=False)
    _evaluated: int = field(default=0, init=False)

    def __call__(self, manifest: Manifest) -> str | None:
        """The line to show now, or None."""
        self._rows += manifest.rows
        evaluated, recall = recall_of(manifest)
        self._evaluated += evaluated
        self._hits += evaluated * recall
        now = self.clock()
        due = self._told_at is None or now - self._told_at >= self.every_s
        if not due and manifest.batch != self.last:
            return None
        self._told_at = now
        so_far = f"{self._hits / self._evaluated:.4f}" if self._evaluated else "–"
        return (
            f"batch {manifest.batch - self.start} of {self.last - self.start} "
            f"(version {manifest.version}): {self._rows} rows, recall@20 so far {so_far}, "
            f"events up to {manifest.newest_event_time:%Y-%m-%d %H:%M:%S}"
        )


def recall_of(manifest: Manifest) -> tuple[int, float]:
    """Rows that were evaluated and the model's recall@20 on them; 0 where there are none."""
    metrics = manifest.metrics
    model = metrics.get("model", metrics)
    evaluated = metrics.get("evaluated") or 0
    recall = model.get("recall@20") if isinstance(model, dict) else None
    return (int(evaluated), float(recall)) if recall is not None else (0, 0.0)


def counts_of(manifest: Manifest) -> dict[str, int]:
    """What a version adds to the job's counters."""
    drift = manifest.metrics.get("drift") or {}
    return {
        "batches": 1,
        "versions_refused": int(not manifest.gate.served),
        "drifts": int(bool(drift.get("detected"))),
        "rows_replayed": int(manifest.metrics.get("replayed") or 0),
    }


class SinkFollowers(Protocol):
    """Whoever sends on what is on record in the store; never waited for."""

    def wake(self) -> None:
        """There may be a new version."""

    def told(self) -> tuple[dict[str, int], list[int]]:
        """Since the last call: counters, and the freshness (ms) of what was sent on."""

    def close(self) -> None:
        """The worker ends."""


class _Nobody:
    """Follows nothing."""

    def wake(self) -> None:
        """See `SinkFollowers`."""

    def told(self) -> tuple[dict[str, int], list[int]]:
        """See `SinkFollowers`."""
        return {}, []

    def close(self) -> None:
        """See `SinkFollowers`."""


def count_followers(following: SinkFollowers) -> None:
    """Pass on what followers counted; call it while an element is processed."""
    counted, ages = following.told()
    count_all(counted)
    for age in ages:
        observe("sink_freshness_ms", age)


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """What training needs to know; picklable, so that it travels to the worker."""

    store: Store
    model: ModelConfig
    keep: CopyPolicy
    sinks: Sequence[Callable[[Sequence[Publication]], None]]
    predictions: Path | None = None
    clock: Callable[[], int] = wall_clock_ms
    trainer: str = TRAINER
    follow: Callable[[], SinkFollowers] = _Nobody

    def lineage(self, start: int, last: int) -> Lineage:
        """Training of batches `start` + 1 to `last`, ready to run."""
        return Lineage(
            store=self.store,
            trainers=TrainerLoader(self.store, self.model, self.trainer),
            publish=self.sinks,
            keep=self.keep,
            clock=self.clock,
            start=start,
            last=last,
            predictions=self.predictions,
        )


class _TrainDoFn(beam.DoFn):
    """(start, last) → last, once batches start + 1 to last of the log are trained on."""

    def __init__(self, job: FineTune) -> None:
        self._job = job

    def process(self, span: tuple[int, int]) -> Iterator[int]:
        start, last = span
        progress = Progress(start, last)
        with self._job.store.lock("writer"), closing(self._job.follow()) as following:
            for manifest in self._job.lineage(start, last).run():
                count_all(counts_of(manifest))
                observe("train_ms", round(manifest.seconds * 1_000))
                following.wake()
                count_followers(following)
                if line := progress(manifest):
                    _log.info("%s", line)
        yield last


@dataclass(eq=False, kw_only=True)
class FineTuneModel(beam.PTransform):
    """Spans of the training log → the number of the last version made of each.

    Attributes:
        job: what training needs to know.
        resource_hints: Beam's, for a worker of its own, such as
            {"accelerator": "type:nvidia-tesla-t4;count:1;install-nvidia-driver", "min_ram": "8GB"}.
    """

    job: FineTune
    resource_hints: dict[str, str] = field(default_factory=dict)

    def expand(self, spans: beam.PCollection[tuple[int, int]]) -> beam.PCollection[int]:
        """One worker, one live model."""
        train = beam.ParDo(_TrainDoFn(self.job)).with_output_types(int)
        return spans | "Train" >> train.with_resource_hints(**self.resource_hints)
