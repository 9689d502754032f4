"""Stop a job on Flink with a savepoint, from which another run goes on."""

import time
from dataclasses import dataclass

from pipelines.errors import JobError, RequestError
from pipelines.local.flink_rest import ask

__all__ = ["Stopped", "running_jobs", "stop_with_savepoint"]


_ALIVE = {"RUNNING", "RESTARTING", "CANCELLING"}


@dataclass(frozen=True)
class Stopped:
    """A job that was stopped, and where its savepoint lies (`--savepoint_path`)."""

    job: str
    savepoint: str


def running_jobs(master: str) -> list[str]:
    """Ids of the jobs that run on the Flink whose REST interface is `host:port`.

    Raises:
        RequestError: it does not answer.
    """
    jobs = ask(master, "/jobs")["jobs"]
    return [job["id"] for job in jobs if job["status"] in _ALIVE]


def stop_with_savepoint(
    master: str, job: str | None = None, *, keep_running: bool = False, timeout_s: float = 120.0
) -> Stopped:
    """Take a savepoint and cancel the job behind it: nothing is done twice or left out.

    Args:
        master: `host:port` of Flink's REST interface.
        job: which one; None: the only one that runs.
        keep_running: take the savepoint only.
        timeout_s: how long the savepoint may take.

    Raises:
        RequestError: there is no such job, or there are several.
        JobError: Flink refused it, or the savepoint failed; the job goes on.
    """
    jobs = running_jobs(master)
    if job is None:
        if len(jobs) != 1:
            cure = f"name one with --job: {', '.join(jobs)}" if jobs else "there is nothing to stop"
            raise RequestError(f"{len(jobs)} jobs run on the Flink at {master}; {cure}")
        job = jobs[0]
    elif job not in jobs:
        raise RequestError(
            f"no job {job} runs on the Flink at {master}; there are: {', '.join(jobs) or 'none'}"
        )
    asked = ask(master, f"/jobs/{job}/savepoints", {"cancel-job": not keep_running})
    path = f"/jobs/{job}/savepoints/{asked['request-id']}"
    deadline = time.monotonic() + timeout_s
    while (told := ask(master, path))["status"]["id"] != "COMPLETED":
        if time.monotonic() > deadline:
            raise JobError(
                f"the savepoint of job {job} took over {timeout_s:.0f} s; allow more with "
                "--timeout, and see whether its checkpoints succeed in Flink's web page"
            )
        time.sleep(0.2)
    done = told["operation"]
    if "location" not in done:
        cause = str(done.get("failure-cause", {}).get("class", done))
        raise JobError(f"the savepoint of job {job} failed ({cause}); the job goes on")
    while not keep_running and job in running_jobs(master) and time.monotonic() < deadline:
        time.sleep(0.2)  # a run that goes on from here must find the store free
    return Stopped(job, done["location"])
