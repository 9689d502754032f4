"""Feature rows from events: dwell and interval arithmetic on whole columns.

Arrow in, Arrow out, no Beam. Two halves that can also be used apart::

    events ──► observe ──► observations ──► aggregate ──► rows
               what became known, when,     one row per user,
               and what came before         item and window
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.arrow.columns import Ints, encode_map, nullable, run_starts
from pipelines.arrow.ipc import concat
from pipelines.config import ConfidenceWeights, FeatureConfig
from pipelines.features.observations import NONE, Observations, observe, read_log
from pipelines.features.rows import ROWS, TIMELINE, FeatureRows
from pipelines.features.windows import NO_WINDOW, Layer, layers
from pipelines.schema import EVENT_TYPES, TIMESTAMP

__all__ = ["FeatureRows", "aggregate", "compute", "observe"]

PURCHASE, RATING = EVENT_TYPES.index("purchase"), EVENT_TYPES.index("rating")


def compute(events: pa.RecordBatch, config: FeatureConfig) -> FeatureRows:
    """Valid events without duplicates (EVENTS `[n]`, any order) → their rows.

    The rows stand in the order (user_id, item_id, window) within each layer of windows.
    """
    return aggregate(observe(read_log(events), config), config)


def aggregate(
    seen: Observations, config: FeatureConfig, ended: tuple[int, int] | None = None
) -> FeatureRows:
    """Observations → one row per user, item and window that holds any of them.

    With `ended`, only windows that end after its first instant and not after its second
    (ms since the epoch); not for sessions.
    """
    log = seen.log
    known_at = log.time + np.maximum(seen.observed, 0)
    timeline = _timeline(seen)
    cuts = layers(
        config.window,
        user=log.user,
        time=log.time,
        known_at=known_at,
        counted=~log.memory,
        ended=ended,
    )
    parts = [_rows(seen, _group(seen, layer), layer, config) for layer in cuts]
    return FeatureRows(parts[0] if len(parts) == 1 else concat(parts, ROWS), timeline)


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """Observations gathered into `r` rows; positions are those of the log.

    Attributes:
        event, event_row: `[k]` counted events, in (user, item, user) order, and their rows.
        dwell, dwell_row: `[d]` events whose dwell was observed, and the rows it belongs to.
        anchor: `[r]` position of the anchor.
        window: `[r]` number of the window.
    """

    event: Ints
    event_row: Ints
    dwell: Ints
    dwell_row: Ints
    anchor: Ints
    window: Ints


def _group(seen: Observations, layer: Layer) -> _Groups:
    """Lay events and observed dwells in one sequence and cut it where a row begins.

    The dwell of an event is observed no later than the user's next event, so in the order
    of the items each dwell stands right behind its event and windows never go back.
    """
    log, by_item = seen.log, seen.by_item
    present = np.empty((len(by_item), 2), bool)
    present[:, 0] = (~log.memory & (layer.of_event != NO_WINDOW))[by_item]
    present[:, 1] = ((seen.observed != NONE) & (layer.of_dwell != NO_WINDOW))[by_item]
    entry = np.flatnonzero(present.ravel())
    position, is_dwell = by_item[entry >> 1], (entry & 1).astype(bool)
    window = np.where(is_dwell, layer.of_dwell[position], layer.of_event[position])
    begins = run_starts(log.user[position], log.item[position], window)
    row = np.cumsum(begins) - 1
    first = np.flatnonzero(begins)
    # Only an observed dwell of an earlier window can stand before a row's first event.
    after = np.minimum(first + 1, max(len(entry) - 1, 0))
    first_event = np.where(is_dwell[first] & ~begins[after], after, first)
    events, dwells = np.flatnonzero(~is_dwell), np.flatnonzero(is_dwell)
    return _Groups(
        event=position[events],
        event_row=row[events],
        dwell=position[dwells],
        dwell_row=row[dwells],
        anchor=position[first_event],
        window=window[first],
    )


def _rows(
    seen: Observations, groups: _Groups, layer: Layer, config: FeatureConfig
) -> pa.RecordBatch:
    log, anchor = seen.log, groups.anchor
    start, end = layer.bounds(groups.window)
    counts, measures = _measure(seen, groups)
    columns = {
        "user_id": pa.DictionaryArray.from_arrays(pa.array(log.user[anchor]), log.users),
        "item_id": pa.DictionaryArray.from_arrays(pa.array(log.item[anchor]), log.items),
        "window_start": _times(start),
        "window_end": _times(end),
        **{f"n_{name}": pa.array(counts[i]) for i, name in enumerate(EVENT_TYPES)},
        **measures,
        "anchor_time": _times(log.time[anchor]),
        "since_event_ms": _durations(seen.since_event[anchor]),
        "since_item_ms": _durations(seen.since_item[anchor]),
        "since_purchase_ms": _durations(seen.since_purchase[anchor]),
        "purchase_interval_ms": _floats(seen.interval[anchor]),
        "confidence": pa.array(
            _confidence(counts, measures["dwell_ms_sum"].to_numpy(), config.confidence)
        ),
        "platform": _take_strings(log.platform, log.source[anchor]),
        "context": _take_maps(log.context, log.source[anchor]),
        "revision": pa.array(np.zeros(len(anchor), np.int32)),
        "history_start": pa.array(seen.history_start[anchor].astype(np.int32)),
        "history_end": pa.array(seen.history_end[anchor].astype(np.int32)),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in ROWS.names], names=ROWS.names)


def _measure(
    seen: Observations, groups: _Groups
) -> tuple[list[npt.NDArray[np.int32]], dict[str, pa.Array]]:
    """Counts by type, `[r]` each; dwell, rating and purchase columns, `[r]` each."""
    log, rows = seen.log, len(groups.anchor)
    kind, row = log.kind[groups.event], groups.event_row
    counts = [_count(row[kind == code], rows) for code in range(len(EVENT_TYPES))]

    given = log.dwell[groups.event] != NONE
    where = np.concatenate([row[given], groups.dwell_row])
    dwell = np.concatenate([log.dwell[groups.event[given]], seen.observed[groups.dwell]])
    longest = np.full(rows, NONE)
    np.maximum.at(longest, where, dwell)
    # Whole milliseconds, a day at most: exact in a double up to 100 million events a row.
    total = np.bincount(where, weights=dwell, minlength=rows).astype(np.int64)

    value = log.value[groups.event]
    rated, bought = kind == RATING, kind == PURCHASE
    rating = np.full(rows, np.nan)
    rating[row[rated]] = value[rated]  # of several, the last one stays
    spent = np.bincount(row[bought], weights=np.nan_to_num(value[bought]), minlength=rows)
    return counts, {
        "n_dwell": pa.array(_count(where, rows)),
        "dwell_ms_sum": pa.array(total),
        "dwell_ms_max": _durations(longest),
        "rating": _floats(rating),
        "purchase_value": pa.array(spent.astype(np.float64)),  # an empty bincount is of integers
    }


def _count(row: Ints, rows: int) -> npt.NDArray[np.int32]:
    return np.bincount(row, minlength=rows).astype(np.int32)


def _confidence(
    counts: list[npt.NDArray[np.int32]], dwell_ms: Ints, weights: ConfidenceWeights
) -> npt.NDArray[np.float64]:
    total: npt.NDArray[np.float64] = 1 + weights.dwell * np.log1p(dwell_ms / 1000)
    for name, count in zip(EVENT_TYPES, counts, strict=True):
        weight = getattr(weights, name)
        if weight:
            total += weight * count
    return total


def _times(values: Ints) -> pa.Array:
    return pa.array(values).view(TIMESTAMP)


def _durations(values: Ints) -> pa.Array:
    return nullable(values, values != NONE)


def _floats(values: npt.NDArray[np.float64]) -> pa.Array:
    return nullable(values, ~np.isnan(values))


def _take_strings(column: pa.Array, index: Ints) -> pa.Array:
    if column.null_count == len(column):
        return pa.nulls(len(index), pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.take(pa.array(index))


def _take_maps(column: pa.Array, index: Ints) -> pa.Array:
    if column.null_count == len(column):
        return pa.nulls(len(index), pa.map_(pa.string(), pa.string()))
    return encode_map(column).take(pa.array(index))


def _timeline(seen: Observations) -> pa.RecordBatch:
    log, past = seen.log, seen.past
    names = pa.array(EVENT_TYPES)
    columns = [
        pa.DictionaryArray.from_arrays(pa.array(log.item[past]), log.items),
        pa.DictionaryArray.from_arrays(pa.array(log.kind[past]), names),
        _times(log.time[past]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TIMELINE)
