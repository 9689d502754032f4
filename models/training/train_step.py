"""Train on a micro-batch: padded steps, negatives drawn for each."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.feature_batch import Batch
from models.memory.state import State
from models.network.recommender import Recommender
from models.schema import BINARY_HEADS, HEADS
from models.sparse_rows import distinct
from models.training.negative_sampling import Negatives, draw_negatives, excluded_mask, hottest
from models.training.prepare_batch import Prepared, item_inputs
from models.training.prequential import head_stats

__all__ = ["train_on"]

Ints = NDArray[np.integer]


def train_on(
    config: ModelConfig, model: Recommender, state: State, step: Prepared
) -> tuple[dict[str, Any], Ints]:
    """Go through the rows once (or `passes` times), in the batch's order.

    Returns:
        loss (mean of the steps that took effect; None without any), steps,
        skipped_steps; and the item rows whose vectors moved, ascending.
    """
    weights = _weights(config, step.batch)
    used = np.flatnonzero(weights.any(axis=1) | step.present.any(axis=1))
    losses, skipped, moved = [], 0, [step.items]
    hot, known = _popular_rows(config, state, step), state.items.known_rows()
    for turn in range(config.passes):
        key = [config.seed, step.number * 1_000 + turn]
        rng = np.random.Generator(np.random.Philox(key=key))
        order = used if turn == 0 else rng.permutation(used)
        for first, size in _spans(len(order), config):
            rows = np.sort(order[first : first + size])
            negatives = draw_negatives(hot, known, config.negatives, rng)
            loss, finite = model.train(_inputs(config, state, step, rows, weights, negatives, size))
            moved.append(negatives.rows)
            losses.extend([loss] if finite else [])
            skipped += not finite
    state.skipped += skipped
    report = {
        "loss": float(np.mean(losses)) if losses else None,
        "steps": len(losses) + skipped,
        "skipped_steps": skipped,
    }
    rows = distinct(np.concatenate(moved))
    return report, rows[rows > 0]


def _spans(rows: int, config: ModelConfig) -> list[tuple[int, int]]:
    """Start and padded size of each step: wide ones while they are at least half full.

    A wide step costs little more than an ordinary one: most of either is its negatives.
    """
    size = config.wide_rows
    wide = (rows + size // 2) // size if size else 0
    rest = range(wide * size, rows, config.step_rows)
    return [(i * size, size) for i in range(wide)] + [(first, config.step_rows) for first in rest]


def _popular_rows(config: ModelConfig, state: State, step: Prepared) -> Ints:
    """Item rows that every step of the micro-batch has among its negatives."""
    column = config.half_lives_h.index(config.hot_half_life_h)
    pool = state.top_counts.rows()
    pool = pool[state.items.known[pool]]
    weight = state.stream.counts.at(step.now, pool)[:, column]
    return hottest(pool, weight, int(config.negatives * config.hot_share))


def _inputs(
    config: ModelConfig,
    state: State,
    step: Prepared,
    rows: Ints,
    weights: NDArray[np.float64],
    negatives: Negatives,
    size: int,
) -> dict[str, Any]:
    """Inputs of one step on `rows` (ascending), padded to `size`."""
    own = _pad(step.items[rows].astype(np.int32), size)
    items = np.concatenate([own, negatives.rows])
    described = item_inputs(state, config, items)
    row, item = _excluded(step, rows)
    centre = np.where(np.arange(len(HEADS)) < BINARY_HEADS, 0.0, state.user_stats.shift())
    targets = (step.targets[rows] - centre) / state.user_stats.spread()
    # A row whose id found no room has nothing to learn from.
    held = step.items[rows] > 0
    present = step.present[rows] & held[:, None]
    return {
        "users": {name: _pad(value[rows], size) for name, value in step.inputs.items()},
        "items": described | {"likeness": state.fixed(items)},
        "contents": state.contents(),
        "features": state.stream.features(step.now, items),
        "correction": negatives.correction,
        "masked": excluded_mask(negatives, row, item, size),
        "weights": _pad((weights[rows] * held[:, None]).astype(np.float32), size),
        "stats": _pad(head_stats(state, step.users[rows], step.items[rows]), size),
        "targets": _pad(np.clip(targets, -10.0, 10.0).astype(np.float32), size),
        "present": _pad((present / config.overlap).astype(np.float32), size),
        "base": (state.user_stats.shift() - centre).astype(np.float32),
    }


def _weights(config: ModelConfig, batch: Batch) -> NDArray[np.float64]:
    """`[n, 2]`: what each row weighs as a positive, and as a negative."""
    skipped = (
        batch.skipped(config.brief_dwell_s) if config.skip_weight else np.zeros(len(batch), bool)
    )
    wanted = batch.wanted & ~skipped
    weight = np.where(wanted, batch.confidence**config.confidence_power, 0.0)
    against = np.where(batch.disliked, config.dislike_weight, config.skip_weight * skipped)
    return np.column_stack([weight, against]) / config.overlap


def _excluded(step: Prepared, rows: Ints) -> tuple[Ints, Ints]:
    """Pairs (place in `rows`, item row) that are no negatives: had before, or the row's own."""
    pairs = step.excluded
    first = np.searchsorted(pairs.row, rows)
    count = np.searchsorted(pairs.row, rows, side="right") - first
    at = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    places = np.arange(len(rows))
    row = np.concatenate([np.repeat(places, count), places])
    return row, np.concatenate([pairs.item[at], step.items[rows]])


def _pad(values: NDArray[Any], size: int) -> NDArray[Any]:
    out = np.zeros((size, *values.shape[1:]), values.dtype)
    out[: len(values)] = values
    return out
