"""The ranking heads' forward pass in numpy: what serving and prediction share.

The arrays and the formula are described in `models.training.serving_files`.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["load_heads", "score_heads"]


def load_heads(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Arrays of ``heads.npz`` by name (see `models.training.serving_files`)."""
    with np.load(folder / "heads.npz", allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def score_heads(
    heads: dict[str, NDArray[np.float32]],
    u: NDArray[np.float32],
    v: NDArray[np.float32],
    user_stats: NDArray[np.float32],
    item_stats: NDArray[np.float32],
) -> NDArray[np.float32]:
    """`[n, 5]` float32: probabilities, dwell in seconds, rating.

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
