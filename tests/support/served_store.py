"""A tiny served store, written by hand, so that answers can be derived.

Vectors have a dim of 2, no bias and one stream feature: [v₀, v₁, b, F] of an
item and [u₀, u₁, 1, w] of a user, so that scores can be added up in the head.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models.schema import EMBEDDINGS, ITEMS, USERS
from models.store.embeddings import write_embeddings
from models.store.manifest import Manifest, Verdict
from models.store.store import Store

NOON = datetime(2025, 1, 6, 12, tzinfo=UTC)
ITEM_VECTORS = {
    "a": [1, 0, 0, 0],
    "b": [0, 1, 0, 0],
    "c": [2, 0, 0, 0],
    "d": [0, 0, 0.5, 0],
    "future": [9, 9, 9, 9],  # published after the version's newest event
    "new": [0.9, 0.1, 0, 0],  # has a vector from a delta, is not in the serving folder yet
    "gone": [9, 9, 9, 9],  # deleted by a delta
}
USER_VECTORS = {"ann": [1, 0.1, 1, 0], "bob": [0, 1, 1, 0]}
SERVING_ITEMS = ["a", "b", "c", "d", "future", "gone"]
POPULARITY = [4.0, 3.0, 2.0, 1.0, 90.0, 90.0]


def heads(click_weight: float = 0.0) -> dict[str, np.ndarray]:
    """Heads that say 0 for everything, but click by the item's stat."""
    d, s, h = 4, 1, 3
    zero = {
        "w1": np.zeros((3 * d + 2 * s, h)),
        "b1": np.zeros(h),
        "w2": np.zeros((h, 5)),
        "b2": np.zeros(5),
        "skip": np.zeros((2 * s, 5)),
        "scale": np.ones(5),
        "shift": np.array([-30.0, -30, -30, 0, 3]),
    }
    zero["skip"][1, 0] = click_weight
    return {name: array.astype(np.float32) for name, array in zero.items()}


def embeddings(vectors: dict[str, list[float]], entity: str, *, deleted: bool = False) -> pa.Table:
    n = len(vectors)
    flat = pa.array(np.array(list(vectors.values()), np.float32).reshape(-1))
    columns = [
        pa.array([entity] * n),
        pa.array(list(vectors)),
        pa.FixedSizeListArray.from_arrays(flat, 4).cast(pa.list_(pa.float32())),
        pa.array([1] * n, pa.int64()),
        pa.array([NOON] * n, EMBEDDINGS.field("updated_at").type),
        pa.array([deleted] * n),
    ]
    return pa.Table.from_arrays(columns, schema=EMBEDDINGS)


def served_manifest(version: int, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "version": version,
        "parent": version - 1 or None,
        "batch_sha256": "0" * 64,
        "rows": 10 * version,
        "windows": 1,
        "first_window_start": NOON - timedelta(minutes=1),
        "newest_event_time": NOON,
        "watermark": NOON + timedelta(minutes=1),
        "metrics": {
            "evaluated": 8,
            "loss": 1.5,
            "recall@20": 0.5,
            "ndcg@20": 0.25,
            "baselines": {
                "popularity": {"recall@20": 0.375, "ndcg@20": 0.125, "half_life_h": 3.0},
                "transitions": {"recall@20": None, "ndcg@20": 0.2, "m": 50.0},
            },
        },
        "gate": Verdict(served=True),
        "digest": "ab" * 32,
        "snapshot": 1,
        "checkpoint": False,
        "created_at": NOON,
        "published_at": NOON + timedelta(minutes=2),
        "seconds": 1.0,
    }
    return Manifest(**{**fields, **changes})


def write_serving(
    folder: Path, click_weight: float, examples: Sequence[int] = (1, 1, 1, 1, 1)
) -> None:
    items, stats = len(SERVING_ITEMS), [[x] for x in (0.0, 0, 1, 0, 0, 0)]
    meta = {
        "format": 1,
        "version": 1,
        "dim": 2,
        "vector_dim": 4,
        "examples": examples,
        "stats": ["n_click"],
        "user_default": [0.0],
        "item_default": [0.0],
    }
    (folder / "serving.json").write_text(json.dumps(meta))
    np.savez(folder / "heads.npz", **heads(click_weight))
    fixed = pa.list_(pa.float32(), 1)
    pq.write_table(
        pa.table(
            {
                "item_id": SERVING_ITEMS,
                "popularity": pa.array(POPULARITY[:items], pa.float32()),
                "stats": pa.array(stats, fixed),
            }
        ),
        folder / "items.parquet",
    )
    ms = int(NOON.timestamp() * 1000)
    ints = pa.list_(pa.int32())
    users = {
        "user_id": ["ann", "old"],
        "seen": pa.array([[2, 1], [0]], ints),
        "recent_items": pa.array([[2, -1, 1], [0]], ints),
        "recent_types": [["click", "view", "dislike"], ["view"]],
        "recent_times": pa.array([[ms - 3000, ms - 2000, ms - 1000], [ms]], pa.list_(pa.int64())),
        "stats": pa.array([[0.0], [0.0]], fixed),
    }
    pq.write_table(pa.table(users), folder / "users.parquet")
    popularity = {
        "key": ["", "user:country=de", "context:device=phone"],
        "weight": pa.array([10.0, 50.0, 50.0], pa.float32()),
        "items": pa.array([[0, 1, 2, 3], [3], [1]], ints),
        "scores": pa.array([[4, 3, 2, 1], [50.0], [50.0]], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(popularity), folder / "popularity.parquet")


def served_store(root: Path, *, click_weight: float = 0.0, catalogue: bool = True) -> Store:
    store = Store(root)
    root.mkdir()
    store.create({})
    snapshot = {name: ITEM_VECTORS[name] for name in SERVING_ITEMS}
    users = embeddings(USER_VECTORS, "user")
    added = embeddings({"new": ITEM_VECTORS["new"]}, "item")
    removed = embeddings({"gone": ITEM_VECTORS["gone"]}, "item", deleted=True)
    write_embeddings(
        store,
        [
            ("snapshot", 1, pa.concat_tables([embeddings(snapshot, "item"), users])),
            ("delta", 2, pa.concat_tables([added, removed])),
        ],
    )
    store.put_serving(1, lambda folder: write_serving(folder, click_weight))
    store.put_manifests([served_manifest(1), served_manifest(2)])
    store.serve(2)
    if catalogue:
        items = [
            {"item_id": i, "title": f"The {i}", "published_at": NOON - timedelta(days=1)}
            for i in "abcd"
        ] + [{"item_id": "future", "title": "Not yet", "published_at": NOON + timedelta(days=1)}]
        pq.write_table(pa.Table.from_pylist(items, ITEMS), store.catalogue_path("items"))
        people = [{"user_id": "eve", "attributes": [("country", "de")]}]
        pq.write_table(pa.Table.from_pylist(people, USERS), store.catalogue_path("users"))
    return store
