"""One live model: test on a micro-batch, then train on it, then say what changed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models import metrics as m
from models.baselines import Excluded
from models.catalogue import Attributes, Catalogue, ragged_to_padded
from models.config import ModelConfig
from models.errors import StoreError
from models.inputs import Batch, embeddings, head_targets, read_batch
from models.negatives import Negatives, draw, mask
from models.recommender import Recommender
from models.schema import EVENT_TYPES, PREDICTIONS
from models.serving import BINARY_HEADS, HEADS, score_heads, write_serving
from models.state import State
from models.text import hash_token
from models.towers import AGE_BUCKETS

__all__ = ["StepResult", "Trainer"]

K = 20
_CHUNK = 4_096
_CELLS = 8_000_000  # scores held at once
_DISLIKE = EVENT_TYPES.index("dislike")
Ints = NDArray[np.integer]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class StepResult:
    """What a micro-batch did.

    Attributes:
        metrics: JSON-able. `rows`, `evaluated` (rows with a wanted item), `unknown`
            (of these: item not known before), `recall@20`, `ndcg@20`, `mrr@20` (None without
            evaluated rows), `baselines` (the same of the leading popularity and transitions
            arm, with its half-life and m), `loss`, `steps`, `skipped_steps` (loss or gradient
            was not finite: no effect on the model), `heads` (n and loss of each, as predicted).
        predictions: `PREDICTIONS`, when they were asked for.
        delta: `EMBEDDINGS` of the users and items that changed, tombstones included.
    """

    metrics: dict[str, Any]
    predictions: pa.RecordBatch | None
    delta: pa.RecordBatch


@dataclass(frozen=True)
class _Step:
    """A micro-batch with its ids as table rows, and what follows from them."""

    number: int
    batch: Batch
    users: Ints  # [n]
    items: Ints  # [n]
    history: Ints  # [m] item rows of past events
    last: Ints  # [n] item row of the newest past event that was no dislike
    candidates: NDArray[np.bool_]  # [top] known before this batch
    excluded: Excluded
    now: int  # as of which counts are read
    inputs: dict[str, NDArray[Any]]  # of the user tower, [n, …]
    targets: NDArray[np.float64]  # [n, heads]
    present: NDArray[np.bool_]  # [n, heads]


class Trainer:
    """The model, all it remembers, and the steps that move it.

    Deterministic on CPU: the same batches in the same order give the same bytes,
    also when the trainer was saved and restored in between.

    Args:
        config: the job file's `[model]`.
        items: an `ITEMS` table, or None.
        users: a `USERS` table, or None.
    """

    def __init__(self, config: ModelConfig, items: pa.Table | None, users: pa.Table | None) -> None:
        self.config = config
        self.catalogue = Catalogue(items, config)
        self.attributes = Attributes(users, config)
        self.state = State(config)
        self.model = Recommender(
            config,
            users=self.state.user_ids.capacity,
            items=self.state.item_ids.capacity,
            stats=2 * len(HEADS),
        )
        self.number = 0
        self._tokens: dict[str, int] = {}

    # The step -------------------------------------------------------------

    def step(self, number: int, rows: pa.RecordBatch, *, predictions: bool = False) -> StepResult:
        """Predict the rows of micro-batch `number`, then train on them.

        Args:
            number: of the micro-batch, from 1; seeds what is drawn.
            rows: schema `FEATURES`, in canonical order.
            predictions: whether to return what was predicted.
        """
        batch = read_batch(rows)
        step = self._prepare(number, batch)
        report: dict[str, Any] = {"rows": len(batch)}
        predicted = None
        if self.config.evaluate or predictions:
            evaluation, predicted = self._evaluate(step, predictions)
            report |= evaluation
        report |= self._train(step)
        self._remember(step)
        self.number = number
        gone_users, gone_items = self._expire()
        delta = self._delta(step, gone_users, gone_items)
        return StepResult(report, predicted, delta)

    def _prepare(self, number: int, batch: Batch) -> _Step:
        state = self.state
        newest = int(batch.anchor.max(initial=state.now))
        self._publish(newest)
        before = state.known.copy()
        users = self._admit_users(batch)[batch.user]
        codes = self._admit_items(batch)
        state.grow()
        for name, ids in (("user", state.user_ids), ("item", state.item_ids)):
            self.model.tables[name].grow(ids.capacity)
        self.model.tables["history"].grow(state.item_ids.capacity)
        candidates = np.zeros(state.item_ids.top, bool)
        candidates[: len(before)] = before[: len(candidates)]
        items, history = codes[batch.item], codes[batch.history_item]
        touched = batch.touched
        state.seen.add(users[touched], items[touched], batch.touched_at[touched])
        targets, present = head_targets(batch)
        now = max(state.now, int(batch.anchor.min(initial=newest)))
        return _Step(
            number=number,
            batch=batch,
            users=users,
            items=items,
            history=history,
            last=_last_item(batch, history),
            candidates=candidates,
            excluded=self._excluded(batch, users, items, history),
            now=now,
            inputs=self._user_inputs(batch, users, history),
            targets=targets,
            present=present,
        )

    def _publish(self, until_ms: int) -> None:
        """Catalogue items that have appeared by now become candidates."""
        state = self.state
        names = self.catalogue.appeared(None if self.number == 0 else state.now, until_ms)
        names = [name for name in names if name not in state.item_ids]
        if not names:
            return
        _, published = self.catalogue.facts(names)
        ones = np.ones(len(names), np.int64)
        rows = state.item_ids.admit(names, np.maximum(published, 0), ones)
        state.item_ids.count[rows] = 0  # to be in a catalogue is no sighting
        state.grow()
        self._describe(names, rows)
        state.known[rows[rows > 0]] = True

    def _describe(self, names: list[str], rows: Ints) -> None:
        """Give new item rows their words and their date of publication."""
        state = self.state
        held = rows > 0
        words, published = self.catalogue.facts(names)
        state.words[rows[held]] = words[held]
        dated = held & (published > 0)
        state.stream.first[rows[dated]] = published[dated]

    def _admit_users(self, batch: Batch) -> Ints:
        ids = self.state.user_ids
        known = ids.lookup(batch.users) > 0
        newest = np.full(len(batch.users), 0, np.int64)
        np.maximum.at(newest, batch.user, batch.anchor)
        rows = ids.admit(batch.users, newest, np.bincount(batch.user, minlength=len(batch.users)))
        self.state.grow()
        new = np.flatnonzero(~known & (rows > 0))
        names = [batch.users[i] for i in new.tolist()]
        self.state.profiles.attributes[rows[new]] = self.attributes.of(names)
        return rows

    def _admit_items(self, batch: Batch) -> Ints:
        """Rows of `batch.items`; ids that only histories name are not admitted."""
        ids = self.state.item_ids
        rows = ids.lookup(batch.items)
        seen = np.bincount(batch.item, minlength=len(batch.items))
        own = np.flatnonzero(seen)
        newest = np.zeros(len(batch.items), np.int64)
        np.maximum.at(newest, batch.item, batch.anchor)
        fresh = own[rows[own] == 0]
        rows[own] = ids.admit([batch.items[i] for i in own.tolist()], newest[own], seen[own])
        self.state.grow()
        self._describe([batch.items[i] for i in fresh.tolist()], rows[fresh])
        return rows

    def _excluded(
        self,
        batch: Batch,
        users: Ints,
        items: Ints,
        history: Ints,
    ) -> Excluded:
        """What each row's user had interacted with before its anchor, but its own item."""
        owner, item, time = self.state.seen.of(users)
        earlier = time < batch.anchor[owner]
        row = np.concatenate([owner[earlier], batch.history_row])
        item = np.concatenate([item[earlier], history])
        kept = (item > 0) & (item != items[row])
        keys = np.unique((row[kept].astype(np.int64) << 32) | item[kept])
        return Excluded(keys >> 32, (keys & 0xFFFFFFFF).astype(np.int32))

    # Inputs ---------------------------------------------------------------

    def _user_inputs(self, batch: Batch, users: Ints, history: Ints) -> dict[str, NDArray[Any]]:
        n, length = len(batch), self.config.history
        end = np.searchsorted(batch.history_row, np.arange(n), side="right")
        column = length - (end[batch.history_row] - np.arange(len(history)))
        kept = column >= 0
        at = (batch.history_row[kept], column[kept])
        past, types = np.zeros((n, length), np.int32), np.zeros((n, length), np.int32)
        ages = np.zeros((n, length), np.int32)
        past[at], types[at] = history[kept], batch.history_type[kept] + 1
        ages[at] = _age_bucket(batch.history_age[kept])
        hashed = np.array([self._token(name) for name in batch.tokens], np.int32)
        context = ragged_to_padded(batch.token_row, hashed[batch.token], n, self.config.contexts)
        return {
            "rows": self._own_rows(users),
            "past": past,
            "types": types,
            "ages": ages,
            "attributes": self.attributes.of(batch.users)[batch.user],
            "context": context,
            "clock": _clock(batch.anchor, batch.since_event),
        }

    def _token(self, name: str) -> int:
        row = self._tokens.get(name)
        if row is None:
            if len(self._tokens) > 100_000:  # a cache of a pure function: no state
                self._tokens.clear()
            row = self._tokens[name] = hash_token(name, self.config.attribute_buckets)
        return row

    def _own_rows(self, users: Ints) -> Ints:
        enough = self.state.user_ids.count[users] >= self.config.user_sightings
        return np.where(enough, users, 0).astype(np.int32)

    def _profile_inputs(self, users: Ints, now: int) -> dict[str, NDArray[Any]]:
        """Inputs of the user tower from what is remembered, as of `now`."""
        profiles = self.state.profiles
        types = profiles.types[users].astype(np.int32)
        age = np.where(types > 0, now - profiles.times[users], 0)
        last = profiles.last_event[users]
        since = np.where(last < 0, np.nan, now - last)
        return {
            "rows": self._own_rows(users),
            "past": profiles.past[users],
            "types": types,
            "ages": np.where(types > 0, _age_bucket(age), 0).astype(np.int32),
            "attributes": profiles.attributes[users],
            "context": profiles.context[users],
            "clock": _clock(np.full(len(users), now), since),
        }

    def _item_inputs(self, rows: Ints, now: int) -> dict[str, NDArray[Any]]:
        words = self.state.words[rows]
        owner, column = np.nonzero(words)
        enough = self.state.item_ids.count[rows] >= self.config.item_sightings
        return {
            "rows": np.where(enough, rows, 0).astype(np.int32),
            "words": words[owner, column],
            "owner": owner.astype(np.int32),
            "features": self.state.stream.features(now, rows),
        }

    def item_vectors(self, rows: Ints, now: int) -> Floats:
        """Served vectors `[n, vector_dim]` of item rows as of `now`."""
        parts = [
            self.model.items(self._item_inputs(rows[i : i + _CHUNK], now)).numpy()
            for i in range(0, len(rows), _CHUNK)
        ]
        return np.concatenate([np.zeros((0, self.config.vector_dim), np.float32), *parts])

    def user_vectors(self, rows: Ints, now: int) -> Floats:
        """Served vectors `[n, vector_dim]` of user rows as of `now`."""
        parts = [
            self.model.users(self._profile_inputs(rows[i : i + _CHUNK], now)).numpy()
            for i in range(0, len(rows), _CHUNK)
        ]
        return np.concatenate([np.zeros((0, self.config.vector_dim), np.float32), *parts])

    # Prediction -----------------------------------------------------------

    def _evaluate(self, step: _Step, keep: bool) -> tuple[dict[str, Any], pa.RecordBatch | None]:
        top = len(step.candidates)
        vectors = self.item_vectors(np.arange(top, dtype=np.int32), step.now)
        users = self.model.users(step.inputs).numpy()
        report: dict[str, Any] = {"heads": self._evaluate_heads(step, users, vectors)}
        wanted = np.flatnonzero(step.batch.wanted)
        known = step.candidates[step.items[wanted]]
        greater = np.zeros(len(wanted), np.int64)
        ties = np.zeros(len(wanted), np.int64)
        rank = np.zeros(len(wanted), np.int64)
        lists: list[Ints] = []
        order = m.tie_order(np.arange(top), step.number)
        size = max(1, _CELLS // max(top, 1))
        for first in range(0, len(wanted), size):
            part = slice(first, first + size)
            scores = self._scores(step, users, vectors, wanted[part])
            true = step.items[wanted[part]]
            greater[part], ties[part] = m.count_above(scores, true)
            rank[part] = m.place(scores, true, order)
            if keep:
                lists.extend(m.best(row, order, K) for row in scores)
        report |= self._figures(step, wanted, known, greater, ties)
        predicted = self._predictions(step, wanted, known, rank, lists) if keep else None
        return report, predicted

    def _scores(
        self, step: _Step, users: Floats, vectors: Floats, rows: Ints
    ) -> NDArray[np.float32]:
        """Scores `[rows, top]` of candidates; -inf for all others and for the excluded."""
        scores = self.model.score(users[rows], vectors).numpy()
        scores = np.where(np.isfinite(scores), scores, -np.inf)
        scores[:, ~step.candidates] = -np.inf
        first, last = np.searchsorted(step.excluded.row, [rows[0], rows[-1] + 1])
        owner, item = step.excluded.row[first:last], step.excluded.item[first:last]
        at = np.minimum(np.searchsorted(rows, owner), len(rows) - 1)
        hit = (rows[at] == owner) & (item < len(step.candidates))
        scores[at[hit], item[hit]] = -np.inf
        return scores

    def _figures(
        self, step: _Step, wanted: Ints, known: NDArray[np.bool_], greater: Ints, ties: Ints
    ) -> dict[str, Any]:
        n, hit = len(wanted), known
        rows = wanted[hit]
        self.latest: dict[str, Any] = {
            "recall@20": np.where(hit, m.recall(greater, ties, K), 0.0),
            "ndcg@20": np.where(hit, m.ndcg(greater, ties, K), 0.0),
            "mrr@20": np.where(hit, m.reciprocal_rank(greater, ties, K), 0.0),
        }
        excluded = _rows_of(step.excluded, rows, step.candidates)
        arms = self.state.baselines.ranks(
            step.now, step.candidates, step.items[rows], step.last[rows], excluded
        )
        self.latest["arms"] = arms
        self.latest["known"] = hit
        return {
            "evaluated": n,
            "unknown": int(n - hit.sum()),
            **{
                name: float(self.latest[name].mean()) if n else None
                for name in ("recall@20", "ndcg@20", "mrr@20")
            },
            "baselines": self.state.baselines.score(arms, int(n - hit.sum())),
        }

    def _predictions(
        self,
        step: _Step,
        wanted: Ints,
        known: NDArray[np.bool_],
        rank: Ints,
        lists: list[Ints],
    ) -> pa.RecordBatch:
        batch, names = step.batch, self.state.item_ids.names
        kinds = np.array(EVENT_TYPES)[batch.strongest[wanted]]
        columns = [
            np.full(len(wanted), step.number),
            [batch.users[code] for code in batch.user[wanted].tolist()],
            [batch.items[code] for code in batch.item[wanted].tolist()],
            kinds.tolist(),
            batch.anchor[wanted],
            pa.array(rank, pa.int64(), mask=~known),
            [[names[row] for row in rows.tolist()] for rows in lists],
        ]
        arrays = [
            pa.array(values, pa.int64()).cast(field.type)
            if field.name == "anchor_time"
            else pa.array(values, field.type)
            for values, field in zip(columns, PREDICTIONS, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=PREDICTIONS)

    def _stats(self, users: Ints, items: Ints) -> Floats:
        state = self.state
        return np.concatenate(
            [state.user_stats.stats(users), state.item_stats.stats(items)], axis=1
        ).astype(np.float32)

    def _evaluate_heads(self, step: _Step, users: Floats, vectors: Floats) -> dict[str, Any]:
        rows = np.flatnonzero(step.present.any(axis=1))
        if not len(rows):
            return {}
        stats = self._stats(step.users[rows], step.items[rows])
        half = stats.shape[1] // 2
        out = score_heads(
            self.heads(), users[rows], vectors[step.items[rows]], stats[:, :half], stats[:, half:]
        ).astype(float)
        self.latest_heads = (out, step.targets[rows], step.present[rows])
        report: dict[str, Any] = {}
        for head, name in enumerate(HEADS):
            held = step.present[rows, head]
            if not held.any():
                continue
            p, y = out[held, head], step.targets[rows[held], head]
            if head < BINARY_HEADS:
                p = np.clip(p, 1e-7, 1 - 1e-7)
                loss = {"logloss": float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))}
            else:
                value = np.log1p(np.maximum(p, 0.0)) if name == "dwell" else p
                loss = {"squared_error": float(np.mean((value - y) ** 2))}
            report[name] = {"n": int(held.sum()), **loss}
        return report

    def heads(self) -> dict[str, Floats]:
        """Arrays of `heads.npz` (see `models.serving`)."""
        stats = self.state.user_stats
        return {
            **self.model.heads(),
            "scale": stats.spread().astype(np.float32),
            "shift": stats.shift().astype(np.float32),
        }

    # Training -------------------------------------------------------------

    def _train(self, step: _Step) -> dict[str, Any]:
        batch, size = step.batch, self.config.step_rows
        used = np.flatnonzero(batch.wanted | batch.disliked | step.present.any(axis=1))
        losses, skipped = [], 0
        for turn in range(self.config.passes):
            rng = np.random.Generator(
                np.random.Philox(key=[self.config.seed, step.number * 1_000 + turn])
            )
            order = used if turn == 0 else rng.permutation(used)
            for first in range(0, len(order), size):
                rows = np.sort(order[first : first + size])
                result = self.model.train(self._train_inputs(step, rows, self._draw(step, rng)))
                if bool(result["finite"]):
                    losses.append(float(result["loss"]))
                else:
                    skipped += 1
        self.state.skipped += skipped
        return {
            "loss": float(np.mean(losses)) if losses else None,
            "steps": len(losses) + skipped,
            "skipped_steps": skipped,
        }

    def _draw(self, step: _Step, rng: np.random.Generator) -> Negatives:
        column = self.config.half_lives_h.index(self.config.hot_half_life_h)
        weight = self.state.stream.counts.at(step.now, slice(len(step.candidates)))[:, column]
        return draw(weight, step.candidates, self.config.negatives, self.config.hot_share, rng)

    def _train_inputs(self, step: _Step, rows: Ints, negatives: Negatives) -> dict[str, Any]:
        """Inputs of one padded step on `rows` (ascending)."""
        size, batch = self.config.step_rows, step.batch
        first, last = (
            np.searchsorted(step.excluded.row, rows),
            np.searchsorted(step.excluded.row, rows, side="right"),
        )
        count = last - first
        pairs = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
        row = np.concatenate([np.repeat(np.arange(len(rows)), count), np.arange(len(rows))])
        item = np.concatenate([step.excluded.item[pairs], step.items[rows]])
        weight = batch.confidence[rows] ** self.config.confidence_power / self.config.overlap
        items = np.zeros(size, np.int32)
        items[: len(rows)] = step.items[rows]
        z = (step.targets[rows] - self._centre()) / self.state.user_stats.spread()
        dislike = self.config.dislike_weight / self.config.overlap
        return {
            "users": {name: _pad(value[rows], size) for name, value in step.inputs.items()},
            "items": self._item_inputs(items, step.now),
            "negatives": self._item_inputs(negatives.rows, step.now),
            "correction": negatives.correction,
            "masked": mask(negatives, row, item, size),
            "wanted": _pad((batch.wanted[rows] * weight).astype(np.float32), size),
            "disliked": _pad((batch.disliked[rows] * dislike).astype(np.float32), size),
            "stats": _pad(self._stats(step.users[rows], step.items[rows]), size),
            "targets": _pad(np.clip(z, -10.0, 10.0).astype(np.float32), size),
            "present": _pad((step.present[rows] / self.config.overlap).astype(np.float32), size),
            "base": (self.state.user_stats.shift() - self._centre()).astype(np.float32),
        }

    def _centre(self) -> NDArray[np.float64]:
        """What is taken off a target: nothing for a binary head, the mean for a value."""
        shift = self.state.user_stats.shift()
        return np.where(np.arange(len(HEADS)) < BINARY_HEADS, 0.0, shift)

    # Memory ---------------------------------------------------------------

    def _remember(self, step: _Step) -> None:
        """Everything that the next batch may know of this one."""
        state, batch = self.state, step.batch
        wanted = batch.wanted
        state.stream.update(
            step.items,
            wanted / self.config.overlap,
            batch.disliked / self.config.overlap,
            batch.anchor,
        )
        state.user_stats.update(step.users, step.targets, step.present)
        state.item_stats.update(step.items, step.targets, step.present)
        state.baselines.update(step.items[wanted], step.last[wanted], batch.anchor[wanted])
        self._count_keys(step)
        state.known[step.items[step.items > 0]] = True
        self._profile(step)
        state.now = max(state.now, int(batch.anchor.max(initial=state.now)))

    def _count_keys(self, step: _Step) -> None:
        """Popularity by attribute and context value, of wanted rows."""
        batch, state = step.batch, self.state
        codes = self.attributes.codes(batch.users)[batch.user]
        row, column = np.nonzero(codes)
        names = [self.attributes.names[code] for code in (codes[row, column] - 1).tolist()]
        names += [batch.tokens[code] for code in batch.token.tolist()]
        row = np.concatenate([row, batch.token_row])
        distinct = list(dict.fromkeys(names))
        place = {name: i for i, name in enumerate(distinct)}
        code = np.array([place[name] for name in names], np.int64)
        kept = batch.wanted[row] & (step.items[row] > 0)
        if not kept.any():
            return
        ones = np.bincount(code, minlength=len(distinct))
        times = np.full(len(distinct), step.now)
        keys = state.key_ids.admit(distinct, times, ones)[code]
        kept &= keys > 0
        state.key_counts.add(keys[kept], step.items[row[kept]], np.ones(int(kept.sum())), step.now)

    def _profile(self, step: _Step) -> None:
        """Keep each user's newest row: history, its own event, context."""
        batch, profiles = step.batch, self.state.profiles
        order = np.lexsort((np.arange(len(batch)), batch.anchor))
        newest = {int(user): row for row, user in zip(order, step.users[order], strict=True)}
        newest.pop(0, None)
        if not newest:
            return
        users = np.fromiter(newest.keys(), np.int64, len(newest))
        rows = np.fromiter(newest.values(), np.int64, len(newest))
        length = self.config.history
        past = step.inputs["past"][rows]
        types = step.inputs["types"][rows].astype(np.int8)
        times = np.full(past.shape, np.iinfo(np.int64).min)
        end = np.searchsorted(batch.history_row, rows, side="right")
        back = np.arange(-length, 0)
        held = types > 0
        at = np.where(held, end[:, None] + back[None, :], 0)
        if len(batch.history_age):
            times = np.where(held, batch.anchor[rows][:, None] - batch.history_age[at], times)
        own = batch.touched[rows]
        past[own] = np.column_stack([past[own][:, 1:], step.items[rows[own]]])
        kinds = (batch.strongest[rows[own]] + 1).astype(np.int8)
        types[own] = np.column_stack([types[own][:, 1:], kinds])
        times[own] = np.column_stack([times[own][:, 1:], batch.anchor[rows[own]]])
        profiles.past[users], profiles.types[users], profiles.times[users] = past, types, times
        profiles.context[users] = step.inputs["context"][rows]
        profiles.last_event[users] = batch.anchor[rows]
        profiles.updated_at[users] = batch.anchor[rows]

    def _expire(self) -> tuple[list[str], list[str]]:
        """Free the rows of ids that are silent for too long, or when room runs out.

        Returns:
            the users and the items that are gone.
        """
        state, day = self.state, 86_400_000
        before = state.now - self.config.expiry_days * day if self.config.expiry_days else None
        gone = []
        for ids in (state.user_ids, state.item_ids):
            pairs = ids.expire(before) if before is not None else []
            gone.append(pairs + ids.make_room())
        users, items = (np.array([row for _, row in pairs], np.int32) for pairs in gone)
        state.reset(users, items)
        for name, rows in (("user", users), ("item", items), ("history", items)):
            if len(rows):
                self.model.tables[name].reset(rows)
        return [name for name, _ in gone[0]], [name for name, _ in gone[1]]

    # Publication ----------------------------------------------------------

    def _delta(self, step: _Step, users: list[str], items: list[str]) -> pa.RecordBatch:
        state = self.state
        touched = np.unique(step.users[step.users > 0])
        fresh = np.unique(np.concatenate([step.items[step.items > 0], self._due()]))
        state.published_at[fresh] = state.now
        dim = self.config.vector_dim
        parts = [
            self._part("user", touched),
            self._part("item", fresh),
        ]
        tombs = [
            (entity, names, np.zeros((len(names), dim), np.float32), state.now)
            for entity, names in (("user", users), ("item", items))
        ]
        return embeddings(parts, tombs, step.number)

    def _part(self, entity: str, rows: NDArray[np.integer]) -> tuple[str, list[str], Floats, int]:
        ids = self.state.user_ids if entity == "user" else self.state.item_ids
        names = [ids.names[row] for row in rows.tolist()]
        rows = rows[[name is not None for name in names]].astype(np.int32)
        vectors = self.user_vectors if entity == "user" else self.item_vectors
        kept = [name for name in names if name is not None]
        return entity, kept, vectors(rows, self.state.now), self.state.now

    def _due(self) -> NDArray[np.int64]:
        """Items whose published counts have faded too far to stand beside fresh ones.

        An untouched item's counts decay; it is published anew when the time since that
        was last done reaches half the time since its last event. So an item costs a
        few rows after each event, whatever the number of micro-batches.
        """
        state, hour = self.state, 3_600_000
        quiet = state.now - state.stream.last
        known = state.known & (state.stream.last > np.iinfo(np.int64).min)
        longest = 4 * self.config.half_lives_h[-1] * hour
        wait = np.maximum(quiet // 2, int(self.config.half_lives_h[0] * hour / 2))
        due = np.flatnonzero(known & (quiet < longest) & (state.now - state.published_at >= wait))
        if len(due) > self.config.delta_limit:
            oldest = np.lexsort((due, state.published_at[due]))[: self.config.delta_limit]
            due = due[oldest]
        return due

    def snapshot(self, version: int) -> pa.Table:
        """`EMBEDDINGS` of all known users and items as of the newest event."""
        users = self.state.user_ids.used()
        items = np.flatnonzero(self.state.known)
        rows = embeddings([self._part("user", users), self._part("item", items)], [], version)
        return pa.Table.from_batches([rows])

    def serving(self, folder: Path) -> None:
        """What a query needs beside the vectors; the format is in `models.serving`."""
        write_serving(folder, self)

    # Checkpoints ----------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write everything that `restore` needs into `folder` (made if missing)."""
        folder.mkdir(parents=True, exist_ok=True)
        self.state.save(folder)
        weights = {name: value.numpy() for name, value in self.model.state().items()}
        np.savez(folder / "weights.npz", allow_pickle=False, **weights)
        (folder / "trainer.json").write_text(json.dumps({"format": 1, "number": self.number}))

    @classmethod
    def restore(
        cls,
        folder: Path,
        config: ModelConfig,
        items: pa.Table | None,
        users: pa.Table | None,
    ) -> "Trainer":
        """The trainer that `save` wrote, to the byte.

        Raises:
            StoreError: the folder holds no checkpoint, a damaged one, or one of another shape.
        """
        made = cls(config, items, users)
        try:
            about = json.loads((folder / "trainer.json").read_text())
            if about.get("format") != 1:
                raise ValueError(f"its format is {about.get('format')!r}, this version reads 1")
            made.state.restore(folder)
            with np.load(folder / "weights.npz", allow_pickle=False) as stored:
                made.model.load({name: stored[name] for name in stored.files})
        except (OSError, ValueError, KeyError, pa.ArrowException) as error:
            raise StoreError(
                f"checkpoint {folder} cannot be restored: {error}; "
                f"use the job file it was made with, or an older checkpoint"
            ) from error
        made.number = int(about["number"])
        return made


def _last_item(batch: Batch, history: Ints) -> Ints:
    """Item row of each row's newest past event that was no dislike, `[n]`; 0: none."""
    out = np.zeros(len(batch), np.int32)
    kept = batch.history_type != _DISLIKE
    out[batch.history_row[kept]] = history[kept]  # oldest first: the newest is written last
    return out


def _age_bucket(age_ms: NDArray[np.integer]) -> Ints:
    """Octave of seconds, from 1."""
    seconds = np.maximum(age_ms, 0) / 1_000.0
    return np.minimum(1 + np.log2(1.0 + seconds), AGE_BUCKETS - 1).astype(np.int32)


def _clock(anchor: NDArray[np.integer], since_ms: NDArray[np.float64]) -> Floats:
    """The moment, `[n, 3]`: the hour of the (UTC) day on a circle, time since the last event."""
    turn = 2 * np.pi * (anchor % 86_400_000) / 86_400_000
    since = np.log1p(np.maximum(since_ms, 0.0) / 3_600_000.0) / 4.0
    return np.column_stack([np.sin(turn), np.cos(turn), np.nan_to_num(since, nan=3.0)]).astype(
        np.float32
    )


def _pad(values: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out


def _rows_of(excluded: Excluded, rows: Ints, candidates: NDArray[np.bool_]) -> Excluded:
    """The pairs of some rows, renumbered to their places, candidates only."""
    if not len(rows):
        return Excluded(excluded.row[:0], excluded.item[:0])
    at = np.minimum(np.searchsorted(rows, excluded.row), len(rows) - 1)
    known = np.minimum(excluded.item, len(candidates) - 1)
    kept = (rows[at] == excluded.row) & (excluded.item < len(candidates)) & candidates[known]
    return Excluded(at[kept], excluded.item[kept])
