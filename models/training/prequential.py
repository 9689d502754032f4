"""Predict a micro-batch with the model and the baselines that have not seen it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models import ranking_metrics
from models.memory.online_baselines import Arms, Excluded
from models.memory.state import State
from models.network.numpy_heads import score_heads
from models.schema import BINARY_HEADS, EVENT_TYPES, HEADS, PREDICTIONS
from models.training.prepare_batch import Prepared

__all__ = [
    "Evaluation",
    "K",
    "Scorer",
    "evaluate",
    "head_stats",
    "predictions",
    "prequential_metrics",
]

K = 20
"""Every ranking figure is at 20."""

_CELLS = 4_000_000  # scores held at once: 16 MB
Ints = NDArray[np.integer]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Evaluation:
    """How a micro-batch was predicted, row by row.

    Attributes:
        rows: `[p]` which rows were predicted (`Batch.wanted`).
        known: `[p]` whether their item was a candidate.
        greater: `[p]` candidates above it; `ties`: beside it; `place`: its place from 1.
        tuned: `[t]` places, among the rows with a known item, of those that tell the arms apart.
        arms: the baselines' ranks of these.
        top: for each row the best item rows, as many as were asked for.
        heads: what the heads predicted for `head_rows`, `[h, heads]`.
    """

    rows: Ints
    known: NDArray[np.bool_]
    greater: Ints
    ties: Ints
    place: Ints
    tuned: Ints
    arms: Arms
    top: list[Ints]
    heads: NDArray[np.float64]
    head_rows: Ints

    def figures(self) -> dict[str, NDArray[np.float64]]:
        """Recall, NDCG and reciprocal rank at 20, `[p]` each; 0 where the item was unknown."""
        return {
            name: np.where(self.known, measure(self.greater, self.ties, K), 0.0)
            for name, measure in (
                ("recall@20", ranking_metrics.recall),
                ("ndcg@20", ranking_metrics.ndcg),
                ("mrr@20", ranking_metrics.reciprocal_rank),
            )
        }


@dataclass(frozen=True)
class Scorer:
    """Vectors of a micro-batch's rows and of all items, and the heads' weights."""

    users: Floats  # [n, vector_dim]
    items: Floats  # [item rows, vector_dim]
    heads: dict[str, Floats]
    score: Callable[[Floats], Floats]  # users -> [users, items], -inf where not finite


def evaluate(
    state: State, step: Prepared, scorer: Scorer, *, keep_top: int, tune: int
) -> Evaluation:
    """Rank every row's own item among all candidates that its user has not had.

    Args:
        state: as of the batch before.
        step: the micro-batch.
        scorer: of the model as it is.
        keep_top: how many of the best items to keep for each row; 0 = none.
        tune: the baselines' arms are told apart on at most so many rows.
    """
    rows = np.flatnonzero(step.batch.wanted)
    known = step.candidates[step.items[rows]]
    greater, ties, place = (np.zeros(len(rows), np.int64) for _ in range(3))
    order = ranking_metrics.tie_order(np.arange(len(step.candidates)), step.number)
    top: list[Ints] = []
    size = max(1, _CELLS // max(len(order), 1))
    for first in range(0, len(rows), size):
        part = slice(first, first + size)
        scores = _scores(step, scorer, rows[part])
        true = step.items[rows[part]]
        greater[part], ties[part] = ranking_metrics.count_above(scores, true)
        place[part] = greater[part] + 1
        level = np.flatnonzero(ties[part] > 0)
        place[part][level] = ranking_metrics.rank_of_true(scores[level], true[level], order)
        if keep_top:
            top.extend(ranking_metrics.top_columns(row, order, keep_top) for row in scores)
    held = rows[known]
    tuned = _drawn(len(held), tune, step.number)
    arms = _arms(state, step, held[tuned])
    head_rows = np.flatnonzero(step.present.any(axis=1))
    heads = _head_scores(state, step, scorer, head_rows)
    return Evaluation(rows, known, greater, ties, place, tuned, arms, top, heads, head_rows)


def _drawn(count: int, limit: int, number: int) -> Ints:
    """At most `limit` of `count` places, ascending: the same ones for a batch whenever asked."""
    order = ranking_metrics.tie_order(np.arange(count), number)
    return np.sort(np.argsort(order, kind="stable")[:limit])


def _arms(state: State, step: Prepared, rows: Ints, arms: Sequence[int] | None = None) -> Arms:
    return state.baselines.ranks(
        step.now,
        step.candidates,
        step.items[rows],
        step.last[rows],
        _renumbered(step, rows),
        arms,
    )


def _scores(step: Prepared, scorer: Scorer, rows: Ints) -> Floats:
    """Scores `[rows, item rows]`; -inf for what is no candidate or was had already."""
    scores: Floats = scorer.score(scorer.users[rows])
    scores[:, np.flatnonzero(~step.candidates)] = -np.inf
    excluded = _renumbered(step, rows)
    scores[excluded.row, excluded.item] = -np.inf
    return scores


def _renumbered(step: Prepared, rows: Ints) -> Excluded:
    """The excluded candidates of some rows (ascending), by their place among them."""
    pairs, candidates = step.excluded, step.candidates
    if not len(rows):
        return Excluded(pairs.row[:0], pairs.item[:0])
    at = np.minimum(np.searchsorted(rows, pairs.row), len(rows) - 1)
    kept = (rows[at] == pairs.row) & candidates[pairs.item]
    return Excluded(at[kept], pairs.item[kept])


def head_stats(state: State, users: Ints, items: Ints) -> Floats:
    """Running statistics `[n, 2·S]` of users, then of items, that the heads read."""
    both = [state.user_stats.stats(users), state.item_head_stats(items)]
    return np.concatenate(both, axis=1).astype(np.float32)


def _head_scores(state: State, step: Prepared, scorer: Scorer, rows: Ints) -> NDArray[np.float64]:
    stats = head_stats(state, step.users[rows], step.items[rows])
    half = stats.shape[1] // 2
    vectors = scorer.items[step.items[rows]]
    out = score_heads(scorer.heads, scorer.users[rows], vectors, stats[:, :half], stats[:, half:])
    return out.astype(float)


def prequential_metrics(state: State, step: Prepared, evaluation: Evaluation) -> dict[str, Any]:
    """JSON-able figures of a micro-batch; counts it into the baselines' totals.

    To rank every row by every arm would cost more than to train on it: the arms are told
    apart by a sample, and those that lead are then ranked on all rows.
    """
    n, baselines, held = len(evaluation.rows), state.baselines, evaluation.rows[evaluation.known]
    unknown = n - len(held)
    figures = evaluation.figures()
    baselines.count(evaluation.arms)
    leading = baselines.leading()
    best = list(leading.values())
    every = len(evaluation.tuned) == len(held)
    ranks = evaluation.arms.of(best) if every else _arms(state, step, held, best)
    return {
        "evaluated": n,
        "unknown": unknown,
        **{name: float(values.mean()) if n else None for name, values in figures.items()},
        "baselines": baselines.figures(leading, ranks, unknown),
        "heads": _head_report(step, evaluation),
    }


def _head_report(step: Prepared, evaluation: Evaluation) -> dict[str, Any]:
    out: dict[str, Any] = {}
    rows = evaluation.head_rows
    for head, name in enumerate(HEADS):
        held = step.present[rows, head]
        if not held.any():
            continue
        p, y = evaluation.heads[held, head], step.targets[rows[held], head]
        if head < BINARY_HEADS:
            p = np.clip(p, 1e-7, 1 - 1e-7)
            loss = {"logloss": float(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))}
        else:
            value = np.log1p(np.maximum(p, 0.0)) if name == "dwell" else p
            loss = {"squared_error": float(np.mean((value - y) ** 2))}
        out[name] = {"n": int(held.sum()), **loss}
    return out


def predictions(state: State, step: Prepared, evaluation: Evaluation) -> pa.RecordBatch:
    """`PREDICTIONS` rows, in the order of the micro-batch."""
    batch, names, rows = step.batch, state.item_ids.names, evaluation.rows
    time = PREDICTIONS.field("anchor_time").type
    columns = [
        pa.array(np.full(len(rows), step.number), pa.int64()),
        pa.array([batch.users[code] for code in batch.user[rows].tolist()], pa.string()),
        pa.array([batch.items[code] for code in batch.item[rows].tolist()], pa.string()),
        pa.array([EVENT_TYPES[code] for code in batch.strongest[rows].tolist()], pa.string()),
        pa.array(batch.anchor[rows], pa.int64()).cast(time),
        pa.array(evaluation.place, pa.int64(), mask=~evaluation.known),
        pa.array(
            [[names[row] for row in best[:K].tolist()] for best in evaluation.top],
            PREDICTIONS.field("top20").type,
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PREDICTIONS)
