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

* tastes drift (`world.taste`): Ornstein–Uhlenbeck log-odds over 36 topics around what
  demographics say, moved by device, time of day and a drifting fashion;
* items appear and fade (`world.available_items`):
  P(item | user) = Σ_topic P(topic | user) · P(item | topic, now);
* what counts of single items cannot easily see (`world.people_memory`): series are resumed,
  also after something else came between, and a category follows from the last
  *two*, never from the last alone;
* slates with position bias, dwell by taste and length, reactions, carts and
  purchases (`world.behaviour`); bots and accidents; repeats, late and malformed lines (`faults`).
"""

from pipelines.simulate.pace import Clock
from pipelines.simulate.simulation import Outlet, Playback, simulate
from pipelines.simulate.spec import DRIFTS, SimulationSpec

__all__ = ["DRIFTS", "Clock", "Outlet", "Playback", "SimulationSpec", "simulate"]
