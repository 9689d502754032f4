"""Which items a user has interacted with: bounded, vectorised, exact in time.

A pair is one int64 key `user_row << 32 | item_row` with the time of the first
interaction. Pairs lie sorted in two arrays, a long and a short one, so that
adding a micro-batch costs what it brings and not what exists.
"""

import numpy as np
from numpy.typing import NDArray

from models.groups import run_starts

__all__ = ["SeenSets"]

Keys = NDArray[np.int64]


def _ranges(keys: Keys, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions `[m]` in `keys` of all pairs of `users`, and which user each is of."""
    first = np.searchsorted(keys, users << 32)
    last = np.searchsorted(keys, (users + 1) << 32)
    size = last - first
    owner = np.repeat(np.arange(len(users)), size)
    start = np.repeat(first - np.concatenate([[0], np.cumsum(size)[:-1]]), size)
    return start + np.arange(len(owner)), owner


class SeenSets:
    """First interaction of each (user row, item row).

    Args:
        per_user: the newest pairs that are kept of a user.
    """

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._keys = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
        self._times = [np.zeros(0, np.int64), np.zeros(0, np.int64)]

    def __len__(self) -> int:
        return sum(map(len, self._keys))

    def of(
        self, users: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        """All pairs of `users` `[n]` (rows; may repeat).

        Returns:
            `[m]` position in `users`, `[m]` item row, `[m]` time of the first
            interaction (epoch ms), each int.
        """
        wide = users.astype(np.int64)
        found = []
        for keys, times in zip(self._keys, self._times, strict=True):
            at, owner = _ranges(keys, wide)
            found.append((owner, (keys[at] & 0xFFFFFFFF).astype(np.int32), times[at]))
        owner, item, time = (np.concatenate(part) for part in zip(*found, strict=True))
        return owner, item, time

    def add(
        self,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        times: NDArray[np.int64],
    ) -> None:
        """Note interactions `[n]`; of a pair the earliest time stays."""
        known = (users > 0) & (items > 0)
        keys = (users[known].astype(np.int64) << 32) | items[known]
        order = np.lexsort((times[known], keys))
        keys, times = keys[order], times[known][order]
        first = run_starts(keys)
        keys, times = keys[first], times[first]
        for held, when in zip(self._keys, self._times, strict=True):
            keys, times = self._fold(held, when, keys, times)
        at = np.searchsorted(self._keys[1], keys)
        self._keys[1] = np.insert(self._keys[1], at, keys)
        self._times[1] = np.insert(self._times[1], at, times)
        if len(self._keys[1]) > max(4_096, len(self._keys[0]) // 8):
            self._merge()

    @staticmethod
    def _fold(
        held: Keys, when: NDArray[np.int64], keys: Keys, times: NDArray[np.int64]
    ) -> tuple[Keys, NDArray[np.int64]]:
        """Put earlier times into pairs that are held; return those that are not."""
        if not len(held):
            return keys, times
        at = np.minimum(np.searchsorted(held, keys), len(held) - 1)
        same = held[at] == keys
        when[at[same]] = np.minimum(when[at[same]], times[same])
        return keys[~same], times[~same]

    def _merge(self) -> None:
        keys = np.concatenate(self._keys)
        times = np.concatenate(self._times)
        order = np.argsort(keys, kind="stable")
        self._put(keys[order], times[order])
        self._trim()

    def _put(self, keys: Keys, times: NDArray[np.int64]) -> None:
        self._keys = [keys, np.zeros(0, np.int64)]
        self._times = [times, np.zeros(0, np.int64)]

    def _trim(self) -> None:
        """Keep the newest `per_user` pairs of every user."""
        keys, times = self._keys[0], self._times[0]
        users = keys >> 32
        start = np.searchsorted(users, users)  # where each pair's user begins
        size = np.searchsorted(users, users, side="right") - start
        if not len(keys) or size.max() <= self._per_user:
            return
        newest = np.lexsort((keys, -times, users))
        place = np.empty(len(keys), np.int64)
        place[newest] = np.arange(len(keys))
        keep = place - start < self._per_user
        self._put(keys[keep], times[keep])

    def drop(self, *, users: NDArray[np.integer], items: NDArray[np.integer]) -> None:
        """Forget all pairs of the rows given: they are about to be recycled."""
        self._merge()
        keys = self._keys[0]
        gone = np.isin(keys >> 32, users) | np.isin(keys & 0xFFFFFFFF, items)
        self._put(keys[~gone], self._times[0][~gone])

    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """State for `from_arrays`; the two parts apart, as trimming depends on them."""
        names = ("keys_0", "keys_1", "times_0", "times_1")
        return dict(zip(names, [*self._keys, *self._times], strict=True))

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[np.int64]], per_user: int) -> "SeenSets":
        """What `arrays` gave, with the limit of the job file."""
        made = cls(per_user)
        made._keys = [arrays["keys_0"].copy(), arrays["keys_1"].copy()]
        made._times = [arrays["times_0"].copy(), arrays["times_1"].copy()]
        return made
