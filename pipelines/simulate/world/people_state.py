"""What the simulated people remember: enough to go on with what they began."""

import numpy as np
from numpy.typing import NDArray

from pipelines.simulate.world.entities import Catalogue
from pipelines.simulate.world.words import CATEGORIES

__all__ = ["PeopleMemory", "routine_rule"]

Ints = NDArray[np.int64]

_RING = 64  # items a user has lately had and does not take up again
_SLOTS = 3  # series a user follows at the same time
_PULL = np.array([0.4, 1.0, 1.0])  # of a slot: rather another series than the last one again
_REST = np.array([[1, 2], [0, 2], [0, 1]])  # the other slots


def routine_rule(rng: np.random.Generator) -> Ints:
    """`[C, C]`: the category that follows (last but one, last).

    A Latin square: in each row and each column every category stands once. So
    the last item alone says nothing about the next; the last two say it all.
    """
    n = len(CATEGORIES)
    shuffled = rng.permutation(n)
    steps = (5 * np.arange(n)[:, None] + 7 * np.arange(n)[None, :]) % n  # 5 and 7 are coprime to 12
    return shuffled[steps][rng.permutation(n)]


class PeopleMemory:
    """Per user: recent items, the last two categories, the series in progress."""

    def __init__(self, users: int, items: Catalogue) -> None:
        """Nobody has seen anything."""
        self._items = items
        self._category = items.category
        self._ring = np.full((users, _RING), -1, dtype=np.int32)
        self._head = np.zeros(users, dtype=np.int64)
        self._series = np.full((users, _SLOTS), -1, dtype=np.int64)
        self._next = np.full((users, _SLOTS), -1, dtype=np.int64)
        self.last_two = np.full((users, 2), -1, dtype=np.int64)  # categories; −1: not yet

    def had(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        """Whether each user has lately had each item: `[n]` or `[n, m]`."""
        ring = self._ring[users]
        if items.ndim == 1:
            return (ring == items[:, None]).any(axis=1)
        return (ring[:, None, :] == items[:, :, None]).any(axis=2)

    def waiting(self, users: Ints, out: int, rng: np.random.Generator) -> Ints:
        """The episode each user would go on with, among the first `out` items; −1: none."""
        nexts = self._next[users]
        open_ = (nexts >= 0) & (nexts < out)
        key = np.where(open_, _PULL * rng.random(nexts.shape), -1.0)
        chosen = nexts[np.arange(len(users)), key.argmax(axis=1)]
        return np.where(open_.any(axis=1), chosen, -1)

    def take(self, users: Ints, items: Ints, *, liked: NDArray[np.bool_]) -> None:
        """Distinct users had these items; a series is followed where `liked`."""
        self._ring[users, self._head[users] % _RING] = items
        self._head[users] += 1
        self.last_two[users, 0] = self.last_two[users, 1]
        self.last_two[users, 1] = self._category[items]
        follows = liked & (self._items.series[items] >= 0)
        self._follow(users[follows], items[follows])

    def _follow(self, users: Ints, items: Ints) -> None:
        """Put the item's series into the first slot, the others behind it."""
        series = self._items.series[items]
        slots = self._series[users]
        same = slots == series[:, None]
        place = np.where(same.any(axis=1), same.argmax(axis=1), _SLOTS - 1)
        rows = np.arange(len(users))[:, None]
        rest = _REST[place]
        following = self._items.following[items]
        nexts = self._next[users]
        self._series[users] = np.column_stack([series, slots[rows, rest]])
        self._next[users] = np.column_stack([following, nexts[rows, rest]])
