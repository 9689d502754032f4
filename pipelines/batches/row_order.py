"""In which order the rows of a micro-batch stand: a function of their keys alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

__all__ = ["Keys", "canonical_order"]


@dataclass(frozen=True)
class Keys:
    """What the order of rows rests on; arrays of `[rows]`, times in epoch ms."""

    user_id: NDArray[np.object_]
    """UTF-8 bytes."""
    item_id: NDArray[np.object_]
    window_start: NDArray[np.int64]
    window_end: NDArray[np.int64]
    revision: NDArray[np.int32]

    @classmethod
    def of(cls, rows: pa.RecordBatch) -> "Keys":
        """Of feature rows, `user_id` and `item_id` plain or dictionary-encoded."""
        return cls(
            user_id=_text(rows.column("user_id")),
            item_id=_text(rows.column("item_id")),
            window_start=rows.column("window_start").cast(pa.int64()).to_numpy(),
            window_end=rows.column("window_end").cast(pa.int64()).to_numpy(),
            revision=rows.column("revision").to_numpy(),
        )

    def take(self, rows: NDArray[np.int64]) -> "Keys":
        """Those of some rows."""
        return Keys(
            self.user_id[rows],
            self.item_id[rows],
            self.window_start[rows],
            self.window_end[rows],
            self.revision[rows],
        )


def canonical_order(keys: Keys, number: int) -> NDArray[np.int64]:
    """The order of a batch's rows: by window start, then scattered by a seeded hash.

    The hash keeps one user's rows from standing together; what it leaves equal
    is ordered by the ids, the window end and the revision.
    """
    scattered = np.fromiter(
        (
            xxhash.xxh3_64_intdigest(user + b"\0" + item, seed=number)
            for user, item in zip(keys.user_id, keys.item_id, strict=True)
        ),
        np.uint64,
        len(keys.user_id),
    )
    order = np.lexsort((keys.revision, keys.window_end, scattered, keys.window_start))
    # The ids decide only where two keys share a hash, which hardly ever happens.
    left, right = order[:-1], order[1:]
    tied = (scattered[left] == scattered[right]) & (
        keys.window_start[left] == keys.window_start[right]
    )
    pairs = zip(left[tied].tolist(), right[tied].tolist(), strict=True)
    if all(_ids(keys, a) == _ids(keys, b) for a, b in pairs):
        return order
    exact = sorted(range(len(order)), key=lambda row: _exact(keys, scattered, row))
    return np.array(exact, np.int64)


def _ids(keys: Keys, row: int) -> tuple[bytes, bytes]:
    return keys.user_id[row], keys.item_id[row]


def _exact(keys: Keys, scattered: NDArray[np.uint64], row: int) -> tuple[Any, ...]:
    return (
        int(keys.window_start[row]),
        int(scattered[row]),
        *_ids(keys, row),
        int(keys.window_end[row]),
        int(keys.revision[row]),
    )


def _text(column: pa.Array) -> NDArray[np.object_]:
    if pa.types.is_dictionary(column.type):
        words = column.dictionary.cast(pa.binary()).to_numpy(zero_copy_only=False)
        return np.asarray(words[column.indices.to_numpy()], np.object_)
    return np.asarray(column.cast(pa.binary()).to_numpy(zero_copy_only=False), np.object_)
