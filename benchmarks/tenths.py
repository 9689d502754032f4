"""Is one pass in the stream as good as a full retrain at each tenth of it, and what does it save?

    .venv/bin/python benchmarks/tenths.py [LOG] [--epochs 2] [--seeds 3] [--batches N]

At each tenth of a log's rows a model is trained anew on all micro-batches before it, as
`rillet retrain --epochs 2` does: every epoch begins with empty counts and the weights of the
epoch before. Over the next tenth both it and the live model predict each micro-batch and then
train on it; the figures are of these rows. Retrained models are not carried further: each
tenth has its own. LOG is a folder as for benchmarks/quality.py (default: kuairand_likes).

With several seeds each is a pair of models of its own, and the figures are their means: those
of a single one differ by some 2 % at a tenth by the luck of the draw.

Processor time is of training and publication without prediction: of the live model that of
one pass, up to the last tenth that is compared; of the retrains the sum of all their epochs.
An epoch of a retrain that the live model's pass already was (its first: same rows, same
order, same seed, same bytes) is not gone through again but counted at the price of the next.
Intervals: 95 %, bootstrap over blocks of micro-batches, both models resampled together.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from prequential import FIGURES, Log, answers, heading

from models.bootstrap import interval
from models.config import ModelConfig
from models.training.trainer import Trainer
from pipelines.config import load_job

TENTHS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("log", nargs="?", default="kuairand_likes")
    parser.add_argument("--epochs", type=int, default=2, help="of each retrain, at least 2")
    parser.add_argument("--batches", type=int, default=None, help="stop after so many")
    parser.add_argument("--seeds", type=int, default=1, help="models to take the mean of")
    given = parser.parse_args()
    config = load_job(None)
    log = Log.read(given.log, config, given.batches)
    print(heading())
    seeds = range(config.model.seed, config.model.seed + given.seeds)
    runs = [
        compared(log, config.model.model_copy(update={"seed": seed}), given.epochs)
        for seed in seeds
    ]
    report(runs)


@dataclass(frozen=True)
class Compared:
    """One live model and its retrains: figures of each tenth after the first, and their cost."""

    found: list[np.ndarray]  # [2, micro-batches, 3]: live, retrained; recall, NDCG (sums), rows
    spent: list[float]  # CPU s of each retrain
    lived: float  # CPU s of the live model up to the last tenth
    passed: float  # CPU s of its whole pass


def report(runs: Sequence[Compared]) -> None:
    """Print a line for each tenth, then all of them together."""
    columns = " | ".join(f"{name} live, retrained: ratio" for name in FIGURES)
    print(f"\n| tenth | questions | {columns} | retrain, CPU s |\n|---|---|---|---|---|")
    told = [np.mean([run.found[k] for run in runs], axis=0) for k in range(TENTHS - 1)]
    costs = np.mean([run.spent for run in runs], axis=0)
    for tenth, (both, cost) in enumerate(zip(told, costs, strict=True), 2):
        print(f"| {tenth} | {_line(both)} | {cost:.1f} |")
    print(f"| all | {_line(np.concatenate(told, axis=1))} | {costs.sum():.1f} |")
    lived, passed = (np.mean([getattr(run, name) for run in runs]) for name in ("lived", "passed"))
    print(
        f"\nlive, one pass up to the last tenth: {lived:.1f} CPU s, "
        f"{lived / costs.sum():.1%} of the retrains'; the whole pass {passed:.1f} s"
    )


def compared(log: Log, config: ModelConfig, epochs: int) -> Compared:
    """Go through the log with a live model, and with one trained anew at each tenth."""
    bounds = _bounds(log)
    once = _trained(log, config, len(log), None)[1]
    live = _trainer(config, log)
    _predicted(live, log, 1, bounds[0])
    found, spent = [], []
    for tenth, (first, last) in enumerate(pairwise(bounds), 2):
        cost, retrained = 0.0, live
        for _ in range(epochs - 1):
            retrained, seconds = _trained(log, config, first, retrained)
            cost += seconds.sum()
        retrained.config = config
        both = [_predicted(one, log, first + 1, last) for one in (live, retrained)]
        found.append(np.stack(both))
        spent.append(cost * epochs / (epochs - 1))
        print(f"seed {config.seed}, tenth {tenth} of {TENTHS}", file=sys.stderr, flush=True)
    return Compared(found, spent, once[: bounds[-2]].sum(), once.sum())


def _bounds(log: Log) -> list[int]:
    """Micro-batches with whose ends the tenths of the rows end, `[TENTHS]`."""
    ends = np.cumsum([len(part) for part in log.parts])
    inner = np.searchsorted(ends, ends[-1] * np.arange(1, TENTHS) / TENTHS) + 1
    return [*inner.tolist(), len(log)]


def _trainer(config: ModelConfig, log: Log) -> Trainer:
    trainer = Trainer(config, log.items, log.users)
    trainer.log = log.batch
    trainer.tuned = 0  # the baselines are not asked
    return trainer


def _trained(
    log: Log, config: ModelConfig, last: int, former: Trainer | None
) -> tuple[Trainer, np.ndarray]:
    """A model that went through micro-batches 1 to `last` without predicting; CPU s of each.

    It starts from the weights of `former`, where there is one.
    """
    trainer = _trainer(config.model_copy(update={"evaluate": False}), log)
    if former is not None:
        trainer.adopt(former)
    seconds = []
    for number, rows in log.batches(1, last):
        begun = time.process_time()
        trainer.step(number, rows)
        seconds.append(time.process_time() - begun)
    return trainer, np.array(seconds)


def _predicted(trainer: Trainer, log: Log, first: int, last: int) -> np.ndarray:
    """Predict and train on `first` to `last`: `[micro-batches, 3]` recall, NDCG (sums), rows."""
    lines = []
    for number, rows in log.batches(first, last):
        evaluation = trainer.step(number, rows).evaluation
        figures = answers(evaluation) if evaluation else np.zeros((2, 0))
        lines.append([*figures.sum(axis=1), figures.shape[1]])
    return np.array(lines)


def _line(both: np.ndarray) -> str:
    """Cells of `[2, micro-batches, 3]`: live, retrained; recall, NDCG (sums), rows."""
    rows = both[0, :, 2].sum()
    cells = [f"{rows:.0f}"]
    for place in range(len(FIGURES)):
        mine, other = both[0, :, place], both[1, :, place]
        ratio = interval(mine, other)
        cells.append(
            f"{mine.sum() / rows:.4f}, {other.sum() / rows:.4f}: "
            f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
        )
    return " | ".join(cells)


if __name__ == "__main__":
    main()
