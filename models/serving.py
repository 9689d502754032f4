"""What a query needs beside the vectors: written with numpy and Arrow only.

Format 1 of a *serving folder* (`Trainer.serving(folder)`); reading it takes
numpy and pyarrow, never TensorFlow. D = `vector_dim`, S = number of stats.

``serving.json``
    ::

        {"format": 1, "version": 42, "dim": 32, "vector_dim": 42,
         "stream_features": ["log_count_0.25h", …],    # names of F, in order
         "heads": ["click", "like", "purchase", "dwell", "rating"],
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

`score_heads` below is that pass; the score of an item for a user is the inner
product `u @ v`, comparable within one user only.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.trainer import Trainer

__all__ = ["BINARY_HEADS", "HEADS", "load_heads", "score_heads", "write_serving"]

HEADS = ("click", "like", "purchase", "dwell", "rating")
"""The ranking heads, in the order of their columns."""

BINARY_HEADS = 3
"""The first of them are probabilities, the rest values."""


def load_heads(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of ``heads.npz`` by name (see the module)."""
    with np.load(folder / "heads.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def score_heads(
    heads: dict[str, NDArray[np.float32]],
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    user_stats: NDArray[np.float32],
    item_stats: NDArray[np.float32],
) -> NDArray[np.float32]:
    """`[n, 5]` float32: probabilities, dwell in seconds, rating (see the module).

    Args:
        heads: what `load_heads` returned.
        u: `[n, D]` vectors of users; `v`: `[n, D]` of items.
        v: see `u`.
        user_stats: `[n, S]`; `item_stats`: `[n, S]`.
        item_stats: see `user_stats`.
    """
    stats = np.concatenate([user_stats, item_stats], axis=1)
    x = np.concatenate([u, v, u * v, stats], axis=1)
    hidden = np.maximum(x @ heads["w1"] + heads["b1"], 0.0)
    out = hidden @ heads["w2"] + heads["b2"] + stats @ heads["skip"]
    out = out * heads["scale"] + heads["shift"]
    out[:, :3] = 1.0 / (1.0 + np.exp(-np.clip(out[:, :3], -30.0, 30.0)))
    out[:, 3] = np.expm1(np.clip(out[:, 3], 0.0, 12.0))
    return np.asarray(out, np.float32)


def write_serving(folder: Path, trainer: "Trainer") -> None:
    """Write `trainer`'s serving folder (see the module)."""
    raise NotImplementedError
