"""A model small enough for a test of the trainer, a script of feedback, and its catalogues."""

import numpy as np
import pyarrow as pa
from feedback import event

from models.config import ModelConfig
from models.schema import ITEMS, USERS

SMALL = ModelConfig(
    dim=8,
    history=4,
    step_rows=8,
    negatives=32,
    attributes=4,
    contexts=2,
    text_buckets=64,
    attribute_buckets=64,
    text_tokens=4,
)


def script(n: int = 240, users: int = 9, items: int = 14, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    kinds = ["like", "view", "impression", "dislike", "purchase", "rating", "click"]
    return [
        event(
            i,
            f"u{rng.integers(users)}",
            f"i{rng.integers(items)}",
            20.0 * i + float(rng.integers(0, 15)),
            str(rng.choice(kinds)),
            value=float(rng.integers(1, 6)),
            platform="web" if i % 3 else None,
            context=[("hour", str(i % 5))] if i % 2 else None,
        )
        for i in range(n)
    ]


def items_table() -> pa.Table:
    listed = [
        {"item_id": f"i{k}", "title": f"The title {k}", "categories": ["a" if k % 2 else "b"]}
        for k in range(20)
    ]
    return pa.Table.from_pylist(listed, ITEMS)


def users_table() -> pa.Table:
    listed = [{"user_id": f"u{k}", "attributes": [("country", "de")]} for k in range(5)]
    return pa.Table.from_pylist(listed, USERS)


def ids(delta, entity: str) -> list[str]:
    return [row["id"] for row in delta.to_pylist() if row["entity"] == entity]
