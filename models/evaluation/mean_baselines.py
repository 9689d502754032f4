"""Running means per user and per item: the simplest thing that the heads have to beat."""

import numpy as np
from numpy.typing import NDArray

from models.feature_batch import Batch, head_targets
from models.memory.running_stats import ShrunkMeans
from models.schema import HEADS

__all__ = ["MEANS", "RunningMeans"]

MEANS = ("overall mean", "user's mean", "item's mean", "user + item mean")
"""Columns of what `RunningMeans.before` gives."""

Floats = NDArray[np.float64]


class _MeansByName(ShrunkMeans):
    """Means of each head's targets by name: every name has a row from when it is first asked."""

    def __init__(self) -> None:
        super().__init__(len(HEADS), 1_024)
        self._row: dict[str, int] = {}

    def rows(self, names: list[str]) -> NDArray[np.int64]:
        for name in names:
            self._row.setdefault(name, len(self._row))
        if len(self._row) > len(self.n):
            self.grow(2 * len(self._row))
        return np.array([self._row[name] for name in names], np.int64)


class RunningMeans:
    """Means of what the heads predict, over all earlier micro-batches.

    A user's or an item's mean counts 5 observations of the overall mean more, so that
    it is worth something from the first event; "user + item" is their sum less the
    overall mean.
    """

    def __init__(self) -> None:
        self._users, self._items = _MeansByName(), _MeansByName()
        self._whole = np.zeros((2, len(HEADS)))

    def before(self, batch: Batch) -> Floats:
        """`[rows, heads, 4]`: what each of `MEANS` says of each row, before it is added."""
        n, total = self._whole
        whole = total / np.maximum(n, 1)
        user = self._users.shrunk(self._users.rows(batch.users), whole)[batch.user]
        item = self._items.shrunk(self._items.rows(batch.items), whole)[batch.item]
        every = np.broadcast_to(whole, user.shape)
        return np.stack([every, user, item, user + item - whole], axis=2)

    def add(self, batch: Batch) -> None:
        """Count a micro-batch."""
        targets, present = head_targets(batch)
        values, counted = np.where(present, targets, 0.0), present.astype(float)
        self._users.add(self._users.rows(batch.users)[batch.user], values, counted)
        self._items.add(self._items.rows(batch.items)[batch.item], values, counted)
        self._whole += [counted.sum(axis=0), values.sum(axis=0)]
