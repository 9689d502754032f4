"""What a stream knows of the runs on files before it."""

from pathlib import Path

import pyarrow as pa

from pipelines.bounded.between_runs.run_state import RunState, save_run_state
from pipelines.config import FeatureConfig
from pipelines.live.state.start_state import StartState
from pipelines.schema import EVENTS

MINUTE = 60_000
CONFIG = FeatureConfig(window="fixed:60s", shards=1)


def event(at: int) -> pa.RecordBatch:
    blank = dict.fromkeys(EVENTS.names) | {"user_id": "u", "item_id": "i", "event_type": "like"}
    return pa.RecordBatch.from_pylist([blank | {"event_id": f"{at}", "event_time": at}], EVENTS)


def test_a_window_that_was_told_ahead_of_the_frontier_is_revised(tmp_path: Path) -> None:
    start = 1_000_000 * MINUTE
    frontier, ahead = start + 2 * MINUTE, start + 600 * MINUTE
    (tmp_path / "state").mkdir()
    save_run_state(tmp_path / "state", RunState(frontier=frontier, revisions={ahead: 0}))
    users = StartState(CONFIG, tmp_path / "state").users(0)
    told = {}
    for end in (frontier, frontier + MINUTE, ahead, ahead + MINUTE):
        users.wait(event(end - 1))
        (rows,) = users.fire(end)[0]
        told[end] = rows.rows.column("revision").to_pylist()
    assert told == {frontier: [1], frontier + MINUTE: [0], ahead: [1], ahead + MINUTE: [0]}
