"""Feature rows as arrays: the only file where Arrow meets the model.

Strings become small integers once per micro-batch: `Batch.names` holds each
distinct id, and every id column is a code into it.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.schema import EMBEDDINGS, EVENT_TYPES, FEATURES, POSITIVE_TYPES

__all__ = [
    "AGE_BUCKETS",
    "DWELL_BUCKETS",
    "LENGTHS",
    "Batch",
    "Part",
    "attribute_names",
    "embeddings",
    "head_targets",
    "read_batch",
]

AGE_BUCKETS = 40
"""Octaves of seconds that the age of a past event falls into; 0 = no event."""

LENGTHS = 80
"""Half octaves of milliseconds that a duration falls into; 0 = unknown."""

DWELL_BUCKETS = 16
"""Octaves of seconds that a dwell falls into; 0 = unknown."""

Ints = NDArray[np.int64]

_STRENGTH = ("purchase", "cart", "share", "like", "rating", "click", "view", "dislike")
"""Event types, the strongest first; an impression is the weakest."""


@dataclass(frozen=True)
class Batch:
    """A micro-batch as arrays of n rows; times are epoch ms."""

    users: list[str]  # distinct
    items: list[str]  # distinct: of rows and histories
    tokens: list[str]  # distinct "context:key=value" and "platform:value"
    user: Ints  # [n] code into users
    item: Ints  # [n] code into items
    anchor: Ints  # [n]
    window_end: Ints  # [n]
    counts: Ints  # [n, event types]
    n_dwell: Ints  # [n]
    dwell_ms: Ints  # [n]
    rating: NDArray[np.float64]  # [n], nan where none
    confidence: NDArray[np.float64]  # [n]
    since_event: NDArray[np.float64]  # [n] ms, nan where none
    history_row: Ints  # [m] row that a past event belongs to, ascending, oldest first;
    # of events in a row with the same item, the newest
    history_item: Ints  # [m] code into items
    history_type: Ints  # [m] event type
    history_age: Ints  # [m] ms
    token_row: Ints  # [t] row that a context token belongs to, ascending
    token: Ints  # [t] code into tokens

    def __len__(self) -> int:
        return len(self.user)

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """`[n]`: rows with an event that is neither impression nor dislike."""
        positive = [EVENT_TYPES.index(name) for name in POSITIVE_TYPES]
        return self.counts[:, positive].sum(axis=1) > 0

    @property
    def disliked(self) -> NDArray[np.bool_]:
        """`[n]`: rows with a dislike and nothing better."""
        return (self.counts[:, EVENT_TYPES.index("dislike")] > 0) & ~self.wanted

    @property
    def dwell_buckets(self) -> Ints:
        """`[n]`: bucket of a row's mean dwell, in octaves of seconds from 1; 0: none is known."""
        seconds = self.dwell_ms / np.maximum(self.n_dwell, 1) / 1_000.0
        octave = np.minimum(1 + np.log2(1.0 + seconds), DWELL_BUCKETS - 1).astype(np.int64)
        return np.where(self.n_dwell > 0, octave, 0)

    def skipped(self, brief_s: float) -> NDArray[np.bool_]:
        """`[n]`: rows that were shown and no more, or viewed for less than `brief_s` seconds.

        A view of unknown dwell is no skip, nor is one with anything stronger beside it.
        """
        shown = (self.counts[:, EVENT_TYPES.index("impression")] > 0) & ~self.touched
        view = EVENT_TYPES.index("view")
        viewed = (self.counts[:, view] > 0) & (self.strongest == view)
        return shown | (viewed & (self.n_dwell > 0) & (self.dwell_ms < 1_000.0 * brief_s))

    @property
    def strongest(self) -> Ints:
        """`[n]` code of the strongest event type in the row; 0 (impression) when none."""
        order = np.array([EVENT_TYPES.index(name) for name in _STRENGTH])
        present = self.counts[:, order] > 0
        return np.where(present.any(axis=1), order[present.argmax(axis=1)], 0)

    @property
    def touched(self) -> NDArray[np.bool_]:
        """`[n]`: rows with an event that is no impression."""
        return (self.counts.sum(axis=1) - self.counts[:, 0]) > 0

    @property
    def touched_at(self) -> Ints:
        """`[n]` latest moment at which the row's first such event may lie."""
        shown = self.counts[:, 0] > 0
        return np.where(shown, self.window_end - 1, self.anchor)


def read_batch(rows: pa.RecordBatch) -> Batch:
    """A `FEATURES` batch as arrays.

    Raises:
        ValueError: a column is absent; the message names it.
    """
    absent = [name for name in FEATURES.names if name not in rows.schema.names]
    if absent:
        raise ValueError(f"the micro-batch has no column {absent[0]!r}; write it with `features`")
    users, user = _codes(rows["user_id"])
    history = rows["history_items"]
    flat = history.flatten()
    items, item = _codes(pa.concat_arrays([_plain(rows["item_id"]), _plain(flat)]))
    lengths = pc.list_value_length(history).to_numpy(zero_copy_only=False)
    kinds = pc.index_in(_plain(rows["history_types"].flatten()), pa.array(EVENT_TYPES))
    tokens, token_row, token = _context(rows)
    n = rows.num_rows
    owner, past = np.repeat(np.arange(n), lengths), item[n:]
    kept = _newest_of_runs(owner, past)
    return Batch(
        users=users,
        items=items,
        tokens=tokens,
        user=user,
        item=item[:n],
        anchor=_ints(rows["anchor_time"]),
        window_end=_ints(rows["window_end"]),
        counts=np.column_stack([_ints(rows[f"n_{name}"]) for name in EVENT_TYPES]),
        n_dwell=_ints(rows["n_dwell"]),
        dwell_ms=_ints(rows["dwell_ms_sum"]),
        rating=_floats(rows["rating"]),
        confidence=_floats(rows["confidence"]),
        since_event=_floats(rows["since_event_ms"]),
        history_row=owner[kept],
        history_item=past[kept],
        history_type=pc.fill_null(kinds, 0).to_numpy(zero_copy_only=False)[kept].astype(np.int64),
        history_age=_ints(rows["history_age_ms"].flatten())[kept],
        token_row=token_row,
        token=token,
    )


def _newest_of_runs(row: Ints, item: Ints) -> Ints:
    """Places of the past events that no other event of their row with the same item follows.

    Views, clicks and likes of one item are one thing that a user did: places in a history
    then tell what came before what.
    """
    ends = np.ones(len(row), bool)
    ends[:-1] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
    return np.flatnonzero(ends)


def _plain(array: pa.Array) -> pa.Array:
    return array.cast(pa.string())


def _codes(array: pa.Array) -> tuple[list[str], Ints]:
    """Distinct values in order of appearance, and the code of each element."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return encoded.dictionary.to_pylist(), codes


def _ints(array: pa.Array) -> Ints:
    return np.asarray(array.cast(pa.int64()).to_numpy(zero_copy_only=False), np.int64)


def _floats(array: pa.Array) -> NDArray[np.float64]:
    return np.asarray(array.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)


def _context(rows: pa.RecordBatch) -> tuple[list[str], Ints, Ints]:
    """Context entries and platform as tokens: distinct ones, their rows, their codes."""
    context, platform = rows["context"], rows["platform"]
    lengths = pc.list_value_length(context.cast(pa.list_(_pair())))
    lengths = pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = context.cast(pa.list_(_pair())).flatten()
    keys = pc.fill_null(_plain(pairs.field(0)), "")
    values = pc.fill_null(_plain(pairs.field(1)), "")
    entries = pc.binary_join_element_wise("context:", keys, "=", values, "")
    has = np.flatnonzero(platform.is_valid().to_numpy(zero_copy_only=False))
    marks = pc.binary_join_element_wise("platform:", _plain(platform.take(pa.array(has))), "")
    owner = np.concatenate([np.repeat(np.arange(len(lengths)), lengths), has])
    names, codes = _codes(pa.concat_arrays([_plain(entries), _plain(marks)]))
    order = np.argsort(owner, kind="stable")
    return names, owner[order], codes[order]


def _pair() -> pa.DataType:
    fields = [pa.field("key", pa.string(), nullable=False), pa.field("value", pa.string())]
    return pa.struct(fields)


def attribute_names(users: pa.Table) -> tuple[list[str], Ints, Ints]:
    """Attributes of the users of a table as tokens `user:key=value`.

    Returns:
        distinct tokens; `[t]` row of the user; `[t]` code of the token.
    """
    column = users["attributes"].combine_chunks()
    pairs = column.cast(pa.list_(_pair()))
    lengths = pc.fill_null(pc.list_value_length(pairs), 0).to_numpy(zero_copy_only=False)
    flat = pairs.flatten()
    keys, values = _plain(flat.field(0)), pc.fill_null(_plain(flat.field(1)), "")
    names, codes = _codes(pc.binary_join_element_wise("user:", keys, "=", values, ""))
    return names, np.repeat(np.arange(len(lengths)), lengths), codes


def head_targets(batch: Batch) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What the ranking heads learn, `[n, 5]`, and where it is known.

    click and purchase: 1 or 0; like: 1 or, for a dislike, 0; dwell: ln(1 + seconds);
    rating: as given. Columns are in the order of `models.schema.HEADS`.
    """
    c = {name: batch.counts[:, code] for code, name in enumerate(EVENT_TYPES)}
    acted = c["view"] + c["click"] + c["cart"] + c["purchase"]
    targets = np.column_stack(
        [
            c["click"] > 0,
            c["like"] > c["dislike"],
            c["purchase"] > 0,
            np.log1p(batch.dwell_ms / 1_000.0),
            np.clip(np.nan_to_num(batch.rating), -1e6, 1e6),
        ]
    ).astype(float)
    present = np.column_stack(
        [
            c["impression"] + c["click"] > 0,
            c["like"] + c["dislike"] > 0,
            acted > 0,
            batch.n_dwell > 0,
            (c["rating"] > 0) & ~np.isnan(batch.rating),
        ]
    )
    return targets, present


Part = tuple[str, list[str], NDArray[np.float32], int]
"""entity, ids, vectors `[n, dim]`, updated_at (epoch ms)."""


def embeddings(live: list[Part], gone: list[Part], version: int) -> pa.RecordBatch:
    """`EMBEDDINGS` rows of what lives, then tombstones; vectors are of fixed size."""
    parts = live + gone
    entity = [name for name, ids, _, _ in parts for _ in ids]
    vectors = np.concatenate([vector for _, _, vector, _ in parts])
    times = np.concatenate([np.full(len(ids), at, np.int64) for _, ids, _, at in parts])
    deleted = np.arange(len(entity)) >= sum(len(ids) for _, ids, _, _ in live)
    dim = vectors.shape[1]
    values = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
    field = pa.field("embedding", pa.list_(pa.float32(), dim), nullable=False)
    schema = EMBEDDINGS.set(EMBEDDINGS.get_field_index("embedding"), field)
    return pa.RecordBatch.from_arrays(
        [
            pa.array(entity, pa.string()),
            pa.array([name for _, ids, _, _ in parts for name in ids], pa.string()),
            pa.FixedSizeListArray.from_arrays(values, dim),
            pa.array(np.full(len(entity), version), pa.int64()),
            pa.array(times).cast(schema.field("updated_at").type),
            pa.array(deleted, pa.bool_()),
        ],
        schema=schema,
    )
