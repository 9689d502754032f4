"""Stopping a job with a savepoint: what is asked of Flink, and what its answers come to."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from flink_rest import serving

from pipelines.cli.local import savepoint
from pipelines.errors import JobError, RequestError
from pipelines.local import Stopped, stop_with_savepoint


class Flink:
    """What it answers, and what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.jobs: dict[str, list[str]] = {}  # states, one an answer; the last one stays
        self.asked: list[tuple[str, Any]] = []
        self.pending = 1
        self.done: dict[str, Any] = {"location": "file:/savepoints/s-1"}

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/jobs":
            return 200, {"jobs": [self._job(job, states) for job, states in self.jobs.items()]}
        if method == "GET":
            self.pending -= 1
            state = "COMPLETED" if self.pending < 0 else "IN_PROGRESS"
            return 200, {"status": {"id": state}, "operation": self.done}
        self.asked.append((path, body))
        if self.done == {}:
            return 400, {"errors": ["Config key [state.savepoints.dir] is not set."]}
        return 202, {"request-id": "r1"}

    def _job(self, job: str, states: list[str]) -> dict[str, str]:
        told = {"id": job, "status": states[0]}
        del states[: len(states) > 1]
        return told


@pytest.fixture
def flink() -> Iterator[Flink]:
    answers = Flink()
    with serving(answers) as answers.address:
        yield answers


def test_the_one_job_is_stopped_and_waited_for(flink: Flink) -> None:
    flink.jobs = {"old": ["FINISHED"], "j1": ["RUNNING", "CANCELLING", "CANCELED"]}
    assert stop_with_savepoint(flink.address) == Stopped("j1", "file:/savepoints/s-1")
    assert flink.asked == [("/jobs/j1/savepoints", {"cancel-job": True})]
    assert flink.jobs["j1"] == ["CANCELED"]


def test_a_job_may_go_on_behind_its_savepoint(flink: Flink) -> None:
    flink.jobs = {"j1": ["RUNNING"], "j2": ["RUNNING"]}
    assert stop_with_savepoint(flink.address, "j2", keep_running=True).job == "j2"
    assert flink.asked == [("/jobs/j2/savepoints", {"cancel-job": False})]


@pytest.mark.parametrize(
    ("jobs", "job", "words"),
    [
        ({}, None, "0 jobs run on .*nothing to stop"),
        ({"j1": ["FINISHED"]}, None, "0 jobs run"),
        ({"j1": ["RUNNING"], "j2": ["RESTARTING"]}, None, "2 jobs run.*--job: j1, j2"),
        ({"j1": ["RUNNING"]}, "j9", "no job j9 runs.*there are: j1"),
    ],
)
def test_which_job_has_to_be_clear(flink: Flink, jobs: dict, job: str | None, words: str) -> None:
    flink.jobs = {name: list(states) for name, states in jobs.items()}
    with pytest.raises(RequestError, match=words):
        stop_with_savepoint(flink.address, job)
    assert flink.asked == []


def test_a_savepoint_that_fails_says_why(flink: Flink) -> None:
    flink.jobs, flink.done = {"j1": ["RUNNING"]}, {"failure-cause": {"class": "NotAllRunning"}}
    with pytest.raises(JobError, match=r"j1 failed \(NotAllRunning\); the job goes on"):
        stop_with_savepoint(flink.address)


def test_what_flink_refuses_is_told(flink: Flink) -> None:
    flink.jobs, flink.done = {"j1": ["RUNNING"]}, {}
    with pytest.raises(JobError, match=r"refused .*state\.savepoints\.dir"):
        stop_with_savepoint(flink.address)


def test_a_savepoint_that_takes_too_long_is_given_up(flink: Flink) -> None:
    flink.jobs, flink.pending = {"j1": ["RUNNING"]}, 1_000_000
    with pytest.raises(JobError, match=r"took over 0 s.*--timeout"):
        stop_with_savepoint(flink.address, timeout_s=0)


def test_the_command_prints_what_the_next_run_needs(flink: Flink) -> None:
    flink.jobs = {"j1": ["RUNNING", "CANCELED"]}
    told = CliRunner().invoke(savepoint, ["--flink", flink.address])
    assert told.exit_code == 0
    assert "--savepoint_path=file:/savepoints/s-1" in told.stdout
    flink.jobs = {"j1": ["RUNNING"]}
    told = CliRunner().invoke(savepoint, ["--flink", flink.address, "--keep-running", "--json"])
    answer = json.loads(told.stdout)
    assert answer == {"job": "j1", "savepoint": "file:/savepoints/s-1", "stopped": False}
