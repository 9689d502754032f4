"""A seeded feedback stream whose truth is known: `simulate(out, spec)`.

What it writes::

    OUT/events.jsonl (.jsonl.gz, .parquet)   feedback, in order of arrival
    OUT/items.parquet  OUT/users.parquet     the catalogue, the users
    OUT/truth.json                           the spec, exact counts, rules
    OUT/truth/events.parquet                 each event's cause, position, affinity
    OUT/truth/malformed.parquet              bad lines: number, byte, reason, way
    OUT/truth/tastes.parquet  fashion        log-odds over topics, over time
    OUT/truth/items.parquet  users           factors, fame, series; bots, demographics

The world (formulas beside the code that uses them):

* tastes drift (`taste`): Ornstein–Uhlenbeck log-odds over 36 topics around what
  demographics say, moved by device, time of day and a drifting fashion;
* items appear and fade (`shelf`): P(item | user) = Σ_topic P(topic | user) · P(item | topic, now);
* what counts of single items cannot easily see (`memory`): series are resumed,
  also after something else came between, and a category follows from the last
  *two*, never from the last alone;
* slates with position bias, dwell by taste and length, reactions, carts and
  purchases (`behaviour`); bots and accidents; repeats, late and malformed lines (`faults`).
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.schema import EVENTS
from pipelines.simulate.behaviour import Columns
from pipelines.simulate.encode import Encoder
from pipelines.simulate.faults import Faults
from pipelines.simulate.memory import routine_rule
from pipelines.simulate.spec import DRIFTS, SimulationSpec, suffix
from pipelines.simulate.stream import stream
from pipelines.simulate.truth import Truth
from pipelines.simulate.world import item_table, make_catalogue, make_population, user_table
from pipelines.simulate.write import EventFile, TableFile, folder, write_table

__all__ = ["DRIFTS", "SimulationSpec", "simulate"]

_log = logging.getLogger("rillet")


def simulate(out: Path, spec: SimulationSpec) -> dict[str, Any]:
    """Write a simulated world into the folder `out`.

    Files of an earlier simulation there are replaced, each when its successor
    is complete. Progress goes to the logger `rillet`, a line a tenth.

    Returns:
        the counts that `truth.json` holds under "summary".

    Raises:
        RequestError: `out` cannot be a folder.
        JobError: writing failed.
    """
    seeds = [np.random.default_rng([spec.seed, part]) for part in range(8)]
    items, people = make_catalogue(spec, seeds[0]), make_population(spec, seeds[1])
    with folder(out):
        write_table(item_table(items, seeds[2]), out / "items.parquet")
        write_table(user_table(people), out / "users.parquet")
        rule = routine_rule(seeds[3])
        truth = Truth(out, spec, rule)
        truth.world(items, people)
        faults = Faults(spec, seeds[7])
        encoder = Encoder(people, spec.items, spec.seed)
        with truth, _events_file(out, spec) as file:
            lines = given = 0
            for chunk in stream(spec, items, people, rule, seeds[4:7]):
                number = given + np.arange(len(chunk.events["time"]))
                events = {**chunk.events, "number": number}
                _progress(given, given + len(number), spec.events)
                given += len(number)
                truth.events(encoder.batch(events)["event_id"], events)
                truth.tastes(chunk.sessions, chunk.fashion)
                last = given == spec.events
                rows = faults.lines(events, None if last else chunk.until)
                lines += _write(file, encoder, truth, rows, lines)
        for other in out.glob("events.*"):
            if other.name != suffix(spec.format):
                other.unlink()
        return truth.close(faults.late)


def _events_file(out: Path, spec: SimulationSpec) -> EventFile | TableFile:
    path = out / suffix(spec.format)
    return TableFile(path, EVENTS) if spec.format == "parquet" else EventFile(path)


def _write(
    file: EventFile | TableFile, encoder: Encoder, truth: Truth, rows: Columns, first: int
) -> int:
    """Append the lines that have arrived; returns how many."""
    if not rows or len(rows["time"]) == 0:
        return 0
    batch = encoder.batch(rows)
    if isinstance(file, TableFile):
        file.write(batch)
        starts = np.zeros(len(batch), dtype=np.int64)
    else:
        starts = file.write(encoder.lines(rows, batch))
    truth.written(rows, first, starts)
    return len(batch)


def _progress(before: int, after: int, total: int) -> None:
    """A line for each tenth that is passed."""
    if before * 10 // total != after * 10 // total:
        _log.info("simulate: %s of %s events", f"{after:,}", f"{total:,}")
