"""Micro-batches and catalogues made up in memory: what training costs does not depend on sense."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.schema import EVENT_TYPES, FEATURES, ITEMS, TIMESTAMP, USERS

__all__ = ["feature_rows", "items_table", "names", "users_table"]

START_MS = 1_700_000_000_000
TYPES = np.array(["click", "view", "like"])
WORDS = 5_000


def names(prefix: str, numbers: np.ndarray) -> pa.Array:
    """`prefix` and a number each."""
    return pc.binary_join_element_wise(prefix, pa.array(numbers).cast(pa.string()), "")


def popular(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """`[size]` of 0 … n - 1, the k-th about as often as 1/k (Zipf's law)."""
    return np.minimum(np.exp(rng.random(size) * np.log(n + 1)) - 1, n - 1).astype(np.int64)


def feature_rows(
    rng: np.random.Generator,
    number: int,
    user: np.ndarray,
    item: np.ndarray,
    items: int,
    history: int = 32,
    batch_ms: int = 600_000,
    stride: int = 1,
) -> pa.RecordBatch:
    """Micro-batch `number`, schema `FEATURES`: a click with its dwell by `user[i]` on `item[i]`.

    Histories are of 0 to `history` events with items out of `items`, whose numbers are
    multiples of `stride`; a row has a platform and two context entries; batch k spans the
    k-th `batch_ms` of event time.
    """
    n = len(user)
    at = START_MS + number * batch_ms + np.sort(rng.integers(0, batch_ms, n))
    starts = at // 60_000 * 60_000
    sizes = rng.integers(0, history + 1, n)
    ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)

    def lists(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(ends), values)

    dwell = rng.integers(1_000, 60_000, n)
    hours, devices = names("", at // 3_600_000 % 24), names("device", rng.integers(0, 3, n))
    keys = pa.array(np.tile(["hour", "device"], n))
    order = np.arange(2 * n).reshape(2, n).T.ravel()
    values = pa.concat_arrays([hours, devices]).take(pa.array(order))
    context = pa.MapArray.from_arrays(pa.array(np.arange(n + 1, dtype=np.int32) * 2), keys, values)
    columns = {
        "user_id": names("user", user),
        "item_id": names("item", item),
        "window_start": pa.array(starts),
        "window_end": pa.array(starts + 60_000),
        **{f"n_{kind}": pa.array(np.full(n, kind == "click", np.int32)) for kind in EVENT_TYPES},
        "n_dwell": pa.array(np.ones(n, np.int32)),
        "dwell_ms_sum": pa.array(dwell),
        "dwell_ms_max": pa.array(dwell),
        "purchase_value": pa.array(np.zeros(n)),
        "anchor_time": pa.array(at),
        "since_event_ms": pa.array(rng.integers(1_000, 10**8, n)),
        "history_items": lists(names("item", stride * popular(rng, items, int(ends[-1])))),
        "history_types": lists(pa.array(TYPES[rng.integers(0, len(TYPES), int(ends[-1]))])),
        "history_age_ms": lists(pa.array(np.sort(rng.integers(0, 10**8, int(ends[-1])))[::-1])),
        "confidence": pa.array(np.ones(n)),
        "platform": pa.array(np.full(n, "web")),
        "context": context,
        "revision": pa.array(np.zeros(n, np.int32)),
    }
    absent = {f.name: pa.nulls(n, f.type) for f in FEATURES if f.name not in columns}
    return pa.RecordBatch.from_arrays(
        [(columns | absent)[field.name].cast(field.type) for field in FEATURES], schema=FEATURES
    )


def items_table(rng: np.random.Generator, items: int) -> pa.Table:
    """`ITEMS` 0 … items - 1, each with six words, a category and a length."""
    words = names("word", popular(rng, WORDS, 6 * items)).to_numpy(zero_copy_only=False)
    titles = pa.array([" ".join(row) for row in words.reshape(items, 6)], pa.string())
    category = names("kind", rng.integers(0, 20, items))
    return pa.table(
        {
            "item_id": names("item", np.arange(items)),
            "title": titles,
            "text": pa.nulls(items, pa.string()),
            "categories": pa.ListArray.from_arrays(
                pa.array(np.arange(items + 1, dtype=np.int32)), category
            ),
            "duration_ms": pa.array(rng.integers(10_000, 600_000, items)),
            "published_at": pa.nulls(items, TIMESTAMP),
        },
        schema=ITEMS,
    )


def users_table(rng: np.random.Generator, users: int) -> pa.Table:
    """`USERS` 0 … users - 1, each with three attributes."""
    keys = pa.array(np.tile(["country", "age", "plan"], users))
    values = names("", rng.integers(0, 30, 3 * users))
    ends = pa.array(np.arange(users + 1, dtype=np.int32) * 3)
    attributes = pa.MapArray.from_arrays(ends, keys, values)
    return pa.table(
        {"user_id": names("user", np.arange(users)), "attributes": attributes}, schema=USERS
    )
