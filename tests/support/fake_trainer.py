"""A trainer that only counts: the protocol of `models.store.lineage` without TensorFlow.

Its vectors depend on every earlier batch and on their order, so that a batch
trained twice, skipped or swapped shows in every digest after it. An item named
`poison` makes the loss NaN; one named `crash` raises.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from models.schema import EMBEDDINGS, POSITIVE_TYPES, PREDICTIONS


@dataclass(frozen=True)
class FakeStep:
    metrics: dict
    predictions: pa.RecordBatch | None
    delta: pa.RecordBatch


class FakeTrainer:
    """Item vector: [its count, a number that hashes the whole past]."""

    made = 0
    """Trainers made in this process: restarts that should need none are tested with it."""

    def __init__(self, config=None, items=None, users=None):
        type(self).made += 1
        self.counts: Counter = Counter()
        self.past = 0.5
        self.stepped: list[int] = []
        self.newest = 0

    def step(self, number, rows, *, predictions=False):
        top = [item for item, _ in sorted(self.counts.items(), key=lambda p: (-p[1], p[0]))]
        told = self._predictions(number, rows, top) if predictions else None
        touched = sorted(set(rows.column("item_id").to_pylist()))
        if "crash" in touched:
            raise RuntimeError("out of something")
        ranks = [top.index(i) + 1 if i in top else None for i in rows["item_id"].to_pylist()]
        self.counts.update(rows.column("item_id").to_pylist())
        self.past = (self.past * 0.9 + 0.01 * number + len(rows) / 1_000) % 1.0
        self.stepped.append(number)
        self.newest = max(self.newest, *rows["anchor_time"].cast(pa.int64()).to_pylist())
        recall = float(np.mean([r is not None and r <= 20 for r in ranks]))
        loss = float("nan") if "poison" in touched else 1.0 - recall
        metrics = {"evaluated": len(rows), "model": {"recall@20": recall}, "loss": loss}
        return FakeStep(metrics, told, self._vectors(touched, number))

    def adopt(self, other):
        self.past = other.past

    def _predictions(self, number, rows, top):
        positive = np.sum([rows.column(f"n_{t}").to_numpy() for t in POSITIVE_TYPES], axis=0) > 0
        kept = rows.filter(pa.array(positive))
        n = kept.num_rows
        columns = {
            "batch": pa.array([number] * n, pa.int64()),
            "user_id": kept["user_id"],
            "item_id": kept["item_id"],
            "event_type": pa.array(["like"] * n),
            "anchor_time": kept["anchor_time"],
            "rank": pa.array(
                [top.index(i) + 1 if i in top else None for i in kept["item_id"].to_pylist()],
                pa.int64(),
            ),
            "top20": pa.array([top[:20]] * n, pa.list_(pa.string())),
        }
        return pa.record_batch([columns[f.name] for f in PREDICTIONS], schema=PREDICTIONS)

    def _vectors(self, items, version):
        columns = [
            pa.array(["item"] * len(items)),
            pa.array(items, pa.string()),
            pa.array([[float(self.counts[i]), self.past] for i in items], pa.list_(pa.float32())),
            pa.array([version] * len(items), pa.int64()),
            pa.array([self.newest] * len(items), EMBEDDINGS.field("updated_at").type),
            pa.array([False] * len(items)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=EMBEDDINGS)

    def snapshot(self, version):
        return pa.Table.from_batches([self._vectors(sorted(self.counts), version)])

    def serving(self, folder: Path, version: int):
        told = {"items": sorted(self.counts), "version": version}
        (folder / "serving.json").write_text(json.dumps(told))

    def save(self, folder: Path):
        state = {"counts": self.counts, "past": self.past, "stepped": self.stepped}
        (folder / "fake.json").write_text(json.dumps({**state, "newest": self.newest}))

    @classmethod
    def restore(cls, folder: Path, config=None, items=None, users=None):
        trainer = cls()
        state = json.loads((folder / "fake.json").read_text())
        trainer.counts = Counter(state["counts"])
        trainer.past, trainer.stepped = state["past"], state["stepped"]
        trainer.newest = state["newest"]
        return trainer
