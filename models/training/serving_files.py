"""What a query needs beside the vectors: written with numpy and Arrow only.

Format 1 of a *serving folder* (`Trainer.serving(folder, version)`); reading it takes
numpy and pyarrow, never TensorFlow. D = `vector_dim`, S = number of stats.

``serving.json``
    ::

        {"format": 1, "version": 42, "dim": 32, "vector_dim": 42,
         "stream_features": ["log_count_0.25h", …],    # names of F, in order
         "heads": ["click", "like", "purchase", "dwell", "rating"],
         "examples": [41687, 36210, 0, 41687, 0],      # that each head has learned from
         "stats": ["click", "like", …, "n_click", …],  # columns of `stats` below
         "max_event_time": 1650523800000,              # epoch ms, UTC; null before any
         "popularity_half_life_h": 3.0,
         "user_default": [S numbers], "item_default": [S numbers]}

``items.parquet``, one row per known item, in ascending order of slot
    item_id string · popularity float32 (decayed count, see above) ·
    stats fixed_size_list<float32, S>

``users.parquet``, one row per known user
    user_id string · seen list<int32> (row numbers of items.parquet: what the
    user interacted with, oldest first) ·
    recent_items list<int32> (row numbers, oldest first; -1: no longer known) ·
    recent_types list<string> · recent_times list<int64> (epoch ms) ·
    stats fixed_size_list<float32, S>

``popularity.parquet``, for users without a vector; best first in each row
    key string: "" for all feedback, "user:country=de" for an attribute,
    "context:device=phone" for a context entry, "platform:web" ·
    weight float32 (decayed count behind the row) ·
    items list<int32> (at most 200 row numbers of items.parquet) ·
    scores list<float32> (decayed counts).
    Only keys with weight ≥ 5, the 2,000 heaviest.

``heads.npz``, float32, the forward pass below
    w1 [3·D + 2·S, H], b1 [H], w2 [H, 5], b2 [5], skip [2·S, 5],
    scale [5], shift [5]

The forward pass, for `[n, D]` vectors of users `u` and of items `v` and their
stats `su`, `sv` `[n, S]` (the defaults for who is not in the files)::

    x = concat([u, v, u * v, su, sv], axis=1)
    out = relu(x @ w1 + b1) @ w2 + b2 + concat([su, sv], axis=1) @ skip
    out = out * scale + shift
    click, like, purchase = sigmoid(out[:, :3])     # probabilities
    dwell_s = expm1(out[:, 3])                      # expected dwell in seconds
    rating = out[:, 4]                              # in the log's own units

`models.network.numpy_heads.score_heads` is that pass; the score of an item for a user is the inner
product `u @ v`, comparable within one user only.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.config import ModelConfig
from models.memory.state import State
from models.row_arrays import NEVER
from models.schema import EVENT_TYPES, HEADS

__all__ = ["write_serving"]

KEYS, KEY_ITEMS, KEY_WEIGHT = 2_000, 200, 5.0
"""Attribute and context values listed at most, items of each, and what a value must weigh."""


def write_serving(
    folder: Path,
    config: ModelConfig,
    state: State,
    heads: dict[str, NDArray[np.float32]],
    version: int,
) -> None:
    """Write the serving folder of a version (see the module).

    Args:
        folder: made if need be.
        config: the model's.
        state: what is remembered as of the version.
        heads: arrays of ``heads.npz``, by name.
        version: its number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    best = state.baselines.best_half_life()
    rows = state.items.known_rows()
    place = np.full(len(state.items.known), -1, np.int32)
    place[rows] = np.arange(len(rows))
    counts = state.baselines.counts.at(state.now)[:, best]
    pq.write_table(_items(state, rows, counts), folder / "items.parquet")
    pq.write_table(_users(state, place), folder / "users.parquet")
    pq.write_table(_popularity(state, rows, place, counts), folder / "popularity.parquet")
    np.savez(folder / "heads.npz", allow_pickle=False, **heads)
    none = np.zeros(1, np.int64)
    half_life = state.baselines.half_lives_h[best]
    about = {
        "format": 1,
        "version": version,
        "dim": config.dim,
        "vector_dim": config.vector_dim,
        "stream_features": list(config.stream_features),
        "heads": list(HEADS),
        "examples": np.rint(state.user_stats.total[0]).astype(int).tolist(),
        "stats": [*HEADS, *(f"n_{name}" for name in HEADS)],
        "max_event_time": state.now if state.now > NEVER else None,
        "popularity_half_life_h": None if np.isinf(half_life) else float(half_life),
        "user_default": state.user_stats.stats(none)[0].tolist(),
        "item_default": state.item_head_stats(none)[0].tolist(),
    }
    (folder / "serving.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def _stats_column(stats: NDArray[np.float64]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(stats, np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(flat, stats.shape[1])


def _items(state: State, rows: NDArray[np.int32], counts: NDArray[np.float64]) -> pa.Table:
    names = state.item_ids.names
    return pa.table(
        {
            "item_id": pa.array([names[row] for row in rows.tolist()], pa.string()),
            "popularity": pa.array(counts[rows].astype(np.float32)),
            "stats": _stats_column(state.item_head_stats(rows)),
        }
    )


def _lists(values: NDArray[Any], sizes: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values, kind))


def _users(state: State, place: NDArray[np.int32]) -> pa.Table:
    rows = state.user_ids.used()
    owner, item, time = state.seen.of(rows)
    held = place[item] >= 0
    owner, item, time = owner[held], item[held], time[held]
    order = np.lexsort((item, time, owner))
    profiles = state.profiles
    kinds = profiles.types[rows]
    past = kinds > 0
    sizes = past.sum(axis=1)
    known = np.where(profiles.past[rows] > 0, place[profiles.past[rows]], -1)
    return pa.table(
        {
            "user_id": pa.array([state.user_ids.names[row] for row in rows.tolist()], pa.string()),
            "seen": _lists(place[item[order]], np.bincount(owner, minlength=len(rows)), pa.int32()),
            "recent_items": _lists(known[past], sizes, pa.int32()),
            "recent_types": _lists(
                np.array(EVENT_TYPES, object)[kinds[past] - 1], sizes, pa.string()
            ),
            "recent_times": _lists(profiles.times[rows][past], sizes, pa.int64()),
            "stats": _stats_column(state.user_stats.stats(rows)),
        }
    )


def _popularity(
    state: State,
    rows: NDArray[np.int32],
    place: NDArray[np.int32],
    counts: NDArray[np.float64],
) -> pa.Table:
    """Best first; ties to the lower row, so that a file is a function of the counts."""
    listed = [_ranked("", rows, counts[rows], place)]
    scale = state.key_counts.scale(state.now)
    for key in state.key_ids.used().tolist():
        items, weight = state.key_counts.of(key)
        listed.append(_ranked(str(state.key_ids.names[key]), items, weight * scale, place))
    heavy = [entry for entry in listed[1:] if entry["weight"] >= KEY_WEIGHT]
    heavy.sort(key=lambda entry: (-entry["weight"], entry["key"]))
    schema = pa.schema(
        [
            ("key", pa.string()),
            ("weight", pa.float32()),
            ("items", pa.list_(pa.int32())),
            ("scores", pa.list_(pa.float32())),
        ]
    )
    return pa.Table.from_pylist([listed[0], *heavy[:KEYS]], schema=schema)


def _ranked(
    key: str, items: NDArray[Any], weight: NDArray[np.float64], place: NDArray[np.int32]
) -> dict[str, Any]:
    held = (place[items] >= 0) & (weight > 1e-6)
    items, weight = items[held], weight[held]
    best = np.lexsort((items, -weight))[:KEY_ITEMS]
    return {
        "key": key,
        "weight": float(weight.sum()),
        "items": place[items[best]].tolist(),
        "scores": weight[best].tolist(),
    }
