"""A job on a stream in a process of its own, with settings of its own.

As a program: `live_job.py EVENTS STORE SETTINGS TRAINER BEAM…` runs the job with these settings
(JSON) over those of `stream.JOB`, and prints its summary, or one line that says why not.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipelines.errors import RequestError, RilletError
from tests.integration import stream
from tests.support.fake_trainer import FakeTrainer

COUNTING = "tests.support.fake_trainer:FakeTrainer"


class Refusing(FakeTrainer):
    """Cannot be made, and says what to do."""

    def __init__(self, *_: Any) -> None:
        raise RequestError("the trainer wants 9 wheels, there are 4: give it 9")


def settings(**features: Any) -> dict[str, Any]:
    """The job's settings with other ones for features."""
    return {**stream.JOB, "features": {**stream.JOB["features"], **features}}


def start(
    events: str,
    store: Path,
    *beam: str,
    log: Path,
    job: dict[str, Any] | None = None,
    trainer: str = COUNTING,
) -> subprocess.Popen:
    """The job, in the background; its output goes to `log`."""
    argv = [events, str(store), json.dumps(job or settings()), trainer, *beam]
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__)), *argv],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=stream.REPOSITORY,
        )


def finish(events: str, store: Path, *beam: str, log: Path, **more: Any) -> dict[str, Any]:
    """The job to its end; its summary."""
    return stream.finish(start(events, store, *beam, log=log, **more), log, 300)


def main() -> int:
    from pipelines.config import JobConfig
    from pipelines.job import RunRequest, run_job

    events, store, job, trainer, *beam = sys.argv[1:]
    request = RunRequest(
        events=(events,),
        items=None,
        users=None,
        store=Path(store),
        config=JobConfig.model_validate_json(job),
        predictions=None,
        beam_args=tuple(beam),
        now_ms=time.time_ns() // 1_000_000,
        trainer=trainer,
    )
    try:
        print(json.dumps(run_job(request)))
    except RilletError as error:
        print(f"rillet: {error}")
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
