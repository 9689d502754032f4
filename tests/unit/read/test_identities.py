"""One person on several platforms has one user_id."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.bounded.features_job import run_features
from pipelines.config import JobConfig
from pipelines.errors import SourceError
from pipelines.read.identities import read_identities
from pipelines.schema import EVENTS

NOW = 1_700_000_600_000


def event(number: int, user: str, platform: str | None) -> dict[str, Any]:
    return {
        "event_id": str(number),
        "user_id": user,
        "item_id": "i",
        "event_type": "view",
        "event_time": NOW - 1_000 + number,
        "platform": platform,
    }


def people(tmp_path: Path, text: str) -> str:
    path = tmp_path / "people.csv"
    path.write_text(text)
    return str(path)


def test_a_line_of_the_platform_goes_before_one_of_any(tmp_path):
    who = read_identities(
        people(tmp_path, "user_id,person_id,platform\n7,ann,web\n7,bob,\ne1,ann,app\n")
    )
    events = [event(0, "7", "web"), event(1, "7", "tv"), event(2, "7", None), event(3, "x", "app")]
    batch = pa.RecordBatch.from_pylist([*events, event(4, "e1", "app")], schema=EVENTS)
    joined, number = who.join(batch)
    assert joined.column("user_id").to_pylist() == ["ann", "bob", "bob", "x", "ann"]
    assert number == 4
    assert joined.schema == batch.schema


def test_events_of_all_platforms_are_one_users_row(tmp_path):
    log = [event(0, "7", "web"), event(1, "e1", "app"), event(2, "other", "app")]
    pq.write_table(pa.Table.from_pylist(log, schema=EVENTS), tmp_path / "log.parquet")
    file = people(tmp_path, "person_id,user_id\nann,7\nann,e1\n")
    job = JobConfig(identities=file)
    summary = run_features([str(tmp_path / "log.parquet")], tmp_path / "out", job, [], NOW)
    assert summary["joined"] == 2
    rows = pq.read_table(tmp_path / "out" / "features").to_pylist()
    assert sorted((row["user_id"], row["n_view"]) for row in rows) == [("ann", 2), ("other", 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("user_id,person\n7,ann\n", "lacks the column person_id"),
        ("user_id,person_id\n7,ann\n7,bob\n", "is both 'ann' and 'bob'"),
        ("user_id,person_id\n7,\n", "person_id is empty"),
        ("user_id,person_id\n7\n", "line 2"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(tmp_path, text, words):
    with pytest.raises(SourceError) as caught:
        read_identities(people(tmp_path, text))
    assert words in str(caught.value)
