"""Replay a training log: a model that learns as it goes, beside ones that do not.

Contestants, all on the same micro-batches, each of which is predicted before anybody
trains on it:

live
    learns from every micro-batch, once, as `rillet run` does
stale
    learned until the split; its weights stay as they were, counts, histories and new ids go on
frozen
    learned until the split and then nothing: new items are no candidates, but for those of a
    catalogue
retrained
    learned everything before the split `epochs` times over, each time from empty counts
    with the weights of the time before; goes on as live does
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.config import ModelConfig
from models.errors import RequestError
from models.evaluation.head_metrics import HeadMetrics
from models.evaluation.list_metrics import Categories, ListMetrics, RecommendedLists
from models.evaluation.mean_baselines import RunningMeans
from models.evaluation.metric_sums import MetricSums, TimeCells
from models.evaluation.slices import SliceOfRows
from models.feature_batch import Batch, head_targets, read_batch
from models.row_arrays import NEVER, grown
from models.schema import EMBEDDINGS
from models.store.catalogue import read_catalogue
from models.store.store import Store
from models.store.training_log import TrainingLog, last_part_start
from models.training.prepare_batch import Prepared
from models.training.prequential import Evaluation
from models.training.trainer import StepResult, Trainer

__all__ = ["ARMS", "Contestant", "Replay", "Request", "replay"]

ARMS = ("stale", "frozen", "retrained")
"""Models that can be compared with the live one."""

_EVERY_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is to be evaluated.

    Attributes:
        store: whose log is read.
        config: of the model; `evaluate` is taken for granted.
        k: length of the lists, 1 to 1,000.
        last: share of the micro-batches that figures are of; the split is where it begins.
        batches: only so many micro-batches, from the first; None = all.
        arms: of `ARMS`.
        epochs: of the retrained model.
        blocks: of time, for the cross-validation.
    """

    store: Store
    config: ModelConfig
    k: int = 20
    last: float = 0.5
    batches: int | None = None
    arms: tuple[str, ...] = ARMS
    epochs: int = 2
    blocks: int = 5

    def numbers(self, log: TrainingLog) -> tuple[list[int], int]:
        """Micro-batches of the log, but for those that the gate kept out, and how many it did.

        Args:
            log: of the store.

        Raises:
            RequestError: there are fewer than two.
        """
        refused = log.refused()
        held = [n for n in self.store.batches() if n not in refused][: self.batches]
        if len(held) < 2:
            raise RequestError(
                f"store {self.store.root} has {len(held)} micro-batches to evaluate, at least 2 "
                "are needed: let rillet run read more events"
            )
        return held, len(refused)


class _ReplayedTrainer(Trainer):
    """A trainer that publishes nothing, and keeps the lists that it makes."""

    recommended: RecommendedLists | None = None
    # Item rows that could be listed before.
    _candidates_before: NDArray[np.bool_] = np.zeros(0, bool)

    def _predict(self, step: Prepared, *, keep: bool) -> tuple[Evaluation, pa.RecordBatch | None]:
        evaluation, predicted = super()._predict(step, keep=keep)
        if keep:
            self.recommended = self._recommended_lists(step, evaluation.top)
        return evaluation, predicted

    def _recommended_lists(
        self, step: Prepared, lists: list[NDArray[np.integer]]
    ) -> RecommendedLists:
        """As of now: what is learned or recycled next belongs to the lists after these."""
        names, candidates = self.state.item_ids.names, np.flatnonzero(step.candidates)
        offered = grown(self._candidates_before, len(step.candidates))
        offered &= step.candidates
        fresh = candidates[~offered[candidates]]
        offered[fresh] = True
        self._candidates_before = offered
        rows = np.unique(np.concatenate([np.zeros(0, np.int64), *lists]))
        return RecommendedLists(
            lists=lists,
            rows=rows,
            names=[names[row] or "" for row in rows.tolist()],
            vectors=self.state.items.vectors[rows],
            candidates=len(candidates),
            arrived=[names[row] or "" for row in fresh.tolist()],
        )

    def _expire(self, before: int) -> tuple[list[str], list[str]]:
        gone = super()._expire(before)
        if gone[1]:  # their rows may be others' by the next micro-batch
            used = self.state.item_ids.last_seen[: len(self._candidates_before)] > NEVER
            self._candidates_before = self._candidates_before & used
        return gone

    def _delta(self, step: Prepared, gone: tuple[list[str], list[str]]) -> pa.RecordBatch:
        del step, gone
        return pa.RecordBatch.from_pylist([], schema=EMBEDDINGS)


class _StaleTrainer(_ReplayedTrainer):
    """One that learns no more, but counts."""

    def _learn(self, step: Prepared, evaluation: Evaluation | None) -> tuple[dict[str, Any], Any]:
        del step, evaluation
        return {}, np.zeros(0, np.int32)


class _FrozenTrainer(_StaleTrainer):
    """One that neither learns nor counts."""

    def _remember(self, step: Prepared) -> None:
        pass


@dataclass
class Contestant:
    """A model and how it has done."""

    trainer: _ReplayedTrainer
    ranks: MetricSums
    lists: ListMetrics
    heads: HeadMetrics

    def step(self, number: int, rows: pa.RecordBatch, *, lists: bool) -> StepResult:
        """Predict, then do whatever this one does with what it saw."""
        return self.trainer.step(number, rows, predictions=lists)


@dataclass
class Replay:
    """What came of it: `live` and the others by name, the baselines' arms, the stretch."""

    request: Request
    cells: TimeCells
    numbers: list[int]
    left_out: int
    split: int  # place in `numbers` of the first micro-batch that figures are of
    contestants: dict[str, Contestant]
    baselines: MetricSums
    arms: Any  # models.memory.online_baselines.Baselines, for the arms' names
    span: tuple[int, int] = (0, 0)  # newest event before the split, and at the end; epoch ms
    seconds: dict[str, float] = field(default_factory=dict)


def replay(
    request: Request,
    tell: Callable[[str], object] = str,
    monotonic: Callable[[], float] = time.monotonic,
) -> Replay:
    """Go through the log, from an empty model to the end.

    Args:
        request: what to do.
        tell: told how far it is, now and then.
        monotonic: counts seconds.

    Raises:
        RequestError: there is too little to go through.
        StoreError: a micro-batch or a catalogue is damaged.
    """
    return _Run(request, tell, monotonic).run()


class _Run:
    """The state of a replay."""

    def __init__(
        self,
        request: Request,
        tell: Callable[[str], object],
        monotonic: Callable[[], float],
    ) -> None:
        self.request, self._tell, self._monotonic = request, tell, monotonic
        self._log = TrainingLog.of(request.store)
        self.numbers, self._left_out = request.numbers(self._log)
        self.split = last_part_start(len(self.numbers), request.last)
        self.cells = TimeCells(len(self.numbers))
        self._config = request.config.model_copy(update={"evaluate": True})
        self._catalogue = {
            entity: read_catalogue(request.store, entity) for entity in ("items", "users")
        }
        self._categories = Categories(self._catalogue["items"])
        self._activity, self._means = SliceOfRows(), RunningMeans()
        self._told_at = -_EVERY_S
        live = self._contestant(self._fresh_trainer())
        arms = live.trainer.state.baselines.totals.shape[1]
        baselines = MetricSums(self.cells, arms, request.k)
        self.out = Replay(
            request,
            self.cells,
            self.numbers,
            self._left_out,
            self.split,
            {"live": live},
            baselines,
            live.trainer.state.baselines,
        )

    def run(self) -> Replay:
        """Before the split, the other contestants, after the split."""
        self._timed("learning until the split", self._forward, 0, self.split)
        self._timed("retraining", self._others)
        self._timed("comparing", self._forward, self.split, len(self.numbers))
        return self.out

    def _timed(self, name: str, work: Callable[..., None], *args: Any) -> None:
        begun = self._monotonic()
        work(*args)
        self.out.seconds[name] = round(self._monotonic() - begun, 3)

    def _fresh_trainer(self, *, evaluate: bool = True) -> _ReplayedTrainer:
        config = self._config.model_copy(update={"evaluate": evaluate})
        trainer = _ReplayedTrainer(config, self._catalogue["items"], self._catalogue["users"])
        trainer.log = self._read
        return trainer

    def _read(self, number: int) -> pa.RecordBatch:
        if number in self._log.made:
            return self._log.read(number)
        return self.request.store.read_batch(number)[0]  # not trained on yet

    def _contestant(self, trainer: _ReplayedTrainer) -> Contestant:
        trainer.listed, trainer.log = self.request.k, self._read
        trainer.tuned = sys.maxsize  # the best arm in hindsight is judged on every row
        ranks = MetricSums(self.cells, 1, self.request.k)
        return Contestant(trainer, ranks, ListMetrics(self._categories, self.cells), HeadMetrics())

    def _others(self) -> None:
        """Those that begin where the log is split."""
        live, arms = self.out.contestants["live"].trainer, self.request.arms
        with TemporaryDirectory(prefix="rillet-") as folder:
            live.save(Path(folder))
            for name, kind in (("stale", _StaleTrainer), ("frozen", _FrozenTrainer)):
                if name in arms:
                    copy = kind.restore(Path(folder), self._config, *self._catalogue.values())
                    self.out.contestants[name] = self._contestant(copy)
        if "retrained" in arms:
            self.out.contestants["retrained"] = self._contestant(self._retrained(live))

    def _retrained(self, live: _ReplayedTrainer) -> _ReplayedTrainer:
        """Its first epoch is what the live model has done."""
        trainer = live
        for epoch in range(1, self.request.epochs):
            former, trainer = trainer, self._fresh_trainer(evaluate=False)
            trainer.adopt(former)
            for place, number in enumerate(self.numbers[: self.split]):
                trainer.step(number, self._read(number))
                self._say(f"retraining, epoch {epoch + 1}", place + 1, self.split)
        if trainer is live:  # one epoch: the same as live, in a copy of its own
            with TemporaryDirectory(prefix="rillet-") as folder:
                live.save(Path(folder))
                return _ReplayedTrainer.restore(
                    Path(folder), self._config, *self._catalogue.values()
                )
        return trainer

    def _forward(self, first: int, last: int) -> None:
        for place in range(first, last):
            self._micro_batch(place)
            self._say("replaying", place + 1, len(self.numbers))
        newest = self.out.contestants["live"].trainer.state.now
        self.out.span = (newest, 0) if first == 0 else (self.out.span[0], newest)

    def _micro_batch(self, place: int) -> None:
        number = self.numbers[place]
        rows = self._read(number)
        batch = read_batch(rows)
        judged = place >= self.split
        slices = self._activity.before(batch, np.arange(len(batch)))
        targets, means = head_targets(batch), self._means.before(batch)
        for name, one in self.out.contestants.items():
            result = one.step(number, rows, lists=judged)
            self._count(place, one, batch, result, slices)
            if name == "live":
                self._count_arms(place, batch, result, slices)
            if judged:
                self._count_more(place, one, result, (targets, means, slices))
        self._activity.add(batch)
        self._means.add(batch)

    def _count(
        self, place: int, one: Contestant, batch: Batch, result: StepResult, slices: Any
    ) -> None:
        found = result.evaluation
        if found is not None:
            ranks = found.greater[found.known, None], found.ties[found.known, None], found.known
            one.ranks.add(
                self.cells.of(place), ranks, batch.user[found.rows], slices[:, found.rows]
            )

    def _count_arms(self, place: int, batch: Batch, result: StepResult, slices: Any) -> None:
        found = result.evaluation
        if found is not None:
            ranks = found.arms.greater, found.arms.ties, found.known
            self.out.baselines.add(
                self.cells.of(place), ranks, batch.user[found.rows], slices[:, found.rows]
            )

    def _count_more(
        self,
        place: int,
        one: Contestant,
        result: StepResult,
        told: tuple[Any, Any, Any],
    ) -> None:
        """Lists and heads, after the split only."""
        found, recommended = result.evaluation, one.trainer.recommended
        if found is None or recommended is None:
            return
        cell = self.cells.of(place)
        one.lists.add(cell, recommended, (self._activity.by_item, self._activity.total))
        where = found.head_rows
        (targets, present), means, slices = told
        one.heads.add(
            cell,
            (targets[where], present[where]),
            found.heads,
            means[where],
            slices[:, where],
        )

    def _say(self, what: str, done: int, of: int) -> None:
        now = self._monotonic()
        if now - self._told_at >= _EVERY_S or done == of:
            self._told_at = now
            self._tell(f"{what}: {done} of {of} micro-batches")
