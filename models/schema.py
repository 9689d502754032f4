"""The Arrow schemas that the models read and write, and the event types.

They stand here because `models` imports nothing of `pipelines`;
`pipelines.schema` names them all, with those that stay inside the stream.
Every timestamp is UTC with millisecond resolution.
"""

import pyarrow as pa

__all__ = [
    "BINARY_HEADS",
    "CONTEXT",
    "DWELL",
    "EMBEDDINGS",
    "EVENT_TYPES",
    "FEATURES",
    "HEADS",
    "ITEMS",
    "POSITIVE_TYPES",
    "PREDICTIONS",
    "TIMESTAMP",
    "USERS",
]

TIMESTAMP = pa.timestamp("ms", tz="UTC")

CONTEXT = pa.map_(pa.string(), pa.string())

EVENT_TYPES = (
    "impression",
    "view",
    "click",
    "like",
    "dislike",
    "share",
    "cart",
    "purchase",
    "rating",
)
"""Every kind of feedback, in the order in which it is coded (0 = impression)."""

POSITIVE_TYPES = tuple(t for t in EVENT_TYPES if t not in {"impression", "dislike"})
"""The kinds that say an item was wanted; a row with one of them is predicted."""

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("text", pa.string()),
        pa.field("categories", pa.list_(pa.string())),
        pa.field("duration_ms", pa.int64()),
        pa.field("published_at", TIMESTAMP),
    ]
)
"""A catalogue entry; all but the id may be missing."""

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
    ]
)
"""What is known of a user beside their feedback."""

FEATURES = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("window_start", TIMESTAMP, nullable=False),
        pa.field("window_end", TIMESTAMP, nullable=False),
        *(pa.field(f"n_{t}", pa.int32(), nullable=False) for t in EVENT_TYPES),
        pa.field("n_dwell", pa.int32(), nullable=False),
        pa.field("dwell_ms_sum", pa.int64(), nullable=False),
        pa.field("dwell_ms_max", pa.int64()),
        pa.field("rating", pa.float64()),
        pa.field("purchase_value", pa.float64(), nullable=False),
        pa.field("anchor_time", TIMESTAMP, nullable=False),
        pa.field("since_event_ms", pa.int64()),
        pa.field("since_item_ms", pa.int64()),
        pa.field("since_purchase_ms", pa.int64()),
        pa.field("purchase_interval_ms", pa.float64()),
        pa.field("history_items", pa.list_(pa.string()), nullable=False),
        pa.field("history_types", pa.list_(pa.string()), nullable=False),
        pa.field("history_age_ms", pa.list_(pa.int64()), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),
        pa.field("platform", pa.string()),
        pa.field("context", CONTEXT),
        pa.field("revision", pa.int32(), nullable=False),
    ]
)
"""One row per (user_id, item_id, window, revision)."""

PREDICTIONS = pa.schema(
    [
        pa.field("batch", pa.int64(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),  # the row's strongest
        pa.field("anchor_time", TIMESTAMP, nullable=False),
        pa.field("rank", pa.int64()),  # 1 = first; null: the item was unknown
        pa.field("top20", pa.list_(pa.string()), nullable=False),
    ]
)
"""What was predicted for a row by the model that had not seen it."""

EMBEDDINGS = pa.schema(
    [
        pa.field("entity", pa.string(), nullable=False),  # user | item
        pa.field("id", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32()), nullable=False),  # of fixed size `dim`
        pa.field("version", pa.int64(), nullable=False),
        pa.field("updated_at", TIMESTAMP, nullable=False),  # event time
        pa.field("deleted", pa.bool_(), nullable=False),
    ]
)
"""A published vector; the file's `embedding` is `fixed_size_list<float32, dim>`."""

HEADS = ("click", "like", "purchase", "dwell", "rating")
"""The ranking heads, in the order of their columns."""

BINARY_HEADS = 3
"""The first of them are probabilities, the rest values."""

DWELL = HEADS.index("dwell")
