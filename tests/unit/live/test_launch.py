"""How a live job's end is taken."""

from pathlib import Path
from typing import Any

import pytest
from apache_beam.runners.runner import PipelineState

from models.store.store import Store
from pipelines.bounded.between_runs.run_state import RunState
from pipelines.bounded.between_runs.store_compatibility import summary
from pipelines.errors import JobError
from pipelines.live.launch import _counted, _wait


class Result:
    """A pipeline that ends in this way."""

    def __init__(self, end: Any) -> None:
        self.end, self.cancelled = end, False

    def wait_until_finish(self) -> Any:
        if isinstance(self.end, BaseException):
            raise self.end
        return self.end

    def cancel(self) -> None:
        self.cancelled = True


def test_a_stream_that_ends_and_one_that_is_interrupted() -> None:
    assert _wait(Result(PipelineState.DONE)) is False
    interrupted = Result(KeyboardInterrupt())
    assert _wait(interrupted) is False
    assert interrupted.cancelled


def test_a_job_that_was_stopped_on_its_cluster_is_no_failure() -> None:
    assert (
        _wait(Result(RuntimeError("…client.JobCancellationException: Job was cancelled."))) is True
    )


def test_a_job_that_a_new_jobmanager_does_not_know_is_named_with_the_way_on() -> None:
    lost = RuntimeError("FAILED: [ … FlinkJobNotFoundException: Could not find Flink job (1)")
    with pytest.raises(JobError, match=r"no longer knows the job.*--savepoint_path"):
        _wait(Result(lost))


def test_any_other_end_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="odd"):
        _wait(Result(RuntimeError("odd")))
    with pytest.raises(JobError, match="ended as FAILED"):
        _wait(Result(PipelineState.FAILED))


def test_what_a_cluster_has_forgotten_is_null_and_never_0(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    store.create({})
    told = summary(store, {"rows": 5}, RunState())
    assert [told[name] for name in ("read", "valid", "duplicates", "dead")] == [None] * 4
    assert told["rows"] == 5
    counted = {"rows": 5, "read": 9, "valid": 8, "dead_bad_json": 1}
    told = summary(store, counted, RunState())
    assert (told["read"], told["valid"], told["dead"]) == (9, 8, {"bad_json": 1})


def test_a_cluster_that_cannot_be_asked_told_nothing() -> None:
    assert _counted(Result(PipelineState.CANCELLED), ended=False) == {}
