"""What is to be had right now, and exact draws from it."""

import numpy as np
from numpy.typing import NDArray

from pipelines.simulate.world.entities import TOPICS, Catalogue

__all__ = ["AvailableItems"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_EVERGREEN = 0.03  # share of its first pull that an item never loses


class AvailableItems:
    """Items out at one time, weighted by fame, age and fashion.

    An item stands under its main topic with `share` of its weight and under its
    second with the rest. Weight at age a: fame · (.03 + .97 · 2^(−a / half-life)).
    Given a user's topics π: P(item) = Σ_k π_k · weight[k, item] / Σ weight[k, ·].
    """

    def __init__(self, items: Catalogue) -> None:
        """Sort the entries by (topic, order of publication), once."""
        n = len(items.topic)
        item = np.concatenate([np.arange(n), np.arange(n)])
        topic = np.concatenate([items.topic, items.second])
        share = np.concatenate([items.share, 1 - items.share])
        order = np.lexsort((item, topic))
        self._items = items
        self._item, self._topic, self._share = item[order], topic[order], share[order]
        self._start = np.searchsorted(self._topic, np.arange(TOPICS + 1))
        self.out = 0

    def refresh(self, now: int, fashion: NDArray[np.float32]) -> None:
        """Weigh everything as of `now` (ms); `fashion` is `[TOPICS]` log-odds."""
        items = self._items
        self.out = int(np.searchsorted(items.published, now, side="right"))
        age = np.maximum(now - items.published, 0)
        pull = items.fame * (_EVERGREEN + (1 - _EVERGREEN) * np.exp2(-age / items.half_life_ms))
        pull[self.out :] = 0
        weight = pull[self._item] * self._share * np.exp(fashion[self._topic])
        self._cum = np.concatenate([[0.0], np.cumsum(weight)])
        on_shelf = np.concatenate([[0], np.cumsum(self._item < self.out)])
        self._last = self._start[:-1] + np.diff(on_shelf[self._start]) - 1
        self.open = self._last >= self._start[:-1]  # topics with anything in them
        self._end = int(np.flatnonzero(self._item < self.out)[-1])

    def draw(self, topic: Ints, u: Floats) -> Ints:
        """One item for each open topic and each uniform number, of any one shape."""
        low, high = self._cum[self._start[topic]], self._cum[self._start[topic + 1]]
        entry = np.searchsorted(self._cum, low + u * (high - low), side="right") - 1
        return self._item[np.clip(entry, self._start[topic], self._last[topic])]

    def draw_popular(self, u: Floats) -> Ints:
        """One item for each uniform number, whoever asks."""
        entry = np.searchsorted(self._cum, u * self._cum[-1], side="right") - 1
        return self._item[np.clip(entry, 0, self._end)]
