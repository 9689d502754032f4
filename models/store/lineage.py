"""One lineage of versions: restore, replay, step, gate, commit. No TensorFlow itself.

For version k, in this order: batch k is in the log → the trainer steps → its
serving folder, predictions and checkpoint are written (those that are due) →
its vectors reach the sinks → the manifest → CURRENT. A crash between any two
leaves version k without a manifest: the next start restores the newest
checkpoint that has one, trains the log forward and makes version k again, the
same to the byte. While there is more to train on, a few versions go through the
last three together: the disk is waited for once.

Version k is trained on batch k; after a full retrain on an earlier one (see
`models.store.version_numbers`), and no checkpoint from before the retrain is gone back to.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from msgspec.structs import replace

from models.errors import JobError, RilletError
from models.store import gate
from models.store.canonical_bytes import chain
from models.store.embeddings import CopyPolicy, prune
from models.store.manifest import Manifest, utc_ms
from models.store.prediction_files import PredictionFiles
from models.store.recovery import mend_current
from models.store.store import GENESIS, Store
from models.store.version_numbers import VersionNumbers, newest_accepted

__all__ = ["Lineage", "Publication", "Step", "Trainer", "TrainerFactory"]

_log = logging.getLogger("rillet")


class Step(Protocol):
    """What one step of a trainer gives back (`models.training.trainer.StepResult`)."""

    @property
    def metrics(self) -> dict[str, Any]:
        """Prequential metrics and losses: JSON-able, None where not computable."""

    @property
    def predictions(self) -> pa.RecordBatch | None:
        """PREDICTIONS, when they were asked for."""

    @property
    def delta(self) -> pa.RecordBatch:
        """EMBEDDINGS of the users and items that the batch touched."""


class Trainer(Protocol):
    """What a lineage asks of a model (`models.training.trainer.Trainer`)."""

    def step(self, number: int, rows: pa.RecordBatch, *, predictions: bool = False) -> Step:
        """Predict the rows, then train on them."""

    def snapshot(self, version: int) -> pa.Table:
        """EMBEDDINGS of all users and items."""

    def serving(self, folder: Path, version: int) -> None:
        """Write what a query needs beside the vectors."""

    def save(self, folder: Path) -> None:
        """Write everything that a restart needs."""


class TrainerFactory(Protocol):
    """How a lineage comes by its trainer; called only once it needs one."""

    def fresh(self) -> Trainer:
        """One that has seen nothing."""

    def restore(self, folder: Path) -> Trainer:
        """The one that `save` wrote to `folder`."""


@dataclass(frozen=True)
class Publication:
    """What a version shows the world: to every sink the same."""

    version: int
    delta: pa.RecordBatch
    snapshot: pa.Table | None


@dataclass(kw_only=True)
class Lineage:
    """Trains a run of batches of the log and publishes what comes of it.

    Args:
        store: held by the caller (`Store.lock`).
        trainers: makes the trainer.
        publish: sinks; each is given every accepted version, in order, before
            it is committed, and again after a crash in between.
        keep: how often full copies are made and how many stay.
        clock: wall clock, epoch ms.
        start: the last batch of the runs before; this one's begin after it.
        last: the last batch of this run.
        predictions: folder for what was predicted before training.
        monotonic: counts seconds.
        group_s: while the log has more, versions are put on disk together,
            at most so many seconds after the first.
    """

    store: Store
    trainers: TrainerFactory
    publish: Sequence[Callable[[Sequence[Publication]], None]]
    keep: CopyPolicy
    clock: Callable[[], int]
    start: int
    last: int
    predictions: Path | None = None
    monotonic: Callable[[], float] = time.monotonic
    group_s: float = 0.5

    def __post_init__(self) -> None:
        """What changes from step to step."""
        self._files = PredictionFiles(self.predictions, self.start) if self.predictions else None
        self._numbers = VersionNumbers()
        self._parent: Manifest | None = None
        self._warned = False
        self._waiting: list[tuple[Manifest, Publication | None]] = []
        self._committed_at = self.monotonic()

    def run(self) -> Iterator[Manifest]:
        """Train forward to `last`; yield the manifest of each step, replayed or new.

        What is done already (versions with a manifest) is replayed from the
        newest checkpoint only as far as the rest needs it.

        Raises:
            StoreError: the log or a checkpoint is damaged.
            JobError: a step failed; the message names the batch.
        """
        known = self.store.versions()
        self._numbers = VersionNumbers.of(self.store)
        mend_current(self.store, after=self._numbers.version(self.start) if self.start else 0)
        base = self._base(self._files.covered() if self._files else self.last)
        if base >= self.last:
            prune(self.store, self.keep, {self._numbers.version(self.start)})
            return
        if self._files:
            self._files.truncate(base)
        self._trainer = self._restored(base)
        self._parent = self._newest_served(base)
        done = {self._numbers.batch(version) for version in known if version > self._numbers.root}
        try:
            for number in range(base + 1, self.last + 1):
                yield self._replay(number) if number in done else self._advance(number)
        except Exception:
            self._commit()  # what was trained well before it is worth keeping
            raise
        self._commit()

    # -- the past --------------------------------------------------------------

    def _base(self, limit: int) -> int:
        """The batch of the newest complete checkpoint not after `limit`; 0 for none.

        After a full retrain the retrained version is the earliest.
        """
        numbers = self._numbers
        held = [numbers.batch(v) for v in self.store.checkpoints() if v >= max(numbers.root, 1)]
        first = min(held, default=0) if numbers.root else 0
        return max((batch for batch in held if batch <= limit), default=first)

    def _restored(self, base: int) -> Trainer:
        if base == 0 and not self._numbers.root:
            return self.trainers.fresh()
        return self.trainers.restore(self.store.checkpoint_path(self._numbers.version(base)))

    def _newest_served(self, batch: int) -> Manifest | None:
        """The newest accepted version up to a batch."""
        return newest_accepted(self.store, self._numbers.version(batch))

    def _replay(self, number: int) -> Manifest:
        """Train on a batch once more; a refused one is predicted, but not part of the lineage."""
        manifest = self.store.manifest(self._numbers.version(number))
        batch, told = self.store.read_trained(manifest, number), manifest.batch_sha256
        if manifest.gate.served:
            step = self._step(self._trainer, number, batch)
            if self._digest(told, number, step) != manifest.digest:
                self._warn(number)
            self._parent = manifest
        elif self._files and self._files.wants(number):
            self._step(self._rebuilt(number - 1), number, batch)
        if self._files and manifest.checkpoint:
            self._files.flush(number)
        return manifest

    def _rebuilt(self, batch: int) -> Trainer:
        """The trainer as of a batch: the newest checkpoint and the accepted batches since."""
        base = self._base(batch)
        trainer = self._restored(base)
        for number in range(base + 1, batch + 1):
            if self.store.manifest(self._numbers.version(number)).gate.served:
                trainer.step(number, self.store.read_batch(number)[0])
        return trainer

    def _warn(self, number: int) -> None:
        if not self._warned:
            _log.warning(
                "replaying batch %d gave other bytes than when it was published "
                "(another machine or library?): training goes on from the replay",
                number,
            )
        self._warned = True

    # -- the next version --------------------------------------------------------

    def _advance(self, number: int) -> Manifest:
        begun, version = self.clock(), self._numbers.version(number)
        batch, told = self.store.read_batch(number)
        step = self._step(self._trainer, number, batch)
        snapshot_due = self._due(number, self.keep.snapshot_every) or self._parent is None
        snapshot = self._trainer.snapshot(version) if snapshot_due else None
        verdict = gate.judge(step.metrics, step.delta, snapshot=snapshot)
        if verdict.served:
            published = Publication(version, self._delta(number, step), snapshot)
            if snapshot is not None:
                self.store.put_serving(version, partial(self._trainer.serving, version=version))
        else:
            published = None
            _log.warning("version %d is refused: %s", version, "; ".join(verdict.reasons))
            self._commit()
            self._trainer = self._rebuilt(number - 1)
        checkpoint_due = self._due(number, self.keep.checkpoint_every)
        if checkpoint_due:
            self._save(number)
        parent = self._parent
        earlier = parent.snapshot if parent else None
        manifest = _manifest(
            batch,
            parent,
            version=version,
            through=number if self._numbers.shift else None,
            parent=parent.version if parent else None,
            batch_sha256=told,
            metrics=_jsonable(step.metrics),
            gate=verdict,
            digest=self._digest(told, number, step if verdict.served else None),
            snapshot=version if snapshot_due and verdict.served else earlier,
            checkpoint=checkpoint_due,
            created_at=utc_ms(begun),
            published_at=None,
            seconds=(self.clock() - begun) / 1_000,
        )
        self._waiting.append((manifest, published))
        self._parent = manifest if verdict.served else parent
        full_copy = checkpoint_due or snapshot_due
        if full_copy or self.monotonic() - self._committed_at >= self.group_s:
            self._commit()
        if full_copy:
            prune(self.store, self.keep, {self._numbers.version(self.start)})
        return manifest

    def _due(self, number: int, every: int) -> bool:
        """At the end of a run as well: the next one may bring another catalogue."""
        return number == self.last or number % every == 0

    def _step(self, trainer: Trainer, number: int, batch: pa.RecordBatch) -> Step:
        wanted = self._files is not None and self._files.wants(number)
        try:
            step = trainer.step(number, batch, predictions=wanted)
        except RilletError:
            raise
        except Exception as error:
            raise JobError(
                f"training on micro-batch {number} failed ({type(error).__name__}: {error}): "
                "the versions before it stay; see the trace with --debug"
            ) from error
        if self._files and wanted:
            self._files.add(number, step.predictions)
        return step

    def _delta(self, number: int, step: Step) -> pa.RecordBatch:
        """The vectors that a step touched, under the number that their version has."""
        version = self._numbers.version(number)
        if version == number:
            return step.delta
        at = step.delta.schema.get_field_index("version")
        column = pa.array([version] * len(step.delta), pa.int64())
        return step.delta.set_column(at, step.delta.schema.field(at), column)

    def _digest(self, batch_sha256: str, number: int, step: Step | None) -> str:
        before = self._parent.digest if self._parent else GENESIS
        return chain(before, batch_sha256, self._delta(number, step)) if step else before

    def _save(self, number: int) -> None:
        self.store.put_checkpoint(self._numbers.version(number), self._trainer.save)
        if self._files:
            self._files.flush(number)

    def _commit(self) -> None:
        """Show the versions that wait to the sinks, put them on record, serve the newest."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        group = [published for _, published in waiting if published]
        for sink in self.publish:
            sink(group)
        now = utc_ms(self.clock())
        self.store.put_manifests(
            [replace(m, published_at=now) if m.gate.served else m for m, _ in waiting]
        )
        if group:
            self.store.serve(group[-1].version)
        self._committed_at = self.monotonic()


def _manifest(batch: pa.RecordBatch, before: Manifest | None, **fields: Any) -> Manifest:
    """The manifest of a batch's version: what the rows say, `before` the same, and `fields`.

    A version knows what the accepted one before it knew: late rows alone make none older.
    """
    starts, ends, anchors = (
        batch.column(name).cast(pa.int64()).to_pylist()
        for name in ("window_start", "window_end", "anchor_time")
    )
    newest, watermark = utc_ms(max(anchors)), utc_ms(max(ends))
    return Manifest(
        rows=batch.num_rows,
        windows=len(set(zip(starts, ends, strict=True))),
        first_window_start=utc_ms(min(starts)),
        newest_event_time=max(newest, before.newest_event_time) if before else newest,
        watermark=max(watermark, before.watermark) if before else watermark,
        **fields,
    )


def _jsonable(value: Any) -> Any:
    """Numbers of numpy's become Python's; what is not finite becomes its name."""
    if isinstance(value, dict):
        return {str(name): _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value
