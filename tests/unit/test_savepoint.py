"""Stopping a job with a savepoint: what is asked of Flink, and what its answers come to."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.cli.services import savepoint
from pipelines.errors import JobError, RequestError
from pipelines.local import Stopped, stop_with_savepoint


class Flink(ThreadingHTTPServer):
    """Its REST interface, as far as it is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.jobs: dict[str, list[str]] = {}  # states, one an answer; the last one stays
        self.asked: list[tuple[str, Any]] = []
        self.pending = 1
        self.done: dict[str, Any] = {"location": "file:/savepoints/s-1"}

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: Flink

    def log_message(self, *_: Any) -> None: ...

    def _say(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        flink = self.server
        if self.path == "/jobs":
            told = []
            for job, states in flink.jobs.items():
                told.append({"id": job, "status": states[0]})
                del states[: len(states) > 1]
            self._say({"jobs": told})
            return
        flink.pending -= 1
        state = "COMPLETED" if flink.pending < 0 else "IN_PROGRESS"
        self._say({"status": {"id": state}, "operation": flink.done})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        if self.server.done == {}:
            self._say({"errors": ["Config key [state.savepoints.dir] is not set."]}, 400)
            return
        self._say({"request-id": "r1"}, 202)


@pytest.fixture
def flink() -> Iterator[Flink]:
    with Flink() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


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
    flink.jobs = jobs
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
