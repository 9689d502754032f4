"""A letter about a late event holds the event, so that it can be read again."""

import json

import pyarrow as pa

from pipelines.clean.too_late import too_late
from pipelines.read.parse.event_rules import Event, parse_line
from pipelines.schema import DEAD_LETTERS, EVENTS

NOW = 1_750_000_000_000

LATE = {
    "event_id": "e",
    "user_id": "ü",
    "item_id": "i",
    "event_type": "view",
    "event_time": NOW - 7_200_001,
    "dwell_ms": 5,
    "context": {"device": "phone", "hour": "6"},
}


def test_the_payload_reads_as_the_event_it_was():
    batch = pa.RecordBatch.from_pylist([LATE], schema=EVENTS)
    letters = too_late(batch, NOW)
    assert letters.schema.equals(DEAD_LETTERS)
    read, extra = parse_line(letters.column("payload")[0].as_py(), NOW)
    assert (read, extra) == parse_line(json.dumps(LATE).encode(), NOW)
    assert isinstance(read, Event)


def test_the_detail_is_in_times_that_people_read():
    letters = too_late(pa.RecordBatch.from_pylist([LATE], schema=EVENTS), NOW)
    # 1,750,000,000 s = 2025-06-15 15:06:40; two hours and a millisecond before: 13:06:39.999
    detail = letters.column("detail")[0].as_py()
    assert "got 2025-06-15T13:06:39.999" in detail
    assert "2h behind what was reached 2025-06-15T15:06:40+00:00" in detail
    assert "allowed_lateness" in detail
