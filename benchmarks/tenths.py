"""Is one pass in the stream as good as a full retrain at each tenth of it, and what does it save?

    .venv/bin/python benchmarks/tenths.py [LOG] [--epochs 2] [--batches N]

At each tenth of a log's rows a model is trained anew on all micro-batches before it, as
`rillet retrain --epochs 2` does: every epoch begins with empty counts and the weights of the
epoch before. Over the next tenth both it and the live model predict each micro-batch and then
train on it; the figures are of these rows. Retrained models are not carried further: each
tenth has its own. LOG is a folder as for benchmarks/quality.py (default: kuairand_likes).

Processor time is of training and publication without prediction: of the live model that of
one pass, up to the last tenth that is compared; of the retrains the sum of all their epochs.
An epoch of a retrain that the live model's pass already was (its first: same rows, same
order, same seed, same bytes) is not gone through again but counted at the price of the next.
Intervals: 95 %, bootstrap over blocks of micro-batches, both models resampled together.
"""

import argparse
import time
from itertools import pairwise

import numpy as np
from prequential import FIGURES, Log, answers, heading

from models.config import ModelConfig
from models.evaluation.bootstrap import interval
from models.trainer import Trainer
from pipelines.config import load_job

TENTHS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("log", nargs="?", default="kuairand_likes")
    parser.add_argument("--epochs", type=int, default=2, help="of each retrain, at least 2")
    parser.add_argument("--batches", type=int, default=None, help="stop after so many")
    given = parser.parse_args()
    config = load_job(None)
    log = Log.read(given.log, config, given.batches)
    print(heading())
    report(log, config.model, given.epochs)


def report(log: Log, config: ModelConfig, epochs: int) -> None:
    """Print a line for each tenth, then all of them together."""
    bounds = _bounds(log)
    once = _trained(log, config, len(log), None)[1]
    live = _trainer(config, log)
    _predicted(live, log, 1, bounds[0])
    told, spent = [], 0.0
    columns = " | ".join(f"{name} live, retrained: ratio" for name in FIGURES)
    print(f"| tenth | questions | {columns} | retrain, CPU s |\n|---|---|---|---|---|")
    for tenth, (first, last) in enumerate(pairwise(bounds), 2):
        cost, retrained = 0.0, live
        for _ in range(epochs - 1):
            retrained, seconds = _trained(log, config, first, retrained)
            cost += seconds.sum()
        cost *= epochs / (epochs - 1)
        retrained.config = config
        both = [_predicted(one, log, first + 1, last) for one in (live, retrained)]
        told.append(np.stack(both))
        spent += cost
        print(f"| {tenth} | {_line(told[-1])} | {cost:.1f} |", flush=True)
    lived = once[: bounds[-2]].sum()
    print(f"| all | {_line(np.concatenate(told, axis=1))} | {spent:.1f} |")
    print(
        f"\nlive, one pass up to the last tenth: {lived:.1f} CPU s, "
        f"{lived / spent:.1%} of the retrains'; the whole pass {once.sum():.1f} s"
    )


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
    """Cells of `[2, micro-batches, 3]`: live, retrained."""
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
