"""How far a log has come: a rule that no single clock can bend.

A store refuses events whose windows ended long before its *frontier*. Were that the
newest window of all, one phone that is ten days ahead would close the store to everybody
else. So an instant counts as reached only where enough of the log is there, too: the
newest instant that enough events, of enough users, lie within the slack before, or later
than. What a tenth of all events say is believed whoever says it. A function of event times
and users, never of arrival.
"""

import numpy as np

from pipelines.arrow.columns import Ints
from pipelines.arrow.hashing import Hashes

__all__ = ["needed", "reached"]

_SHARE = 100
"""Of what the log usually holds within the slack, a hundredth reaches an instant: a night
has less than a day, and some devices' clocks are always wrong."""

_TENTH = 10
"""Never is more than a tenth of all events asked for: a log of ten is what it is."""

_SHORTEST_MS = 60_000


def needed(times: Ints, slack_ms: int) -> int:
    """How many events, and users, reach an instant, in a log with these event times `[n]`.

    >>> needed(np.arange(300) * 600_000, 3_600_000), needed(np.arange(9) * 600_000, 3_600_000)
    (2, 1)
    """
    bins = times // max(slack_ms, _SHORTEST_MS)
    bins -= bins.min(initial=0)
    usual = len(times) / max(len(np.unique(bins)), 1)
    return max(min(max(2, int(usual / _SHARE)), -(-len(times) // _TENTH)), 1)


def reached(times: Ints, users: Hashes, slack_ms: int) -> int:
    """The newest event time that the log has reached, epoch milliseconds.

    Args:
        times: `[n]` event times, epoch milliseconds, n ≥ 1, in any order.
        users: `[n]` hashes of their users.
        slack_ms: how far events may be apart in time and still support each other: the
            lateness that is allowed, for what is ahead by less refuses nobody.

    >>> hour = 3_600_000
    >>> times = np.append(np.arange(300) * 600_000, 240 * hour)  # one is ten days ahead
    >>> reached(times, np.arange(301).astype(np.uint64) % 20, hour) == 299 * 600_000
    True
    """
    events = needed(times, slack_ms)
    looked_at = max(1_000, 4 * events)
    while True:
        whole = looked_at >= len(times)
        some = slice(None) if whole else np.argpartition(times, -looked_at)[-looked_at:]
        found = _newest(times[some], users[some], slack_ms, events, len(times))
        if found is not None:
            return found
        looked_at *= 4


def _newest(times: Ints, users: Hashes, slack_ms: int, events: int, of: int) -> int | None:
    """As `reached`, among the newest events `of` so many; None where it lies before them."""
    order = np.argsort(-times, kind="stable")
    times, users = times[order], users[order]
    first = np.zeros(len(times), bool)
    first[np.unique(users, return_index=True)[1]] = True
    different = np.cumsum(first)
    wanted = min(events, int(different[-1])) if len(times) == of else events
    support = np.searchsorted(-times, slack_ms - times, side="right")  # within the slack, or later
    enough = (support >= events) & (different[support - 1] >= wanted)
    enough |= support * _TENTH >= of
    return int(times[np.argmax(enough)]) if enough.any() else None
