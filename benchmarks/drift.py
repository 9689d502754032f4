"""After a sudden turn: how soon is the model itself again, and how soon recent popularity?

    .venv/bin/python benchmarks/drift.py [--drift strong] [--seeds 4] [--events 60000] [--still]

The simulator draws all tastes and the fashion anew at once, half-way through each stream
(`SimulationSpec.shock`; there is no option for it on the command line), and goes on at the
given speed of drift. Country and age still explain the share of taste that they explained
before (.3 of its variance); catalogue, users, series and habits stay. So it is a turn of
what is wanted, not of what there is.

Questions are in order of event time, before and after that moment. "Before" is the recall@20
of the 2,000 last questions before it; "back" is the number of questions after it until a
window of 500 of them reaches 90 % of that: the last of the window. 500 means: at once, the
first window was that good already. Streams of several seeds are averaged question by
question; "each" is of each stream alone, where a window's mean is uncertain by a tenth.
Popularity's half-life is the one that is best in hindsight over all these questions.

`--still`: the same worlds without a turn, looked at from the same moment: catalogues grow
and hours of the day differ, so that recall moves on its own, too.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from prequential import Log, answers, arm_answers, heading

from models.feature_batch import read_batch
from pipelines.config import JobConfig, load_job
from pipelines.simulate import DRIFTS, SimulationSpec, simulate
from pipelines.simulate.world.entities import DAY_MS
from pipelines.simulate.world.event_stream import tick_ms

SHARE = 0.5  # of the stream before the turn
FORMER, WINDOW, STEP = 2_000, 500, 100  # questions
BACK = 0.9
NO_FAULTS = {"duplicates": 0.0, "late": 0.0, "malformed": 0.0, "format": "parquet"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--drift", default="strong", choices=list(DRIFTS))
    parser.add_argument("--seeds", type=int, default=4, help="streams")
    parser.add_argument("--events", type=int, default=60_000, help="of each stream")
    parser.add_argument("--still", action="store_true", help="without the turn, too")
    given = parser.parse_args()
    # Of the baselines popularity is asked; one arm of transitions has to be there.
    config = load_job(None, {"model": {"baseline_smoothing": (300.0,)}})
    print(heading())
    for turned in [True, False][: 1 + given.still]:
        told = f"a turn after {SHARE:.0%}" if turned else "no turn"
        print(f"\n{given.drift} drift, {told}, {given.seeds} streams of {given.events} events\n")
        worlds = [_world(given.drift, given.events, seed) for seed in range(given.seeds)]
        report([_stream(world, config, turned=turned) for world in worlds], config)


def _world(drift: str, events: int, seed: int) -> SimulationSpec:
    """A world that turns a millisecond before one of the simulator's ticks, when fashion moves."""
    world = SimulationSpec.of(drift=drift, seed=seed, events=events, **NO_FAULTS)
    tick, length = tick_ms(world), world.days * DAY_MS
    return world.model_copy(update={"shock": (round(SHARE * length / tick) * tick - 1) / length})


def _stream(
    world: SimulationSpec, config: JobConfig, *, turned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Recall@20 `[questions, 1 + half-lives]` of the model and of popularity, before and after."""
    from models.training.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        simulate(Path(folder), world.model_copy(update={} if turned else {"shock": 0.0}))
        log = Log.read(folder, config)
    trainer = Trainer(config.model, log.items, log.users)
    trainer.tuned = sys.maxsize
    width = len(trainer.state.baselines.half_lives_h)
    found: list[np.ndarray] = []
    times: list[np.ndarray] = []
    for number, rows in log.batches():
        evaluation: Any = trainer.step(number, rows).evaluation
        popular = arm_answers(evaluation)[0, :, :width]
        found.append(np.column_stack([answers(evaluation)[0], popular]))
        times.append(read_batch(rows).anchor[evaluation.rows])
    recall, time = np.concatenate(found), np.concatenate(times)
    order = np.argsort(time, kind="stable")
    turn = world.start_ms + world.shock * world.days * DAY_MS
    first = int(np.searchsorted(time[order], turn))
    return recall[order][:first], recall[order][first:]


def report(streams: list[tuple[np.ndarray, np.ndarray]], config: JobConfig) -> None:
    """Print the curve of model and popularity, and when each is back."""
    fewest = min(len(after) for _, after in streams)
    before = np.stack([former[-FORMER:] for former, _ in streams])
    after = np.stack([later[:fewest] for _, later in streams])
    totals = before.sum(axis=(0, 1)) + after.sum(axis=(0, 1))
    best = 1 + int(totals[1:].argmax())
    half_life = [*config.model.baseline_half_lives_h, np.inf][best - 1]
    arms = {"model": 0, f"popularity, {half_life:g} h": best}
    starts = _starts(fewest, WINDOW)
    print("| | before | " + " | ".join(f"to {n + WINDOW}" for n in starts) + " | back | each |")
    print("|---" * (4 + len(starts)) + "|")
    for name, arm in arms.items():
        former, mean = before[:, :, arm].mean(axis=1), after[:, :, arm].mean(axis=0)
        curve = [mean[n : n + WINDOW].mean() for n in starts]
        cells = [f"{x:.3f}" for x in (former.mean(), *curve)]
        each = [_back(*pair) for pair in zip(former, after[:, :, arm], strict=True)]
        told = f"{_back(former.mean(), mean)} | {', '.join(map(str, each))}"
        print(f"| {name} | {' | '.join(cells)} | {told} |", flush=True)


def _starts(questions: int, step: int) -> range:
    """Where windows begin."""
    return range(0, questions - WINDOW + 1, step)


def _back(former: float, after: np.ndarray) -> int | None:
    """Questions until a window's mean is `BACK` of the former recall; None: never.

    >>> _back(0.1, np.r_[np.zeros(600), np.ones(400)])
    700
    """
    for first in _starts(len(after), STEP):
        if after[first : first + WINDOW].mean() >= BACK * former:
            return first + WINDOW
    return None


if __name__ == "__main__":
    main()
