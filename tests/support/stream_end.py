"""How a test or a benchmark ends a stream that has no end: events that are later than all others.

A window's rows come once event time has passed its end, so the last events of a
stream wait for ever. One event in each partition, far enough behind them in event
time, brings all rows before it; what the closing events make themselves comes only
where the stream is declared ended (`?until=now`).
"""

from typing import Any


def closing_events(newest_ms: int, partitions: int, after_ms: int) -> list[dict[str, Any]]:
    """One event for each partition, `after_ms` later than the newest event.

    Args:
        newest_ms: event time of the stream's newest event, epoch milliseconds.
        partitions: of the topic; the events are dealt out to them in turn.
        after_ms: more than a window, its lateness and a batch's longest wait together.

    >>> [event["event_id"] for event in closing_events(0, 2, 3_600_000)]
    ['end0', 'end1']
    """
    blank = {
        "user_id": "end",
        "item_id": "end",
        "event_type": "view",
        "event_time": newest_ms + after_ms,
    }
    return [{**blank, "event_id": f"end{n}"} for n in range(partitions)]
