"""The whole bounded job on one screen: from a log of events to published versions."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.config import JobConfig
from pipelines.finetune import TRAINER

__all__ = ["RunRequest", "run_job"]

_log = logging.getLogger("rillet")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What `rillet run` was asked to do."""

    events: tuple[str, ...]
    items: str | None
    users: str | None
    store: Path
    config: JobConfig
    predictions: Path | None
    beam_args: tuple[str, ...]
    now_ms: int
    trainer: str = TRAINER
    monotonic: Callable[[], float] = time.monotonic


def run_job(request: RunRequest) -> dict[str, Any]:
    """Run to the end of the events; what is printed as one line of JSON.

    Raises:
        RequestError: the request was wrong (sources, store, configuration);
            the store is as it was.
        JobError: the job failed; what it had committed stays.
    """
    raise NotImplementedError
