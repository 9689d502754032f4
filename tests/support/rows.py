"""Feature rows made by hand, for tests that need some and do not care how they came about."""

import numpy as np
import pyarrow as pa

from pipelines.features.rows import ROWS, FeatureRows
from pipelines.schema import CONTEXT, EVENT_TYPES

MINUTE = 60_000


def feature_rows(n: int, *, users: int = 7, items: int = 11, per_window: int = 4, seed: int = 0):
    """`n` rows in windows of a minute: a like of some user on some item in each."""
    random = np.random.default_rng(seed)
    window = np.arange(n) // per_window * MINUTE + 1_600_000_020_000 // MINUTE * MINUTE
    columns = {
        "user_id": pa.array([f"u{(i * 3) % users}" for i in range(n)]),
        "item_id": pa.array([f"i{k}" for k in random.integers(0, items, n)]),
        "window_start": pa.array(window),
        "window_end": pa.array(window + MINUTE),
        "anchor_time": pa.array(window + 1_000),
        "n_like": pa.array(np.ones(n, np.int32)),
        "confidence": pa.array(np.full(n, 2.0)),
        "revision": pa.array(np.arange(n) % per_window, pa.int32()),
        "context": pa.array([[("device", "phone")] if i % 2 else None for i in range(n)], CONTEXT),
        "history_start": pa.array(np.zeros(n, np.int32)),
        "history_end": pa.array((np.arange(n) % 3).astype(np.int32)),
        **{f"n_{t}": pa.array(np.zeros(n, np.int32)) for t in EVENT_TYPES if t != "like"},
    }
    arrays = []
    for field in ROWS:
        if field.name in columns:
            arrays.append(columns[field.name].cast(field.type))
        elif field.nullable:
            arrays.append(pa.nulls(n, field.type))
        else:
            arrays.append(pa.array(np.zeros(n)).cast(field.type))
    timeline = pa.record_batch(
        {
            "item": pa.array(["i1", "i2"]).dictionary_encode(),
            "type": pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), ["like", "view"]),
            "time": pa.array([1_500_000_000_000, 1_500_000_001_000], pa.timestamp("ms", "UTC")),
        }
    )
    return FeatureRows(pa.RecordBatch.from_arrays(arrays, schema=ROWS), timeline)
