"""Feature rows from short scripts of events, by the slow oracle."""

from collections.abc import Iterable

import pyarrow as pa
from oracle import feature_rows, to_batch

from pipelines.config import FeatureConfig
from pipelines.schema import EVENTS

START = 1_700_000_000_000 // 60_000 * 60_000
MINUTE = 60_000


def event(number: int, user: str, item: str, second: float, kind: str = "like", **more) -> dict:
    blank = dict.fromkeys(EVENTS.names)
    return blank | {
        "event_id": f"e{number:06d}",
        "user_id": user,
        "item_id": item,
        "event_type": kind,
        "event_time": START + int(second * 1_000),
        **more,
    }


def rows(events: Iterable[dict]) -> pa.RecordBatch:
    return to_batch(feature_rows(list(events), FeatureConfig()))


def batches(events: Iterable[dict], minutes: int = 10) -> list[pa.RecordBatch]:
    """Rows by windows of event time, each in the order of anchors."""
    table = pa.Table.from_batches([rows(events)]).sort_by(
        [("window_end", "ascending"), ("anchor_time", "ascending"), ("user_id", "ascending")]
    )
    cut: dict[int, list[int]] = {}
    for index, end in enumerate(table["window_end"].cast(pa.int64()).to_pylist()):
        cut.setdefault((end - START) // (minutes * MINUTE), []).append(index)
    return [table.take(pa.array(part)).combine_chunks().to_batches()[0] for part in cut.values()]
