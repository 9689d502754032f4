"""The live model: trains the log forward in a thread of its own, batch by batch as it grows."""

import atexit
import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from models.errors import JobError, RilletError
from models.schema import EMBEDDINGS
from models.store.lineage import Lineage, Step, Trainer, TrainerFactory
from models.store.manifest import Manifest
from models.store.store import Store
from models.store.version_numbers import last_trained_batch
from pipelines.train.fine_tune import FineTune, SinkFollowers

__all__ = ["MadeVersion", "TrainerThread"]

_log = logging.getLogger("rillet")

ENDLESS = 2**62
"""The last batch of a stream that goes on."""

_STOP_S = 10.0
"""What a step is given to come to its end when the process ends."""


@dataclass(frozen=True)
class FailedStep:
    """What a step that raised is taken for: the gate refuses it, the stream goes on."""

    metrics: dict[str, Any]
    predictions: pa.RecordBatch | None = None
    delta: pa.RecordBatch = field(
        default_factory=lambda: pa.RecordBatch.from_pylist([], schema=EMBEDDINGS)
    )


@dataclass
class SkippingTrainer:
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

    def serving(self, folder: Path, version: int) -> None:
        """As the trainer."""
        self.trainer.serving(folder, version)

    def save(self, folder: Path) -> None:
        """As the trainer."""
        self.trainer.save(folder)


@dataclass(frozen=True)
class _Factory:
    """Makes trainers that do not raise."""

    inner: TrainerFactory

    def fresh(self) -> SkippingTrainer:
        return SkippingTrainer(self.inner.fresh())

    def restore(self, folder: Path) -> SkippingTrainer:
        return SkippingTrainer(self.inner.restore(folder))


@dataclass(frozen=True)
class MadeVersion:
    """A version that the thread made."""

    manifest: Manifest
    freshness_ms: int
    """Of its newest event, when it was on record."""


class TrainerThread:
    """The lineage of a running stream: holds the store, trains what it is told is in the log.

    A thread trains, so that whoever tells of new batches need not wait: a runner's
    checkpoint does not stand behind a step. What a crash left untrained lies in the log:
    it is begun with at once, whatever the first one to ask asks for.

    Args:
        job: what training needs to know.
        clock: wall clock, epoch ms.

    Raises:
        StoreError: another process trains on the store.
    """

    def __init__(self, job: FineTune, clock: Callable[[], int]) -> None:
        self.store: Store = job.store
        self._job, self._clock, self._held = job, clock, ExitStack()
        self._held.enter_context(job.store.lock("writer"))
        self.following: SinkFollowers = self._held.enter_context(closing(job.follow()))
        self._done = self._asked = last_trained_batch(job.store)
        self._goal = max(self._done, job.store.last_batch())
        self._made: list[MadeVersion] = []
        self._error: Exception | None = None
        self._failed = self._final = self._closed = self._spent = False
        self._begin()
        self._change = threading.Condition()
        self._thread = threading.Thread(target=self._train, name="rillet-train", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def finished(self) -> bool:
        """Whether the stream is at its end and all of it was trained, or training failed."""
        with self._change:
            return self._failed or (self._final and self._done >= self._goal)

    def ask(self, last: int, *, final: bool = False) -> bool:
        """Have the log trained up to `last`; no more will be asked for after `final`.

        Returns:
            Whether all that was asked for before is done.
        """
        with self._change:
            level = self._done >= self._asked
            self._asked, self._final = max(self._asked, last), self._final or final
            self._goal = max(self._goal, last)
            self._failed = self._error is not None
            if final:
                self._lineage.last = self._goal  # its last version gets a full copy
            self._change.notify_all()
            return level

    def wait(self, last: int, timeout_s: float | None) -> bool:
        """Until batch `last` is trained, at most so long; whether it is.

        Raises:
            JobError: it was closed meanwhile.
            Exception: whatever training failed with; it is tried again after this.
        """
        with self._change:
            self._change.wait_for(
                lambda: self._done >= last or self._error is not None or self._closed, timeout_s
            )
            error, self._error = self._error, None
            self._change.notify_all()
            reached, closed = self._done >= last, self._closed
        if error is not None:
            raise error
        if closed and not reached:
            raise JobError(f"training ended before micro-batch {last}: another job took over")
        return reached

    def made(self) -> list[MadeVersion]:
        """The versions since the last call."""
        with self._change:
            made, self._made = self._made, []
        return made

    def close(self) -> None:
        """Stop between two steps and let the store go."""
        atexit.unregister(self.close)
        with self._change:
            self._closed = True
            self._change.notify_all()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            _log.warning("a step is still in progress; the store is let go after it")

    def _begin(self) -> None:
        lineage = self._job.lineage(0, self._goal if self._final else ENDLESS)
        factory = _Factory(lineage.trainers)
        self._lineage: Lineage = replace(lineage, trainers=factory, group_s=0.0)
        self._steps, self._spent = self._lineage.run(), False

    def _train(self) -> None:
        with self._held:
            while self._due():
                try:
                    with self._change:
                        if self._spent:
                            self._begin()
                    self._record(next(self._steps))
                except Exception as error:  # noqa: BLE001 - told to whoever asks next
                    _log.warning("training stopped: %s", error)
                    with self._change:  # a generator that raised is spent
                        self._error, self._failed, self._spent = error, True, True
                        self._change.notify_all()

    def _due(self) -> bool:
        """Wait for something to do; False at the end."""
        with self._change:
            self._change.wait_for(
                lambda: self._closed or (self._done < self._goal and self._error is None)
            )
            return not self._closed

    def _record(self, manifest: Manifest) -> None:
        newest = int(manifest.newest_event_time.timestamp() * 1_000)
        made = MadeVersion(manifest, max(self._clock() - newest, 0))
        with self._change:
            if manifest.batch <= self._done:  # replayed from a checkpoint
                return
            self._done = manifest.batch
            self._made.append(made)
            self._change.notify_all()
        self.following.wake()
        _log.info("version %d: %d rows", manifest.version, manifest.rows)
