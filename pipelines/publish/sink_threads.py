"""Sinks follow the store: each in a thread of its own, that never stops the job.

What is on record in the store is sent on, from whatever version the sink itself
says it holds: so a sink that was away, or whose writer was killed, is caught up
by whoever looks at it next.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import tenacity

from models.store.store import Store
from pipelines.publish.missing_rows import rows_missing_in
from pipelines.publish.registry import open_sink
from pipelines.publish.sink import Sink

__all__ = ["Follower", "Followers", "StartFollowers", "catch_up_sinks"]

_log = logging.getLogger("rillet")

_LOOK_S = 0.2
"""Between two looks at the store, when nobody wakes us."""
_REMIND_S = 60.0
_LEAVE_S = 6.0
"""How long the end of a job waits for an attempt that goes on: a little over a time limit's."""


class Follower:
    """Keeps one sink as new as a store; starts at once, on a thread of its own.

    Args:
        store: read only.
        sink: used by that thread alone.
        monotonic: counts seconds.
        longest_s: longest pause between two attempts.
    """

    def __init__(
        self,
        store: Store,
        sink: Sink,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        longest_s: float = 5.0,
    ) -> None:
        self._store, self._sink, self._monotonic = store, sink, monotonic
        self._ended, self._poked = threading.Event(), threading.Event()
        self._changed = threading.Condition()
        self._version = 0
        self._away_since: float | None = None
        self._told_at = 0.0
        self._failures = self._published = 0
        self._ages: list[int] = []
        self._retrying = tenacity.Retrying(
            stop=tenacity.stop_when_event_set(self._ended),
            wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=longest_s, jitter=0.1),
            sleep=tenacity.sleep_using_event(self._ended),
            before_sleep=self._failed,
            reraise=True,
        )
        self._thread = threading.Thread(target=self._run, name=sink.shown, daemon=True)
        self._thread.start()

    @property
    def shown(self) -> str:
        """The sink's address, without passwords."""
        return self._sink.shown

    @property
    def version(self) -> int:
        """The version that the sink was last seen to serve; 0 for none."""
        return self._version

    def behind(self) -> int:
        """How many version numbers the sink is behind the store, as far as is known."""
        return max((self._store.current() or 0) - self._version, 0)

    def wake(self) -> None:
        """There may be something new."""
        self._poked.set()

    def told(self) -> tuple[dict[str, int], list[int]]:
        """Since the last call: counters, and how old (ms) each version was at the sink."""
        with self._changed:
            counted = {"sink_failures": self._failures, "sink_versions": self._published}
            ages, self._ages, self._failures, self._published = self._ages, [], 0, 0
        return counted, ages

    def finish(self, limit_s: float) -> bool:
        """Wait until the sink has all that is there, at most so long; whether it has."""
        self.wake()
        until = self._monotonic() + limit_s
        with self._changed:
            while self.behind():
                left = until - self._monotonic()
                if left <= 0 or self._ended.is_set():
                    break
                self._changed.wait(min(left, 1.0))
        return not self.behind()

    def close(self) -> None:
        """Stop; an attempt that goes on is given a few seconds."""
        self._ended.set()
        self.wake()
        self._thread.join(_LEAVE_S)

    # -- on the thread ------------------------------------------------------------

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                if self.behind():
                    self._retrying(self._catch_up)
            except Exception as error:  # noqa: BLE001 - only once we were told to end
                _log.debug("%s: %s", self.shown, error)
            self._poked.wait(_LOOK_S)
            self._poked.clear()
        self._sink.close()

    def _catch_up(self) -> None:
        """One attempt: to the version that is served now."""
        held = self._sink.held()
        with self._changed:  # it serves that also if what follows fails
            self._version = held.served.version if held.served else 0
        shipment = rows_missing_in(self._store, held)
        age = None
        if shipment:
            age = self._sink.publish(shipment) - shipment.newest_event_ms
        with self._changed:
            served = shipment.mark if shipment else held.served
            self._version = served.version if served else 0
            self._published += shipment is not None
            self._ages += [] if age is None else [max(age, 0)]
            self._changed.notify_all()
        if self._away_since is not None:
            away = self._monotonic() - self._away_since
            _log.info(
                "sink %s is back after %.1f s, at version %d", self.shown, away, self._version
            )
            self._away_since = None

    def _failed(self, state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        now = self._monotonic()
        with self._changed:
            self._failures += 1
        if self._away_since is None:
            self._away_since, self._told_at = now, now - _REMIND_S
        if now - self._told_at >= _REMIND_S:
            self._told_at = now
            _log.warning("%s; the job goes on, its versions wait in the store", _told(self, error))


def _told(follower: Follower, error: BaseException | None) -> str:
    text = str(error)
    return f"sink {text}" if follower.shown in text else f"sink {follower.shown}: {text}"


class Followers:
    """One follower a sink."""

    def __init__(self, store: Store, uris: Sequence[str], **settings: Any) -> None:
        self.each = [Follower(store, open_sink(uri), **settings) for uri in dict.fromkeys(uris)]

    def wake(self) -> None:
        """There may be something new."""
        for follower in self.each:
            follower.wake()

    def told(self) -> tuple[dict[str, int], list[int]]:
        """As a follower's, of all of them."""
        counted: dict[str, int] = {}
        ages: list[int] = []
        for follower in self.each:
            counts, more = follower.told()
            ages += more
            for name, number in counts.items():
                counted[name] = counted.get(name, 0) + number
        return counted, ages

    def finish(self, limit_s: float) -> None:
        """Wait for all sinks, at most so long in all."""
        until = time.monotonic() + limit_s
        for follower in self.each:
            follower.finish(until - time.monotonic())

    def close(self) -> None:
        """Stop."""
        for follower in self.each:
            follower.close()


@dataclass(frozen=True)
class StartFollowers:
    """Starts followers: picklable, so that it travels to the worker that trains."""

    store: Store
    uris: Sequence[str] = field(repr=False)

    def __call__(self) -> Followers:
        """Followers that run."""
        return Followers(self.store, self.uris)


def catch_up_sinks(store: Store, uris: Sequence[str], limit_s: float) -> dict[str, dict[str, int]]:
    """Bring sinks up to the served version, within a time limit.

    Returns:
        Address → {"version": what it serves, as far as is known, "behind": versions it lacks}.
        One that is behind is warned of; the next run or flush catches it up.
    """
    followers = Followers(store, uris)
    try:
        followers.finish(limit_s)
        told = {f.shown: {"version": f.version, "behind": f.behind()} for f in followers.each}
    finally:
        followers.close()
    for shown, state in told.items():
        if state["behind"]:
            _log.warning(
                "sink %s is %d versions behind: the next rillet run with it catches it up",
                shown,
                state["behind"],
            )
    return told
