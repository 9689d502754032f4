"""The stream as it happened: chunks of events in order of event time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.available_items import AvailableItems
from pipelines.simulate.world.behaviour import Behaviour, Columns, Sessions, concat, take
from pipelines.simulate.world.entities import DAY_MS, HOUR_MS, Catalogue, Population
from pipelines.simulate.world.taste import Fashion, Tastes

__all__ = ["Chunk", "hour_weights", "stream", "tick_ms"]

_FEWEST, _MOST = 4_000, 50_000  # events a tick: enough for numpy, few enough for memory
_FIRST_GUESS = 16.0  # events a session; corrected from what is seen


@dataclass(frozen=True)
class Chunk:
    """Events of one stretch of time, sorted; none of a later chunk is earlier."""

    events: Columns
    sessions: Columns  # opened in this stretch: number, user, time, logits
    fashion: Columns  # topic log-odds as of its start: time, logits
    until: int  # ms: every event of a later chunk is at or after this


def tick_ms(spec: SimulationSpec) -> int:
    """Length of one tick: an hour, or what keeps it between too few and too many events."""
    per_hour = spec.events / (spec.days * 24)
    hours = min(max(1.0, _FEWEST / per_hour), _MOST / per_hour, 6.0)
    return max(int(hours * HOUR_MS), 1_000)


def hour_weights(times_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """How busy it is at these times (ms, UTC): mean 1 over a day, least at 3:00.

    >>> bool(hour_weights(np.array([3 * HOUR_MS])) < hour_weights(np.array([15 * HOUR_MS])))
    True
    """
    return 1 - 0.6 * np.cos(2 * np.pi * (times_ms / HOUR_MS % 24 - 3) / 24)


def stream(
    spec: SimulationSpec,
    items: Catalogue,
    people: Population,
    rule: NDArray[np.int64],
    seeds: list[np.random.Generator],
) -> Iterator[Chunk]:
    """Exactly `spec.events` events, a chunk a tick.

    How many sessions open in a tick follows from how many events were to have
    happened by its end, so the stream ends when it was meant to.
    """
    tastes = Tastes(spec, people, seeds[0])
    fashion = Fashion(spec, tastes, seeds[1])
    behaviour = Behaviour(spec, items, people, tastes, rule, seeds[2])
    shelf = AvailableItems(items)
    tick, start, due = tick_ms(spec), spec.start_ms, _due_by(spec)
    made = opened = given = 0
    pending: list[Columns] = []
    while given < spec.events:
        trend = fashion.at(start)
        shelf.refresh(start, trend)
        per_session = made / opened if opened else _FIRST_GUESS
        wanted = max(round((due(start + tick) - made) / per_session), 0 if made else 1)
        sessions = behaviour.open(wanted, start, start + tick, shelf, trend)
        opened_at = sessions.now.copy()
        rows = behaviour.run(sessions, shelf)
        opened += len(sessions.user)
        made += sum(len(part["time"]) for part in rows)
        pending += rows
        start += tick
        if not pending:
            continue
        everything = concat(pending)
        everything = take(everything, np.argsort(everything["time"], kind="stable"))
        ready = int(np.searchsorted(everything["time"], start))
        pending = [take(everything, np.arange(ready, len(everything["time"])))]
        ready = min(ready, spec.events - given)
        given += ready
        yield Chunk(
            take(everything, np.arange(ready)),
            _log(sessions, opened_at),
            {"time": np.array([start - tick]), "logits": trend[None, :]},
            start,
        )


def _due_by(spec: SimulationSpec) -> Callable[[int], float]:
    """How many events are to have begun by a time; keeps growing past the end."""
    length = spec.days * DAY_MS
    points = np.linspace(spec.start_ms, spec.start_ms + length, 1 + max(24, int(spec.days * 24)))
    middles = ((points[1:] + points[:-1]) / 2).astype(np.int64)
    total = np.concatenate([[0.0], np.cumsum(hour_weights(middles))])
    total *= spec.events / total[-1]

    def due(time: int) -> float:
        beyond = max(time - points[-1], 0) / length * spec.events
        # What is under way at the end would be missing: a little more than wanted.
        return float(np.interp(time, points, total)) * 1.01 + beyond + 1

    return due


def _log(sessions: Sessions, opened_at: NDArray[np.int64]) -> Columns:
    return {
        "session": sessions.number,
        "user": sessions.user,
        "time": opened_at,
        "logits": sessions.logits,
    }
