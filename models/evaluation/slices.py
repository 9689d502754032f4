"""Who a question is asked by and what about: new or old, head or tail, as of then."""

import numpy as np
from numpy.typing import NDArray

from models.feature_batch import Batch

__all__ = ["NEW", "SLICES", "SliceOfRows"]

SLICES = ("all", "new_users", "old_users", "new_items", "old_items", "head_items", "tail_items")
"""A row is in `all`, and in one of each pair."""

NEW = 10
"""A user or item is new before its tenth positive row (those of the same micro-batch apart)."""

HEAD_SHARE = 0.5
"""Head items: the fewest that hold this share of all earlier positive rows."""

_STALE = 1.05  # growth of the total after which the head is found anew

Ints = NDArray[np.int64]


class SliceOfRows:
    """Positive rows of every user and item so far.

    Attributes:
        by_item: of each item; read only.
        total: of all.
    """

    def __init__(self) -> None:
        self._users: dict[str, int] = {}
        self.by_item: dict[str, int] = {}
        self._head: frozenset[str] = frozenset()
        self.total = 0
        self._next = 0.0

    def before(self, batch: Batch, rows: Ints) -> NDArray[np.bool_]:
        """`[slices, rows]`: which slices the batch's rows `rows` are in."""
        users = np.array([self._users.get(name, 0) for name in batch.users], np.int64)
        items = self.counts(batch.items)
        head = np.array([name in self._head for name in batch.items], bool)
        new_user, new_item = users[batch.user[rows]] < NEW, items[batch.item[rows]] < NEW
        of_head = head[batch.item[rows]]
        every = np.ones(len(rows), bool)
        return np.stack([every, new_user, ~new_user, new_item, ~new_item, of_head, ~of_head])

    def counts(self, items: list[str]) -> Ints:
        """Positive rows of items so far, `[items]`."""
        return np.array([self.by_item.get(name, 0) for name in items], np.int64)

    def add(self, batch: Batch) -> None:
        """Count a micro-batch's positive rows."""
        wanted = batch.wanted
        for held, names, code in (
            (self._users, batch.users, batch.user),
            (self.by_item, batch.items, batch.item),
        ):
            counts = np.bincount(code[wanted], minlength=len(names))
            for place in np.flatnonzero(counts).tolist():
                held[names[place]] = held.get(names[place], 0) + int(counts[place])
        self.total += int(wanted.sum())
        if self.total >= self._next:
            self._find_head()
            self._next = self.total * _STALE

    def _find_head(self) -> None:
        names = list(self.by_item)
        counts = np.array([self.by_item[name] for name in names], np.int64)
        order = np.argsort(-counts, kind="stable")
        held = int(np.searchsorted(np.cumsum(counts[order]), HEAD_SHARE * self.total)) + 1
        self._head = frozenset(names[place] for place in order[:held].tolist())
