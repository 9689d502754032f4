"""Running means per user and per item: the simplest thing that the heads have to beat."""

import numpy as np
from numpy.typing import NDArray

from models.rows import Batch, head_targets
from models.schema import HEADS

__all__ = ["MEANS", "RunningMeans"]

MEANS = ("overall mean", "user's mean", "item's mean", "user + item mean")
"""Columns of what `RunningMeans.before` gives."""

PRIOR = 5.0  # observations by which a mean is drawn to the overall one

Floats = NDArray[np.float64]


class _Sums:
    """Number and sum of each head's targets, by name."""

    def __init__(self) -> None:
        self._place: dict[str, int] = {}
        self._sums = np.zeros((1_024, 2, len(HEADS)))

    def _places(self, names: list[str]) -> NDArray[np.int64]:
        for name in names:
            self._place.setdefault(name, len(self._place))
        if len(self._place) > len(self._sums):
            more = np.zeros((2 * len(self._place), 2, len(HEADS)))
            more[: len(self._sums)] = self._sums
            self._sums = more
        return np.array([self._place[name] for name in names], np.int64)

    def mean(self, names: list[str], whole: Floats) -> Floats:
        """`[names, heads]`, each drawn to `whole` `[heads]`."""
        places = self._places(names)  # first: it may make room
        n, total = self._sums[places].transpose(1, 0, 2)
        return (total + PRIOR * whole) / (n + PRIOR)

    def add(self, names: list[str], code: NDArray[np.int64], both: Floats) -> None:
        """Add `both` `[rows, 2, heads]` to the names that `code` `[rows]` points at."""
        places = self._places(names)
        np.add.at(self._sums, places[code], both)


class RunningMeans:
    """Means of what the heads predict, over all earlier micro-batches.

    A user's or an item's mean counts 5 observations of the overall mean more, so that
    it is worth something from the first event; "user + item" is their sum less the
    overall mean.
    """

    def __init__(self) -> None:
        self._users, self._items = _Sums(), _Sums()
        self._whole = np.zeros((2, len(HEADS)))

    def before(self, batch: Batch) -> Floats:
        """`[rows, heads, 4]`: what each of `MEANS` says of each row, before it is added."""
        n, total = self._whole
        whole = total / np.maximum(n, 1)
        user = self._users.mean(batch.users, whole)[batch.user]
        item = self._items.mean(batch.items, whole)[batch.item]
        every = np.broadcast_to(whole, user.shape)
        return np.stack([every, user, item, user + item - whole], axis=2)

    def add(self, batch: Batch) -> None:
        """Count a micro-batch."""
        targets, present = head_targets(batch)
        both = np.stack([present.astype(float), np.where(present, targets, 0.0)], axis=1)
        self._users.add(batch.users, batch.user, both)
        self._items.add(batch.items, batch.item, both)
        self._whole += both.sum(axis=0)
