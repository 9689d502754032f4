"""The clock on the wall, in the unit of every event."""

import time

__all__ = ["wall_clock_ms"]


def wall_clock_ms() -> int:
    """Epoch milliseconds."""
    return time.time_ns() // 1_000_000
