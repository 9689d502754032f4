"""What a stream says of each item so far: decayed counts, dislikes, first and last event."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.memory.decayed_counts import MS_PER_H, DecayedCounts
from models.row_arrays import NEVER, Column, RowArrays

__all__ = ["ItemStream"]

_FLOOR = 0.02  # events: below it a decayed count is as good as none

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]


class ItemStream(RowArrays):
    """Stream features F of items (names: `ModelConfig.stream_features`).

    Args:
        half_lives_h: hours, of the decayed counts.
        size: rows at first.
    """

    dislikes = Column(np.float64)
    first = Column(np.int64, fill=NEVER)  # published, or first seen; epoch ms
    last = Column(np.int64, fill=NEVER)

    def __init__(self, half_lives_h: Sequence[float], size: int) -> None:
        self.counts = DecayedCounts((*half_lives_h, np.inf), size)
        super().__init__(size, parts={"": self.counts})

    def update(self, rows: Rows, wanted: Floats, disliked: Floats, times: Rows) -> None:
        """Count a micro-batch: `wanted` and `disliked` weights `[n]` of `rows` at `times`."""
        self.counts.add(rows, wanted, times)
        np.add.at(self.dislikes, rows, disliked)
        np.maximum.at(self.last, rows, times)
        new = self.first[rows] == NEVER
        order = np.argsort(-times[new], kind="stable")  # the earliest is written last
        self.first[rows[new][order]] = times[new][order]

    def seen(self, rows: Rows | slice = slice(None)) -> Floats:
        """Wanted events of items so far, `[n]`, without decay."""
        return self.counts.sums[rows, -1]

    def features(self, now_ms: int, rows: Rows | slice = slice(None)) -> NDArray[np.float32]:
        """F as of `now_ms`, `[n, features]` float32, always finite."""
        counts = self.counts.at(now_ms, rows)
        ever = counts[:, -1]
        dislikes = self.dislikes[rows]
        return np.column_stack(
            [
                np.log(counts + _FLOOR),
                _elapsed(self.first[rows], now_ms, 0.0),
                _elapsed(self.last[rows], now_ms, 100_000.0),
                np.log((dislikes + 0.5) / (ever + dislikes + 2.5)) + np.log(5.0),
            ]
        ).astype(np.float32)


def _elapsed(since: NDArray[np.int64], now_ms: int, never_h: float) -> Floats:
    """ln(1 + hours) / 4; `never_h` hours where nothing happened yet."""
    hours = np.where(since == NEVER, never_h, np.maximum(now_ms - since, 0) / MS_PER_H)
    return np.log1p(hours) / 4.0
