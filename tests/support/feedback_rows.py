"""Batches of likes and dislikes as the model reads them, one row a pair."""

from collections.abc import Sequence

import numpy as np

from models.feature_batch import Batch
from models.schema import EVENT_TYPES


def plain_batch(pairs: Sequence[tuple[str, str]], likes: Sequence[int] | None = None) -> Batch:
    """Rows of (user, item); where `likes` is 0 the row is a dislike."""
    n = len(pairs)
    liked = np.ones(n, bool) if likes is None else np.array(likes, bool)
    users, items = (list(dict.fromkeys(pair[i] for pair in pairs)) for i in (0, 1))
    counts = np.zeros((n, len(EVENT_TYPES)), np.int64)
    counts[liked, EVENT_TYPES.index("like")] = 1
    counts[~liked, EVENT_TYPES.index("dislike")] = 1
    none = np.zeros(0, np.int64)
    return Batch(
        users=users,
        items=items,
        tokens=[],
        user=np.array([users.index(u) for u, _ in pairs]),
        item=np.array([items.index(i) for _, i in pairs]),
        anchor=np.arange(n),
        window_end=np.arange(n) + 1,
        counts=counts,
        n_dwell=np.zeros(n, np.int64),
        dwell_ms=np.zeros(n, np.int64),
        rating=np.full(n, np.nan),
        confidence=np.ones(n),
        since_event=np.full(n, np.nan),
        history_row=none,
        history_item=none,
        history_type=none,
        history_age=none,
        token_row=none,
        token=none,
    )
