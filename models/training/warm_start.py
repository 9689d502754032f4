"""What a trainer goes on from when it begins anew with another's weights."""

import numpy as np
from numpy.typing import NDArray

from models.memory.id_map import IdMap
from models.network.optimizers import Table
from models.row_arrays import grown

__all__ = ["WarmStart"]

Ints = NDArray[np.integer]


class WarmStart:
    """Rows of a former trainer's tables, until the ids that they were of arrive again.

    The same ids arrive in the same order, but not always at the same rows: where some were
    recycled, a row's last owner is not its first.

    Args:
        ids: the former's.
        tables: the former's, of which each id has a row.
    """

    def __init__(self, ids: IdMap, tables: dict[str, Table]) -> None:
        self._rows = {ids.names[row]: int(row) for row in ids.used().tolist()}
        self._values = {
            name: (table.weights.numpy(), table.slots.numpy()) for name, table in tables.items()
        }
        self._placed = np.zeros(0, bool)

    def place(self, rows: Ints, ids: IdMap, tables: dict[str, Table]) -> None:
        """Give the rows `[n]` that came into use what was known of their ids, once each."""
        self._placed = grown(self._placed, ids.capacity)
        rows = np.unique(rows[rows > 0])
        rows = rows[~self._placed[rows]]
        self._placed[rows] = True
        former = np.array([self._rows.pop(ids.names[row], 0) for row in rows.tolist()], np.int64)
        rows, former = rows[former > 0], former[former > 0]
        if not len(rows):
            return
        for name, values in self._values.items():
            tables[name].put(rows, *(value[former] for value in values))

    def release(self, rows: Ints) -> None:
        """Rows that were recycled may come into use once more."""
        self._placed[rows] = False
