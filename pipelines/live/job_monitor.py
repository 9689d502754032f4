"""What Flink says of a running job: its failures are told, and those that would come again end it.

Flink starts a job again after every failure. That is right for a machine that
died, and wrong for a store that is not there: the launcher reads what failed
from Flink's REST interface, says it in one line, and ends the job when a worker
fails with the same line again and again.
"""

import logging
import threading
from dataclasses import dataclass, field
from typing import Any

from pipelines.errors import RequestError, RilletError, explain
from pipelines.local import ask

__all__ = ["JobFailures", "JobMonitor"]

_log = logging.getLogger("rillet")

_OFTEN = {True: 2, False: 5}
"""How often the same line in a row ends a job: what was asked for is wrong, or anything else."""

_APART_MS = 300_000
"""Failures further apart than this have nothing to do with each other: the job had run between."""

_EVERY_S = 2.0


@dataclass
class JobFailures:
    """The failures of a job, one after another."""

    _line: str = ""
    _times: int = 0
    _last_ms: int = 0

    def judge(self, trace: str, at_ms: int) -> tuple[str, RilletError | None]:
        """(What happened in one line, the error that the job should end with or None).

        Args:
            trace: as Flink has it. One without a Python trace tells of a machine or a
                process that died; it is empty here, and ends nothing.
            at_ms: when, epoch milliseconds.
        """
        if "Traceback (most recent call last)" not in trace:
            return "", None
        error = explain(RuntimeError(trace))
        again = str(error) == self._line and at_ms - self._last_ms < _APART_MS
        self._times = self._times + 1 if again else 1
        self._line, self._last_ms = str(error), at_ms
        enough = self._times >= _OFTEN[isinstance(error, RequestError)]
        return self._line, error if enough else None


@dataclass
class JobMonitor:
    """Follows a job from a thread of its own until `close`.

    Attributes:
        master: `host:port` of Flink's REST interface.
        name: of the job.
        error: what it was ended with, if it was.
    """

    master: str
    name: str
    error: RilletError | None = None
    _failures: JobFailures = field(default_factory=JobFailures)
    _seen: int = 0
    _closed: threading.Event = field(default_factory=threading.Event)

    def start(self) -> "JobMonitor":
        """Begin to follow."""
        threading.Thread(target=self._follow, daemon=True, name="rillet-watch").start()
        return self

    def close(self) -> None:
        """Look away."""
        self._closed.set()

    def _follow(self) -> None:
        while self.error is None and not self._closed.wait(_EVERY_S):
            try:
                self.look()
            except RilletError as error:  # it may be away, as others are
                _log.debug("%s", error)

    def look(self) -> None:
        """Tell what has failed since the last look, and end the job if need be.

        Raises:
            RilletError: Flink does not answer.
        """
        jobs = [job for job in ask(self.master, "/jobs/overview")["jobs"] if self._is_mine(job)]
        for job in jobs:
            history = ask(self.master, f"/jobs/{job['jid']}/exceptions?maxExceptions=20")
            entries = history.get("exceptionHistory", {}).get("entries", [])
            for entry in sorted(entries, key=lambda one: int(one["timestamp"])):
                if entry["timestamp"] > self._seen and self.error is None:
                    self._seen = entry["timestamp"]
                    self._take(job["jid"], _trace(entry), self._seen)

    def _is_mine(self, job: dict[str, Any]) -> bool:
        return job["name"] == self.name and job["state"] not in {"FINISHED", "CANCELED"}

    def _take(self, job: str, trace: str, at_ms: int) -> None:
        line, self.error = self._failures.judge(trace, at_ms)
        if self.error is not None:
            ask(self.master, f"/jobs/{job}?mode=cancel", method="PATCH")
        else:
            _log.warning("the job starts again: %s", line or "a process or a machine was lost")


def _trace(entry: dict[str, Any]) -> str:
    """Of a failure and what failed with it, the one that Python told of."""
    told = [one.get("stacktrace") or "" for one in (entry, *entry.get("concurrentExceptions", ()))]
    return next((text for text in told if "Traceback" in text), told[0])
