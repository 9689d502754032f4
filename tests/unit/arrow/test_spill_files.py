"""Pieces in files are the same pieces."""

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import logs

from pipelines.arrow.hashing import hash_strings
from pipelines.arrow.ipc import concat
from pipelines.arrow.partition import split
from pipelines.arrow.spill_files import gather, spill
from pipelines.errors import JobError
from pipelines.schema import EVENTS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=logs(), shards=st.integers(1, 4))
def test_what_is_gathered_is_what_was_spilled(tmp_path, events, shards):
    batch = pa.RecordBatch.from_pylist(events, schema=EVENTS)
    pieces = list(split(batch, hash_strings(batch.column("user_id")), shards))
    places = list(spill(tmp_path, pieces))
    assert [number for number, _ in places] == [number for number, _ in pieces]
    direct = concat([piece for _, piece in pieces], EVENTS)
    assert gather([place for _, place in places], EVENTS).to_pylist() == direct.to_pylist()


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    with pytest.raises(JobError, match="No such file"):
        list(spill(tmp_path / "gone", []))
