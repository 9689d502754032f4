"""Failures of a running job: told in one line each; those that come again and again end it."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
from flink_rest import serving

from models.store.store import Store
from pipelines.errors import JobError, StoreError
from pipelines.live.job_monitor import JobFailures, JobMonitor
from pipelines.live.store_check import StoreCheck

TRACE = """java.lang.Exception: a task failed
Caused by: java.lang.RuntimeException: Error received from SDK harness for instruction 7: \
Traceback (most recent call last):
  File "train.py", line 1, in setup
{last} [while running 'FineTune/Train']

\tat org.apache.beam.Harness(Harness.java:1)
"""
STORE = TRACE.format(last="models.errors.StoreError: no store at /x: give another")
VALUE = TRACE.format(last="ValueError: odd")
LOST = "org.apache.flink.util.FlinkException: TaskExecutor was lost"


def judged(*traces: str, every_s: int = 10) -> list[str]:
    """The error that each of them would end the job with, or nothing."""
    failures = JobFailures()
    return [
        str(failures.judge(trace, n * every_s * 1_000)[1] or "") for n, trace in enumerate(traces)
    ]


def test_a_wrong_request_ends_the_job_when_it_comes_back() -> None:
    failures = JobFailures()
    assert failures.judge(STORE, 0) == ("no store at /x: give another", None)
    line, error = failures.judge(STORE, 10_000)
    assert isinstance(error, StoreError)
    assert str(error) == line == "no store at /x: give another"


def test_a_machine_that_was_lost_never_does() -> None:
    assert judged(*[LOST] * 50) == [""] * 50
    assert JobFailures().judge(LOST, 0) == ("", None)
    # Nor does it make others forgotten: the store was missing before and after.
    assert judged(STORE, LOST, STORE)[-1] != ""


def test_any_other_error_has_five_chances_in_a_row() -> None:
    told = judged(*[VALUE] * 5)
    assert told[:4] == [""] * 4
    assert told[4].startswith("the job failed in step FineTune/Train: ValueError: odd")
    other = TRACE.format(last="ValueError: even")
    assert judged(*[VALUE, other] * 10) == [""] * 20


def test_failures_that_lie_far_apart_are_each_the_first() -> None:
    assert judged(*[VALUE] * 50, every_s=301) == [""] * 50
    assert judged(*[STORE] * 50, every_s=301) == [""] * 50


class Cluster:
    """A job that fails with these traces, newest first as Flink has them."""

    def __init__(self, *traces: str) -> None:
        self.entries = [
            {"timestamp": 1_000 + n, "stacktrace": trace} for n, trace in enumerate(traces)
        ][::-1]
        self.cancelled: list[str] = []

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/jobs/overview":
            names = {"old": ("rillet-1", "FINISHED"), "j": ("rillet-1", "RUNNING"), "k": ("x", "")}
            jobs = [{"jid": i, "name": n, "state": s} for i, (n, s) in names.items()]
            return 200, {"jobs": jobs}
        if method == "PATCH":
            self.cancelled.append(path)
            return 202, None
        assert path.startswith("/jobs/j/exceptions")
        return 200, {"exceptionHistory": {"entries": self.entries}}


def test_each_failure_is_told_once_and_the_job_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster(LOST, VALUE)
    with caplog.at_level(logging.WARNING, "rillet"), serving(cluster) as master:
        watch = JobMonitor(master, "rillet-1")
        watch.look()
        watch.look()
    first, second = (record.getMessage() for record in caplog.records)
    assert first == "the job starts again: a process or a machine was lost"
    assert "ValueError: odd" in second
    assert "\n" not in second
    assert watch.error is None
    assert cluster.cancelled == []


def test_the_job_is_cancelled_with_its_error() -> None:
    cluster = Cluster(STORE, LOST, STORE, VALUE)
    with serving(cluster) as master:
        watch = JobMonitor(master, "rillet-1")
        watch.look()
    assert isinstance(watch.error, StoreError)
    assert cluster.cancelled == ["/jobs/j?mode=cancel"]


def test_what_failed_beside_it_is_looked_at_too() -> None:
    cluster = Cluster(LOST, LOST)
    for entry in cluster.entries:
        entry["concurrentExceptions"] = [{"stacktrace": STORE}]
    with serving(cluster) as master:
        watch = JobMonitor(master, "rillet-1")
        watch.look()
    assert isinstance(watch.error, StoreError)


def test_a_thread_looks_until_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.live.job_monitor._EVERY_S", 0.0)
    with serving(Cluster(*[VALUE] * 5)) as master:
        watch = JobMonitor(master, "rillet-1")
        watch._follow()
    assert isinstance(watch.error, JobError)
    # Nobody answers: it looks again until it is closed.
    other = JobMonitor("127.0.0.1:1", "rillet-1")
    other.start()
    other.close()


# -- the door -----------------------------------------------------------------------------


def store(root: Path, *, window: str = "fixed:1s", dim: int = 8) -> Store:
    made = Store(root)
    made.create({"features": {"window": window}, "batch": {}, "model": {"dim": dim}})
    return made


def test_a_worker_that_sees_the_launchers_store_goes_in(tmp_path: Path) -> None:
    door = StoreCheck.of(store(tmp_path / "s"))
    door.check()
    shutil.rmtree(tmp_path / "s")
    store(tmp_path / "s", dim=16)  # retrained: another model, the same rows
    door.check()


def test_a_worker_that_sees_none_or_another_is_refused(tmp_path: Path) -> None:
    door = StoreCheck.of(store(tmp_path / "s"))
    shutil.rmtree(tmp_path / "s")
    with pytest.raises(StoreError, match=r"sees no store at .*/s: give a --store in a folder"):
        door.check()
    assert not (tmp_path / "s").exists()
    store(tmp_path / "s", window="fixed:2s")
    with pytest.raises(StoreError, match=r"sees another store at .*/s than the launcher"):
        door.check()
