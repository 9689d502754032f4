"""A small log by a seeded script, its catalogue, and a model small enough for it."""

import numpy as np
import pyarrow as pa
import small_trainer
from feedback import event

from models.schema import ITEMS

SMALL = small_trainer.SMALL.model_copy(
    update={
        "wide_rows": 0,
        "baseline_half_lives_h": (1.0, 24.0),
        "baseline_smoothing": (5.0,),
    }
)


def script(n: int = 400) -> list[dict]:
    rng = np.random.default_rng(3)
    kinds = ["like", "view", "dislike", "purchase", "rating", "click"]
    return [
        event(
            i,
            f"u{rng.integers(12)}",
            f"i{min(rng.integers(60), rng.integers(60))}",
            40.0 * i + float(rng.integers(0, 30)),
            str(rng.choice(kinds)),
            value=float(rng.integers(1, 6)),
        )
        for i in range(n)
    ]


def items() -> pa.Table:
    listed = [{"item_id": f"i{k}", "categories": ["a" if k % 2 else "b"]} for k in range(40)]
    return pa.Table.from_pylist(listed, ITEMS)
