"""A full retrain from the training log, and whether it may replace the live model.

A fresh trainer goes through the log in order, `epochs` times; each time it starts from
empty counts with the weights of the time before. The last part of the log is kept for
the last time through, where every micro-batch is predicted before it is trained on, as
the live model did: on the same rows. The retrained model is published only where it is
*no worse*: for each of recall@20 and NDCG@20 the lower bound (95 %, one-sided, bootstrap
over blocks of micro-batches drawn for both together) of its difference to the live
model's is above −`tolerance` of the live model's.

A retrained version begins a line of its own: no parent, and the digest

    SHA-256(genesis ‖ L ‖ bytes of all its vectors),
    L = SHA-256("rillet retrain" ‖ epochs, 8 bytes, little-endian ‖ hash of each batch in order)

so that the same log, settings and epochs give the same digest. Within one time through,
no micro-batch is trained on twice and none is skipped but those that the gate refused.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from models.bootstrap import Interval, paired_difference
from models.errors import JobError, RilletError, StoreError
from models.schema import EMBEDDINGS
from models.store import gate
from models.store.canonical_bytes import chain
from models.store.lineage import Publication, Step
from models.store.manifest import Manifest, Verdict, utc_ms
from models.store.recovery import recover
from models.store.store import GENESIS, Store
from models.store.training_log import TrainingLog, last_part_start
from models.store.version_numbers import VersionNumbers, last_trained_batch

__all__ = ["FIGURES", "Factory", "Retrain", "log_digest"]

FIGURES = ("recall@20", "ndcg@20")
"""What the two models are compared by; the first one has to be on record."""

FEWEST = 100
"""Predicted rows below which no verdict is given."""

_ONE_SIDED = 0.90  # the middle 90 % leave 5 % below


class Factory(Protocol):
    """Makes trainers that have seen nothing."""

    def fresh(self) -> Any:
        """One of them; it can `adopt` another's weights."""


def log_digest(epochs: int, batches: Sequence[str]) -> str:
    """What stands for the log in a retrained version's digest (hex).

    Args:
        epochs: times through the log.
        batches: SHA-256 (hex) of each micro-batch, in order.
    """
    told = hashlib.sha256(b"rillet retrain" + epochs.to_bytes(8, "little"))
    for sha256 in batches:
        told.update(bytes.fromhex(sha256))
    return told.hexdigest()


@dataclass(kw_only=True)
class Retrain:
    """One retrain of a store.

    Args:
        store: held by the caller, and recovered (`models.store.recovery`).
        trainers: makes the candidate; with the settings that it is to have.
        warmers: makes the trainers of earlier epochs, which need not predict; None: the same.
        model: those settings, JSON-able.
        publish: sinks, as a lineage's.
        clock: wall clock, epoch ms.
        epochs: times through the log.
        last: share of the micro-batches that the two models are compared on.
        tolerance: share of the live model's figure that may be lost.
        dry_run: compare only.
        tell: told how far it is: what is done, and how many micro-batches of how many.
    """

    store: Store
    trainers: Factory
    model: dict[str, Any]
    publish: Sequence[Callable[[Sequence[Publication]], None]]
    clock: Callable[[], int]
    epochs: int = 1
    last: float = 0.2
    tolerance: float = 0.02
    dry_run: bool = False
    warmers: Factory | None = None
    tell: Callable[[str, int, int], None] = lambda what, done, of: None
    _log: TrainingLog = field(init=False)

    def run(self) -> dict[str, Any]:
        """Train, compare, and publish where that is earned; what is printed and kept.

        Returns:
            `retrained`: the new version, None where it was not published; `retrain_of`; the
            `comparison`; `reasons` against it; `digest`.

        Raises:
            StoreError: the log ends in batches that no version was made of, a batch is
                damaged, or there is too little to compare on.
            JobError: a step failed.
        """
        begun = self.clock()
        self._log = self._whole()
        log = self._log.accepted()
        split = last_part_start(len(log), self.last)
        judged = self._judged(log[split:])
        trainer = self._warm(log[:split])
        figures: dict[int, dict[str, Any]] = {}
        span = _Span()
        delta = pa.RecordBatch.from_pylist([], schema=EMBEDDINGS)
        for place, number in enumerate(log):
            batch = self._log.read(number)
            step = self._step(trainer, number, batch)
            span.add(batch)
            if place >= split:
                figures[number] = step.metrics
            delta = step.delta
            self.tell("learning" if place < split else "comparing", place + 1, len(log))
        comparison = self._compare(judged, figures)
        number = self.store.versions()[-1] + 1
        snapshot = trainer.snapshot(number)
        verdict = gate.judge(figures.get(log[-1], {}), delta, snapshot=snapshot)
        reasons = [*self._worse(comparison), *verdict.reasons]
        told = {
            "retrained": None,
            "retrain_of": self.store.versions()[-1],
            "epochs": self.epochs,
            "batches": len(log),
            "rows": span.rows,
            "comparison": comparison,
            "reasons": reasons,
            "digest": None,
        }
        if reasons or self.dry_run:
            return told
        manifest = self._publish(trainer, snapshot, span, (begun, comparison, _columns(figures)))
        return {**told, "retrained": number, "digest": manifest.digest}

    # -- before ------------------------------------------------------------------

    def _whole(self) -> TrainingLog:
        """The log, from which nothing is missing."""
        if self.store.last_batch() > last_trained_batch(self.store):
            raise StoreError(
                f"{self.store.root} holds micro-batches up to {self.store.last_batch()} of an "
                "interrupted run: bring it to its end with the same rillet run first"
            )
        log = TrainingLog.of(self.store)
        if len(log.accepted()) < 2:
            raise StoreError(
                f"store {self.store.root} has {len(log.accepted())} micro-batches to train on, at "
                "least 2 are needed: let rillet run read more events"
            )
        return log

    def _judged(self, part: list[int]) -> dict[int, dict[str, Any]]:
        """What the live model's figures were on batches of the last part, where it has any."""
        before = self._replaced()
        found = {
            n: self._log.made[n].metrics if before is None else before.get(n, {}) for n in part
        }
        judged = {n: one for n, one in found.items() if _figure(one, FIGURES[0]) is not None}
        rows = sum(int(one["evaluated"]) for one in judged.values())
        if rows < FEWEST:
            raise StoreError(
                f"the live model of {self.store.root} has {rows} predicted rows on record in the "
                f"last {len(part)} micro-batches, a comparison needs {FEWEST}: give a larger "
                "--last, or let rillet run read more events with model.evaluate = true"
            )
        return judged

    def _replaced(self) -> dict[int, dict[str, Any]] | None:
        """Figures of a live model that was retrained itself, by micro-batch; else None.

        Its own, on what it was compared on, and those of the versions that followed it.
        """
        root = VersionNumbers.of(self.store).root
        if not root:
            return None
        made = self.store.manifest(root)
        later = {n: one.metrics for n, one in self._log.made.items() if n > made.batch}
        columns = made.metrics.get("judged", {"batch": []})
        rows = zip(*columns.values(), strict=True)
        return later | {row[0]: dict(zip(columns, row, strict=True)) for row in rows}

    def _warm(self, log: list[int]) -> Any:
        """A trainer with the weights of all epochs but the last, and nothing remembered."""
        former: Any = None
        for epoch in range(1, self.epochs + 1):
            factory = self.trainers if epoch == self.epochs else self.warmers or self.trainers
            trainer = factory.fresh()
            if former is not None:
                trainer.adopt(former)
            for place, number in enumerate(log if epoch < self.epochs else []):
                self._step(trainer, number, self._log.read(number))
                self.tell(f"epoch {epoch} of {self.epochs}", place + 1, len(log))
            former = trainer
        return former

    def _step(self, trainer: Any, number: int, batch: pa.RecordBatch) -> Step:
        try:
            step: Step = trainer.step(number, batch)
        except RilletError:
            raise
        except Exception as error:
            raise JobError(
                f"retraining on micro-batch {number} failed ({type(error).__name__}: {error}): "
                "the live model stays; see the trace with --debug"
            ) from error
        return step

    # -- the verdict ----------------------------------------------------------------

    def _compare(
        self, judged: dict[int, dict[str, Any]], figures: dict[int, dict[str, Any]]
    ) -> dict[str, Any]:
        """Both models on the same rows, by figure; one that either lacks is left out."""
        rows = np.array([one["evaluated"] for one in judged.values()], float)
        out: dict[str, Any] = {
            "rows": int(rows.sum()),
            "batches": len(judged),
            "first": min(judged),
            "last": max(judged),
            "tolerance": self.tolerance,
        }
        for name in FIGURES:
            mine = [_figure(figures[number], name) for number in judged]
            theirs = [_figure(one, name) for one in judged.values()]
            if None in mine or None in theirs:
                continue
            both = np.array(mine, float) * rows, np.array(theirs, float) * rows
            found = paired_difference(*both, rows, level=_ONE_SIDED)
            live = float(both[1].sum() / rows.sum())
            out[name] = {
                "live": round(live, 6),
                "retrained": round(float(both[0].sum() / rows.sum()), 6),
                "difference": found.to_json(),
                "no_worse": _no_worse(found, live, self.tolerance),
            }
        return out

    def _worse(self, comparison: dict[str, Any]) -> Iterator[str]:
        """In words, where it is."""
        for name in FIGURES:
            found = comparison.get(name)
            if name == FIGURES[0] and not found:
                yield f"{name} of the retrained model is not known: nothing to compare"
            if found and not found["no_worse"]:
                low = found["difference"]["low"]
                bound = "unknown" if low is None else f"{low:+.4f}"
                yield (
                    f"{name} is {found['retrained']:.4f}, the live model's {found['live']:.4f}; "
                    f"the difference may be {bound}, allowed is "
                    f"{-self.tolerance * found['live']:+.4f}"
                )

    # -- publication ------------------------------------------------------------------

    def _publish(
        self,
        trainer: Any,
        snapshot: pa.Table,
        span: "_Span",
        facts: tuple[int, dict[str, Any], dict[str, Any]],
    ) -> Manifest:
        """Everything that the version needs, then its manifest, then CURRENT."""
        begun, comparison, judged = facts
        replaced = self.store.versions()[-1]
        hashes = [self._log.made[n].batch_sha256 for n in self._log.accepted()]
        number, log = replaced + 1, log_digest(self.epochs, hashes)
        self.store.put_serving(number, partial(trainer.serving, version=number))
        self.store.put_checkpoint(number, trainer.save)
        nothing = pa.RecordBatch.from_pylist([], schema=EMBEDDINGS)
        for sink in self.publish:
            sink([Publication(number, nothing, snapshot)])
        rows = pa.concat_batches(snapshot.combine_chunks().to_batches())
        manifest = Manifest(
            version=number,
            parent=None,
            batch_sha256=log,
            rows=span.rows,
            windows=len(span.windows),
            first_window_start=utc_ms(span.first),
            newest_event_time=utc_ms(span.newest),
            watermark=utc_ms(span.end),
            metrics={"epochs": self.epochs, "comparison": comparison, "judged": judged},
            gate=Verdict(served=True),
            digest=chain(GENESIS, log, rows),
            snapshot=number,
            checkpoint=True,
            created_at=utc_ms(begun),
            published_at=None,
            seconds=(self.clock() - begun) / 1_000,
            through=last_trained_batch(self.store),  # a refused batch at the end is behind it, too
            retrain_of=replaced,
            model=self.model,
        )
        self.store.put_manifests([manifest])
        recover(self.store, utc_ms(self.clock()))
        return manifest


def _figure(metrics: dict[str, Any], name: str) -> float | None:
    """A figure of the model; None where nothing was predicted."""
    found = metrics.get("model", metrics)
    value = found.get(name) if isinstance(found, dict) and metrics.get("evaluated") else None
    return float(value) if isinstance(value, int | float) else None


def _columns(figures: dict[int, dict[str, Any]]) -> dict[str, list[Any]]:
    """Figures of predicted batches as columns, for a manifest."""
    kept = {n: one for n, one in figures.items() if _figure(one, FIGURES[0]) is not None}
    columns: dict[str, list[Any]] = {
        "batch": list(kept),
        "evaluated": [one["evaluated"] for one in kept.values()],
    }
    return columns | {name: [_figure(one, name) for one in kept.values()] for name in FIGURES}


def _no_worse(found: Interval, live: float, tolerance: float) -> bool:
    """Whether what may have been lost is little enough; unknown bounds are not."""
    if found.low == found.high == found.value == 0.0:
        return True  # the same predictions
    return bool(found.low >= -tolerance * live)  # nan is not


@dataclass
class _Span:
    """What all micro-batches together hold; times in epoch ms."""

    rows: int = 0
    first: int = 2**62
    newest: int = 0
    end: int = 0
    windows: set[tuple[int, int]] = field(default_factory=set)

    def add(self, batch: pa.RecordBatch) -> None:
        starts, ends, anchors = (
            batch.column(name).cast(pa.int64()).to_numpy()
            for name in ("window_start", "window_end", "anchor_time")
        )
        self.rows += batch.num_rows
        self.first = min(self.first, int(starts.min()))
        self.end, self.newest = max(self.end, int(ends.max())), max(self.newest, int(anchors.max()))
        self.windows.update(zip(starts.tolist(), ends.tolist(), strict=True))
