"""One live model: test on a micro-batch, then train on it, then say what changed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.config import ModelConfig
from models.errors import StoreError
from models.feature_batch import Part, embeddings
from models.memory.state import State
from models.network.recommender import Recommender
from models.network.text_encoder import text_encoder
from models.network.weights import head_weights, load_variables, weights_by_name
from models.row_arrays import NEVER
from models.schema import HEADS
from models.training.prepare_batch import Prepared, Preparer, item_inputs, profile_inputs
from models.training.prequential import (
    Evaluation,
    K,
    Scorer,
    evaluate,
    predictions,
    prequential_metrics,
)
from models.training.rehearsal import Rehearsal
from models.training.serving_files import write_serving
from models.training.train_step import train_on
from models.training.update_memory import update_memory
from models.training.warm_start import WarmStart

__all__ = ["StepResult", "Trainer"]

_FORMAT = 9
"""Of a checkpoint; 1 had no weights by type and age, and histories by id alone; 2 kept no column
for an item's duration, and no shares of past items; 3 had a Transformer as wide as the
towers; 4 no likeness; 5 had attributes that did not add to u; 6 likeness along random
directions; 7 neither dwells of past events nor lengths of items; 8 nothing of
what came before an item."""
_CHUNK = 4_096
_BY_USER, _BY_ITEM = ("user",), ("item", "history")  # tables with a row for each
_DAY_MS, _HOUR_MS = 86_400_000, 3_600_000
Ints = NDArray[np.integer]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StepResult:
    """What a micro-batch did.

    Attributes:
        metrics: JSON-able. `rows`; `evaluated` (rows with a wanted item) and `unknown` (of
            these: item not known before); `recall@20`, `ndcg@20`, `mrr@20` (None without
            evaluated rows); `baselines`: the same of the popularity and the transitions arm
            that lead so far, with half-life and m; `heads`: n and loss of each, as predicted;
            `loss`; `steps`; `skipped_steps` (loss or gradient not finite: no effect);
            `replayed` and `drift`, where they are asked for (`models.training.rehearsal`).
        predictions: `PREDICTIONS`, when they were asked for.
        delta: `EMBEDDINGS` of the users and items that changed, then tombstones.
        evaluation: the same row by row; None when nothing was predicted.
    """

    metrics: dict[str, Any]
    predictions: pa.RecordBatch | None
    delta: pa.RecordBatch
    evaluation: Evaluation | None = None


class Trainer:
    """The model, all that it remembers, and the step that moves it.

    Deterministic on CPU: the same batches in the same order give the same bytes,
    also when the trainer was saved and restored in between.

    Args:
        config: the job file's `[model]`.
        items: an `ITEMS` table, or None.
        users: a `USERS` table, or None.
    """

    def __init__(self, config: ModelConfig, items: pa.Table | None, users: pa.Table | None) -> None:
        self.config = config
        self.number = 0
        self.listed = K  # items kept of each row's list, where predictions are asked for
        self.tuned = config.baseline_rows  # rows on which the baselines' arms are told apart
        self.log: Callable[[int], pa.RecordBatch] | None = None  # read where rows are replayed
        self.rehearsal = Rehearsal(config)
        # Of users, of items; none where nothing was adopted.
        self._warm_starts: list[WarmStart] = []
        encoder = text_encoder(config.text_model, config.text_model_sha256)
        self.state = State(config, encoder.width)
        self._preparer = Preparer(config, items, users, encoder)
        self.model = Recommender(
            config,
            users=self.state.user_ids.capacity,
            items=self.state.item_ids.capacity,
            stats=2 * len(HEADS),
            text_width=encoder.width,
        )

    def step(self, number: int, rows: pa.RecordBatch, *, predictions: bool = False) -> StepResult:
        """Predict the rows of micro-batch `number`, then train on them.

        Args:
            number: of the micro-batch, from 1; seeds what is drawn.
            rows: schema `FEATURES`, in canonical order.
            predictions: whether to return what was predicted.
        """
        before = self.state.now
        step = self._preparer.prepare(self.state, number, rows)
        self._grow()
        if self._warm_starts:
            self._warm_starts[0].place(step.users, self.state.user_ids, self.model.tables)
        figures: dict[str, Any] = {"rows": len(step.batch)}
        evaluation, predicted = None, None
        if self.config.evaluate or predictions:
            evaluation, predicted = self._predict(step, keep=predictions)
            figures |= prequential_metrics(self.state, step, evaluation)
        losses, moved = self._learn(step, evaluation)
        self._refresh(moved)
        self._remember(step)
        self.number = number
        gone = self._expire(before)
        return StepResult(figures | losses, predicted, self._delta(step, gone), evaluation)

    def _learn(self, step: Prepared, evaluation: Evaluation | None) -> tuple[dict[str, Any], Ints]:
        """Train on the rows, and on some of the log again: a report, the item rows that moved."""
        told, moved = train_on(self.config, self.model, self.state, step)
        losses = 1.0 - evaluation.figures()["ndcg@20"] if evaluation else np.zeros(0)
        again = self.rehearsal.next(step.number, len(step.batch), losses, self.log)
        if again.batch is not None:
            past = self._preparer.prepare_again(self.state, again.number, again.batch)
            moved = np.union1d(moved, train_on(self.config, self.model, self.state, past)[1])
        return told | again.figures, moved

    def _remember(self, step: Prepared) -> None:
        update_memory(self.state, step, self._preparer.attributes, self.config.overlap)

    def adopt(self, other: "Trainer") -> None:
        """Go on from another trainer's weights and optimizers; what it remembers stays its own.

        An id begins with the vectors that the other had for it, at whatever row.
        """
        learned = weights_by_name(other.model)
        load_variables(self.model, learned)
        maps = ((other.state.user_ids, _BY_USER), (other.state.item_ids, _BY_ITEM))
        self._warm_starts = [
            WarmStart(ids, {name: other.model.tables[name] for name in names})
            for ids, names in maps
        ]
        for name in (*_BY_USER, *_BY_ITEM):
            self.model.tables[name].reset(np.arange(len(learned[f"{name}/rows"])))

    def _grow(self) -> None:
        state, tables = self.state, self.model.tables
        tables["user"].grow(state.user_ids.capacity)
        tables["item"].grow(state.item_ids.capacity)
        tables["history"].grow(state.item_ids.capacity)
        if state.without_vector:
            rows = np.unique(np.array(state.without_vector, np.int32))
            if self._warm_starts:
                self._warm_starts[1].place(rows, state.item_ids, tables)
            state.items.vectors[rows] = self._compute(rows)
            state.without_vector.clear()

    def _predict(self, step: Prepared, *, keep: bool) -> tuple[Evaluation, pa.RecordBatch | None]:
        rows = np.arange(len(step.candidates))
        users, items = (
            self.model.users(step.inputs, self.state.contents()),
            self.item_vectors(rows, step.now),
        )
        scorer = Scorer(users, items, self.heads(), self.model.scores_of(items))
        listed = self.listed if keep else 0
        evaluation = evaluate(self.state, step, scorer, keep_top=listed, tune=self.tuned)
        return evaluation, predictions(self.state, step, evaluation) if keep else None

    def heads(self) -> dict[str, Floats]:
        """Arrays of `heads.npz` (see `models.training.serving_files`)."""
        stats = self.state.user_stats
        return {
            **head_weights(self.model),
            "scale": stats.spread().astype(np.float32),
            "shift": stats.shift().astype(np.float32),
        }

    # Vectors --------------------------------------------------------------

    def _compute(self, rows: Ints) -> Floats:
        """V `[n, dim]` of item rows, by the tower."""
        parts = [
            self.model.items(item_inputs(self.state, self.config, rows[i : i + _CHUNK]))
            for i in range(0, len(rows), _CHUNK)
        ]
        return np.concatenate([np.zeros((0, self.config.dim), np.float32), *parts])

    def _refresh(self, moved: Ints) -> None:
        """Compute v anew where training moved it, and of a few others in turn.

        All items share the words' vectors, so every v moves a little in every step.
        To compute them all would cost what exists; in turn, none is older than
        `refresh_turns` micro-batches, or as many as a chunk of rows at a time takes.
        """
        state, top = self.state, self.state.item_ids.top
        size = min(-(-top // self.config.refresh_turns), _CHUNK)
        turn = (state.next_refresh + np.arange(size)) % top
        state.next_refresh = int((state.next_refresh + size) % top)
        rows = np.union1d(moved, turn[turn > 0])
        state.items.vectors[rows] = self._compute(rows)

    def item_vectors(self, rows: Ints, now: int) -> Floats:
        """Served vectors `[n, vector_dim]` of item rows as of `now`: `[v, b, F, t]`."""
        state = self.state
        features = state.stream.features(now, rows)
        fixed = state.fixed(rows)
        parts = [state.items.vectors[rows], self.model.bias(features), features, fixed]
        return np.concatenate(parts, axis=1)

    def user_vectors(self, rows: Ints, now: int) -> Floats:
        """Served vectors `[n, vector_dim]` of user rows as of `now`: `[u, 1, w, q]`."""
        contents = self.state.contents()
        parts = [
            self.model.users(profile_inputs(self.state, self.config, part, now), contents)
            for part in np.split(rows, range(_CHUNK, len(rows), _CHUNK))
        ]
        return np.concatenate([np.zeros((0, self.config.vector_dim), np.float32), *parts])

    # Memory ---------------------------------------------------------------

    def _expire(self, before: int) -> tuple[list[str], list[str]]:
        """Free the rows of ids that are silent for too long, or when room runs out.

        To look for silent ones costs what exists: it is done once an hour of event time.

        Args:
            before: newest event time before this micro-batch, epoch ms.

        Returns:
            the users and the items that are gone.
        """
        state, days = self.state, self.config.expiry_days
        looked = days and state.now // _HOUR_MS > before // _HOUR_MS
        gone = []
        for ids in (state.user_ids, state.item_ids):
            silent = ids.expire(state.now - days * _DAY_MS) if looked else []
            gone.append(silent + ids.make_room())
        users, items = (np.array([row for _, row in pairs], np.int32) for pairs in gone)
        keys = np.array([row for _, row in state.key_ids.make_room()], np.int32)
        if len(keys):
            state.key_counts.drop(keys, left=True, right=False)
        state.reset(users, items)
        for warm_start, rows in zip(self._warm_starts, (users, items), strict=False):
            warm_start.release(rows)
        for name, rows in (("user", users), ("item", items), ("history", items)):
            if len(rows):
                self.model.tables[name].reset(rows)
        return [name for name, _ in gone[0]], [name for name, _ in gone[1]]

    # Publication ----------------------------------------------------------

    def _delta(self, step: Prepared, gone: tuple[list[str], list[str]]) -> pa.RecordBatch:
        state = self.state
        users, items = (np.unique(rows[rows > 0]) for rows in (step.users, step.items))
        if state.republish:
            users, items = state.user_ids.used(), state.items.known_rows()
            state.republish = False
        items = np.union1d(items, np.array(state.new_candidates, items.dtype))
        state.new_candidates = []
        live = [self._part("user", users), self._part("item", self._published(items))]
        tombs: list[Part] = [
            (entity, names, np.zeros((len(names), self.config.vector_dim), np.float32), state.now)
            for entity, names in zip(("user", "item"), gone, strict=True)
        ]
        return embeddings(live, tombs, step.number)

    def _part(self, entity: str, rows: Ints) -> Part:
        """Vectors of the rows that are still in use."""
        ids = self.state.user_ids if entity == "user" else self.state.item_ids
        held = rows[ids.last_seen[rows] > NEVER]
        names = [ids.names[row] or "" for row in held.tolist()]
        vectors = self.user_vectors if entity == "user" else self.item_vectors
        return entity, names, vectors(held, self.state.now), self.state.now

    def _published(self, touched: Ints) -> Ints:
        """Item rows that the delta holds, ascending: touched or new ones, and those that faded."""
        state, last, published = self.state, self.state.stream.last, self.state.items.published_at
        touched = touched[state.item_ids.last_seen[touched] > NEVER]  # recycled in this very step
        published[touched] = state.now
        due = state.stale_counts.take(state.now, last, published, self.config.delta_limit)
        items = np.union1d(touched, due)
        published[items] = state.now
        state.stale_counts.note(items, last[items], published[items])
        return items

    def snapshot(self, version: int) -> pa.Table:
        """`EMBEDDINGS` of all known users and items as of the newest event."""
        users, items = self.state.user_ids.used(), self.state.items.known_rows()
        rows = embeddings([self._part("user", users), self._part("item", items)], [], version)
        return pa.Table.from_batches([rows])

    def serving(self, folder: Path, version: int) -> None:
        """What a query needs beside the vectors; see `models.training.serving_files`."""
        write_serving(folder, self.config, self.state, self.heads(), version)

    # Checkpoints ----------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write everything that `restore` needs into `folder` (made if missing)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.state.save(folder)
        np.savez(folder / "weights.npz", allow_pickle=False, **weights_by_name(self.model))
        about = {"format": _FORMAT, "number": self.number, "replay": self.rehearsal.state()}
        (folder / "trainer.json").write_text(json.dumps(about), encoding="utf-8")

    @classmethod
    def restore(
        cls,
        folder: Path,
        config: ModelConfig,
        items: pa.Table | None,
        users: pa.Table | None,
    ) -> Self:
        """The trainer that `save` wrote, to the byte.

        Raises:
            StoreError: the folder holds no checkpoint, a damaged one, or one of another shape.
        """
        made = cls(config, items, users)
        try:
            about = json.loads((folder / "trainer.json").read_text(encoding="utf-8"))
            if about.get("format") != _FORMAT:
                raise StoreError(
                    f"checkpoint {folder} has format {about.get('format')!r}, this version of "
                    f"Rillet reads {_FORMAT}: make a new store from the same events"
                )
            made.state.restore(folder)
            with np.load(folder / "weights.npz", allow_pickle=False) as stored:
                load_variables(made.model, {name: stored[name] for name in stored.files})
            made.number = int(about["number"])
            made.rehearsal.restore(about.get("replay", {}))
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise StoreError(
                f"checkpoint {folder} cannot be restored: {error}; "
                f"use the job file it was made with, or an older checkpoint"
            ) from error
        return made
