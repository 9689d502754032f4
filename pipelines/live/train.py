"""The live trainer: one model, kept across bundles, trained batch by batch as the log grows."""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from models.errors import RilletError
from models.line import trained
from models.lineage import Lineage, Step, Trainer, TrainerFactory
from models.manifest import Manifest
from models.schema import EMBEDDINGS
from pipelines.clock import wall_clock_ms
from pipelines.finetune import FineTune, Following, counts_of, tell
from pipelines.live.door import Door
from pipelines.live.stages import Span
from pipelines.metrics import count_all, observe

__all__ = ["TrainLive"]

_log = logging.getLogger("rillet")

ENDLESS = 2**62
"""The last batch of a stream that goes on."""


@dataclass(frozen=True)
class FailedStep:
    """What a step that raised is taken for: the gate refuses it, the stream goes on."""

    metrics: dict[str, Any]
    predictions: pa.RecordBatch | None = None
    delta: pa.RecordBatch = field(
        default_factory=lambda: pa.RecordBatch.from_pylist([], schema=EMBEDDINGS)
    )


@dataclass
class Unshaken:
    """A trainer whose step never raises: one poisoned batch must not stop a stream."""

    trainer: Trainer

    def step(self, number: int, rows: pa.RecordBatch, *, predictions: bool = False) -> Step:
        """As the trainer, or a failed step with the reason."""
        try:
            return self.trainer.step(number, rows, predictions=predictions)
        except RilletError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a poisoned batch does to a model
            _log.warning("training on micro-batch %d failed: %s", number, error)
            return FailedStep({"error": f"{type(error).__name__}: {error}", "loss": float("nan")})

    def snapshot(self, version: int) -> pa.Table:
        """As the trainer."""
        return self.trainer.snapshot(version)

    def serving(self, folder: Path) -> None:
        """As the trainer."""
        self.trainer.serving(folder)

    def save(self, folder: Path) -> None:
        """As the trainer."""
        self.trainer.save(folder)


@dataclass(frozen=True)
class _Factory:
    """Makes trainers that do not raise."""

    inner: TrainerFactory

    def fresh(self) -> Unshaken:
        return Unshaken(self.inner.fresh())

    def restore(self, folder: Path) -> Unshaken:
        return Unshaken(self.inner.restore(folder))


class Live:
    """The lineage of a running stream: holds the store, goes on when there is more."""

    def __init__(self, job: FineTune) -> None:
        self._job, self._held = job, ExitStack()
        self._held.enter_context(job.store.lock("writer"))
        self.following: Following = self._held.enter_context(closing(job.follow()))
        self._done = trained(job.store)
        self._start()

    def _start(self) -> None:
        lineage = self._job.lineage(0, ENDLESS)
        factory = _Factory(lineage.trainers)
        self._lineage: Lineage = replace(lineage, trainers=factory, group_s=0.0)
        self._steps = self._lineage.run()

    def forward(self, span: Span) -> Iterator[Manifest]:
        """Train up to the end of the span; what is done already is not done again."""
        if span.final:
            self._lineage.last = span.last  # its last version gets a full copy
        while self._done < span.last:
            try:
                manifest = next(self._steps)
            except Exception:
                self._start()  # a generator that raised is spent
                raise
            if manifest.batch > self._done:
                self._done = manifest.batch
                yield manifest

    def close(self) -> None:
        """Let the store go."""
        self._held.close()


_live: dict[str, Live] = {}
_busy = threading.Lock()


class _Train(beam.DoFn):
    """Spans of the log → versions."""

    def __init__(self, job: FineTune, door: Door | None, clock: Callable[[], int]) -> None:
        self.job, self.door, self.clock = job, door, clock
        self.stage = uuid.uuid4().hex

    def setup(self) -> None:
        """Refuse to train on a store that is not the launcher's."""
        if self.door:
            self.door.check()

    def process(self, element: tuple[int, Span]) -> Iterator[int]:
        """Make the versions that are due."""
        with _busy:  # copies of this DoFn share one model
            if self.stage not in _live:
                _live[self.stage] = Live(self.job)
            made = list(self._forward(_live[self.stage], element[1]))
        yield from made

    def _forward(self, live: Live, span: Span) -> Iterator[int]:
        for manifest in live.forward(span):
            newest = int(manifest.newest_event_time.timestamp() * 1_000)
            count_all(counts_of(manifest))
            observe("train_ms", round(manifest.seconds * 1_000))
            observe("freshness_ms", max(self.clock() - newest, 0))
            live.following.wake()
            _log.info("version %d: %d rows", manifest.version, manifest.rows)
            yield manifest.version
        tell(live.following)

    def teardown(self) -> None:
        """Let the store go when the worker ends in an orderly way."""
        with _busy:
            live = _live.pop(self.stage, None)
            if live is not None:
                live.close()


@dataclass(eq=False, kw_only=True)
class TrainLive(beam.PTransform):
    """Spans of the training log → the numbers of the versions made.

    Attributes:
        job: what training needs to know.
        resource_hints: Beam's, for a worker of its own with an accelerator; it is
            then the only process that loads the model.
        door: checked by the worker.
    """

    job: FineTune
    resource_hints: dict[str, str] = field(default_factory=dict)
    door: Door | None = None

    def expand(self, spans: beam.PCollection[Span]) -> beam.PCollection[int]:
        """One live model."""
        train = beam.ParDo(_Train(self.job, self.door, wall_clock_ms)).with_output_types(int)
        return (
            spans
            | "One" >> beam.Map(lambda span: (0, span)).with_output_types(tuple[int, Span])
            | "Train" >> train.with_resource_hints(**self.resource_hints)
        )
