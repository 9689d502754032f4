"""Which items a user has interacted with: bounded, vectorised, exact in time.

A pair is one int64 key `user_row << 32 | item_row` with the time of the first
interaction and how long the user stayed, where that is known. Pairs lie sorted in two
arrays, a long and a short one, so that adding a micro-batch costs what it brings and not
what exists.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.row_arrays import Arrays
from models.sparse_rows import run_starts

__all__ = ["SeenItems"]

Keys = NDArray[np.int64]


def _ranges(keys: Keys, users: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions `[m]` in `keys` of all pairs of `users`, and which user each is of."""
    first = np.searchsorted(keys, users << 32)
    last = np.searchsorted(keys, (users + 1) << 32)
    size = last - first
    owner = np.repeat(np.arange(len(users)), size)
    start = np.repeat(first - np.concatenate([[0], np.cumsum(size)[:-1]]), size)
    return start + np.arange(len(owner)), owner


def _found(held: Keys, keys: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """For each key its position in `held`, ascending, and whether it is there at all."""
    if not len(held):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), bool)
    at = np.minimum(np.searchsorted(held, keys), len(held) - 1)
    return at, held[at] == keys


class SeenItems:
    """First interaction of each (user row, item row), and the last known dwell.

    Args:
        per_user: the newest pairs that are kept of a user.
    """

    def __init__(self, per_user: int) -> None:
        self._per_user = per_user
        self._keys = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
        self._times = [np.zeros(0, np.int64), np.zeros(0, np.int64)]
        self._stays = [np.zeros(0, np.int8), np.zeros(0, np.int8)]

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
        self._stays[1] = np.insert(self._stays[1], at, np.int8(0))
        if len(self._keys[1]) > max(4_096, len(self._keys[0]) // 8):
            self._merge()

    def add_dwells(
        self,
        users: NDArray[np.integer],
        items: NDArray[np.integer],
        stays: NDArray[np.integer],
    ) -> None:
        """Note dwells `[n]`, as buckets from 1; of a pair the last counts, one not held is left."""
        keys = (users.astype(np.int64) << 32) | items
        for held, kept in zip(self._keys, self._stays, strict=True):
            at, same = _found(held, keys)
            kept[at[same]] = stays[same]

    def dwells(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> NDArray[np.int8]:
        """Bucket `[n]` of the last known dwell of each pair; 0: none is known."""
        keys = (users.astype(np.int64) << 32) | items
        out = np.zeros(len(keys), np.int8)
        for held, kept in zip(self._keys, self._stays, strict=True):
            at, same = _found(held, keys)
            out[same] = kept[at[same]]
        return out

    @staticmethod
    def _fold(
        held: Keys, when: NDArray[np.int64], keys: Keys, times: NDArray[np.int64]
    ) -> tuple[Keys, NDArray[np.int64]]:
        """Put earlier times into pairs that are held; return those that are not."""
        at, same = _found(held, keys)
        when[at[same]] = np.minimum(when[at[same]], times[same])
        return keys[~same], times[~same]

    def _merge(self) -> None:
        keys = np.concatenate(self._keys)
        self._put(keys, np.argsort(keys, kind="stable"))
        self._trim()

    def _put(self, keys: Keys, kept: NDArray[Any]) -> None:
        """Of all pairs, the short array's behind the long one's, keep some: the new long array."""
        times, stays = np.concatenate(self._times), np.concatenate(self._stays)
        self._keys = [keys[kept], np.zeros(0, np.int64)]
        self._times = [times[kept], np.zeros(0, np.int64)]
        self._stays = [stays[kept], np.zeros(0, np.int8)]

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
        self._put(keys, place - start < self._per_user)

    def drop(self, *, users: NDArray[np.integer], items: NDArray[np.integer]) -> None:
        """Forget all pairs of the rows given: they are about to be recycled."""
        self._merge()
        keys = self._keys[0]
        gone = np.isin(keys >> 32, users) | np.isin(keys & 0xFFFFFFFF, items)
        self._put(keys, ~gone)

    def arrays(self) -> Arrays:
        """State for `load`; the two parts apart, as trimming depends on them."""
        names = ("keys_0", "keys_1", "times_0", "times_1", "stays_0", "stays_1")
        return dict(zip(names, [*self._keys, *self._times, *self._stays], strict=True))

    def load(self, arrays: Arrays) -> None:
        """Put back what `arrays` gave; the limit stays this one's."""
        self._keys, self._times, self._stays = (
            [arrays[f"{kind}_{place}"].copy() for place in (0, 1)]
            for kind in ("keys", "times", "stays")
        )
