"""Writes a simulated stream: as files at once, or played line by line as time passes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from pipelines.errors import RequestError
from pipelines.schema import EVENTS
from pipelines.simulate.encode import Encoder
from pipelines.simulate.faults import Faults
from pipelines.simulate.file_writer import EventFile, TableFile, folder, write_table
from pipelines.simulate.ground_truth import Truth
from pipelines.simulate.pace import Clock, Pace, slices, with_times
from pipelines.simulate.spec import SimulationSpec, suffix
from pipelines.simulate.world.behaviour import Columns, take
from pipelines.simulate.world.entities import (
    item_table,
    make_catalogue,
    make_population,
    user_table,
)
from pipelines.simulate.world.event_stream import Chunk, stream
from pipelines.simulate.world.people_state import routine_rule

__all__ = ["Outlet", "Playback", "simulate"]

_log = logging.getLogger("rillet")
_TELL_MS = 5_000


class Outlet(Protocol):
    """Where lines go as they happen, beside their file."""

    def send(self, lines: pa.Array, users: pa.Array) -> None:
        """Hand over `[n]` lines, with their ends, and whose they are."""

    def close(self) -> None:
        """Wait until all have arrived."""


@dataclass(frozen=True, kw_only=True)
class Playback:
    """A simulation that is played by the clock.

    Attributes:
        rate: lines a second.
        outlet: where they go.
    """

    rate: float
    outlet: Outlet
    clock: Clock = field(default_factory=Clock)


def simulate(out: Path, spec: SimulationSpec, play: Playback | None = None) -> dict[str, Any]:
    """Write a simulated world into the folder `out`.

    Files of an earlier simulation there are replaced, each when its successor
    is complete. Progress goes to the logger `rillet`, a line a tenth.

    Args:
        out: a folder, made where it is not there.
        spec: the world.
        play: send its events as if they happened now; ids are new each time. Ctrl-C ends
            it early, in good order.

    Returns:
        the counts that `truth.json` holds under "summary".

    Raises:
        RequestError: `out` cannot be a folder, or lines are to be sent that are not JSON.
        JobError: writing or sending failed.
    """
    if play and spec.format == "parquet":
        raise RequestError("a topic takes lines of JSON, not parquet; leave --format out")
    seeds = [np.random.default_rng([spec.seed, part]) for part in range(8)]
    items, people = make_catalogue(spec, seeds[0]), make_population(spec, seeds[1])
    behind_ms = int(spec.late_max_s * 1_000)
    pace = Pace(play.rate, play.clock.now_ms(), behind_ms) if play else None
    with folder(out):
        catalogue = item_table(items, seeds[2])
        if pace:
            catalogue = with_times(catalogue, "published_at", spec, pace)
        write_table(catalogue, out / "items.parquet")
        write_table(user_table(people), out / "users.parquet")
        rule = routine_rule(seeds[3])
        truth = Truth(out, spec, rule)
        truth.world(items, people)
        faults = Faults(spec, seeds[7])
        encoder = Encoder(people, spec.items, spec.seed + (pace.begin_ms if pace else 0))
        chunks = stream(spec, items, people, rule, seeds[4:7])
        with truth, _events_file(out, spec) as file:
            playing = _Playing(pace, play) if pace and play else None
            writing = _Writing(file, encoder, truth, playing)
            try:
                _run(spec, chunks, faults, writing)
            except KeyboardInterrupt:
                if play is None:
                    raise
                _log.info("simulate: stopped; what was sent stays")
            if play:
                play.outlet.close()
        for other in out.glob("events.*"):
            if other.name != suffix(spec.format):
                other.unlink()
        return truth.close(faults.late)


def _run(
    spec: SimulationSpec, chunks: Iterator[Chunk], faults: Faults, writing: "_Writing"
) -> None:
    given = 0
    for chunk in chunks:
        number = given + np.arange(len(chunk.events["time"]))
        events = {**chunk.events, "number": number}
        if writing.playing is None:
            _progress(given, given + len(number), spec.events)
        given += len(number)
        last = given == spec.events
        writing.write(chunk, events, faults.lines(events, None if last else chunk.until))


def _events_file(out: Path, spec: SimulationSpec) -> EventFile | TableFile:
    path = out / suffix(spec.format)
    return TableFile(path, EVENTS) if spec.format == "parquet" else EventFile(path)


@dataclass(frozen=True)
class _Playing:
    """Lines wait until they are due, and go to the outlet."""

    pace: Pace
    play: Playback


@dataclass
class _Writing:
    """Lines and their truth, in order of arrival."""

    file: EventFile | TableFile
    encoder: Encoder
    truth: Truth
    playing: _Playing | None
    lines: int = 0
    told_ms: int = 0

    def write(self, chunk: Chunk, events: Columns, rows: Columns) -> None:
        """Note what happened, and append the lines that have arrived."""
        if self.playing is None:
            self._note(events, chunk.sessions, chunk.fashion)
            if len(rows.get("time", ())):
                self._append(rows)
            return
        pace, clock = self.playing.pace, self.playing.play.clock
        if not self.lines:
            pace.begin_ms = clock.now_ms()  # making the world took a while
        due = pace.due(rows["arrival"]) if rows else np.empty(0)

        def timed(columns: Columns) -> Columns:
            return {**columns, "time": pace.by_clock(columns["time"])}

        self._note(timed(events), timed(chunk.sessions), timed(chunk.fashion))
        rows = timed(rows) if rows else rows
        for start, stop in slices(due, clock):
            self._append(take(rows, np.arange(start, stop)))
            self._tell(clock.now_ms())

    def _tell(self, now_ms: int) -> None:
        """A line now and then."""
        if now_ms - self.told_ms >= _TELL_MS:
            self.told_ms = now_ms
            _log.info("simulate: %s lines sent", f"{self.lines:,}")

    def _note(self, events: Columns, sessions: Columns, fashion: Columns) -> None:
        self.truth.events(self.encoder.batch(events)["event_id"], events)
        self.truth.tastes(sessions, fashion)

    def _append(self, rows: Columns) -> None:
        batch = self.encoder.batch(rows)
        if isinstance(self.file, TableFile):
            self.file.write(batch)
            starts = np.zeros(len(batch), dtype=np.int64)
        else:
            lines = self.encoder.lines(rows, batch)
            if self.playing:
                self.playing.play.outlet.send(lines, batch["user_id"])
            starts = self.file.write(lines)
        self.truth.written(rows, self.lines, starts)
        self.lines += len(batch)


def _progress(before: int, after: int, total: int) -> None:
    """A line for each tenth that is passed."""
    if before * 10 // total != after * 10 // total:
        _log.info("simulate: %s of %s events", f"{after:,}", f"{total:,}")
