"""The Arrow schemas that flow through Rillet: the one definition.

An element between two stages is a batch of rows with one of these schemas,
never a single event. Every timestamp is UTC with millisecond resolution.
"""

import pyarrow as pa

from models.schema import (
    CONTEXT,
    EMBEDDINGS,
    EVENT_TYPES,
    FEATURES,
    ITEMS,
    POSITIVE_TYPES,
    PREDICTIONS,
    TIMESTAMP,
    USERS,
)

__all__ = [
    "CONTEXT",
    "DEAD_LETTERS",
    "DEAD_REASONS",
    "EMBEDDINGS",
    "EVENTS",
    "EVENT_TYPES",
    "FEATURES",
    "ITEMS",
    "MAX_CONTEXT_ENTRIES",
    "MAX_DWELL_MS",
    "MAX_ID_BYTES",
    "POSITIVE_TYPES",
    "PREDICTIONS",
    "TIMESTAMP",
    "USERS",
]

MAX_ID_BYTES = 256
"""Longest `user_id`, `item_id` and `event_id`, in bytes of UTF-8."""

MAX_DWELL_MS = 24 * 3_600_000
"""Longest believable dwell: a day."""

MAX_CONTEXT_ENTRIES = 32

EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("event_time", TIMESTAMP, nullable=False),
        pa.field("dwell_ms", pa.int64()),
        pa.field("value", pa.float64()),
        pa.field("session_id", pa.string()),
        pa.field("platform", pa.string()),
        pa.field("context", CONTEXT),
    ]
)
"""A valid feedback event."""

DEAD_REASONS = (
    "bad_json",
    "bad_wire",
    "missing_field",
    "bad_type",
    "bad_value",
    "bad_time",
    "bad_row",
    "too_large",
    "too_late",
    "quarantined",
)

DEAD_LETTERS = pa.schema(
    [
        pa.field("payload", pa.binary(), nullable=False),  # as received
        pa.field("reason", pa.string(), nullable=False),  # one of DEAD_REASONS
        pa.field("detail", pa.string(), nullable=False),  # field, received, expected
        pa.field("source", pa.string(), nullable=False),  # file, or topic/partition
        pa.field("position", pa.int64(), nullable=False),  # line, row or offset; from 0
        pa.field("seen_at", TIMESTAMP, nullable=False),  # wall clock
    ]
)
