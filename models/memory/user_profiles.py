"""What was last known of each user: enough to compute a vector anew."""

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.row_arrays import NEVER, Column, RowArrays

__all__ = ["UserProfiles"]

_CHUNK = 65_536


class UserProfiles(RowArrays):
    """What was last known of each user, by row.

    Args:
        config: lengths.
        size: rows at first.
    """

    past = Column(np.int32, "history")  # item rows, newest last
    types = Column(np.int8, "history")  # event type + 1
    times = Column(np.int64, "history", fill=NEVER)
    attributes = Column(np.int32, "attributes")
    context = Column(np.int32, "contexts")
    last_event = Column(np.int64, fill=NEVER)

    def __init__(self, config: ModelConfig, size: int) -> None:
        super().__init__(
            size, history=config.history, attributes=config.attributes, contexts=config.contexts
        )

    def drop_items(self, rows: NDArray[np.integer]) -> None:
        """Past items that were recycled become unknown ones."""
        gone = np.zeros(max(int(rows.max(initial=0)), int(self.past.max(initial=0))) + 1, bool)
        gone[rows] = True
        for first in range(0, len(self.past), _CHUNK):
            part = self.past[first : first + _CHUNK]
            part[gone[part]] = 0
