"""Is the model better than tuned simple baselines? One command, one table per log.

    .venv/bin/python benchmarks/quality.py [LOG | EVENTS.parquet]... [--set model.dim=16]...

A LOG is a folder of ../shared/data (default: kuairand_likes movielens_small), or any
folder with events.parquet and, if there are any, items.parquet and users.parquet.
Features and micro-batches are those of `rillet run` with the default job file; every
micro-batch is predicted before it is trained on (DESIGN 4.4): whole catalogue, what the
user had is left out. Figures are of the last half and of the last tenth of the predicted
rows. A baseline's arm (half-life; m) is the best *in hindsight on those very rows*, for
each figure apart. Intervals: 95 %, bootstrap over blocks of 50 consecutive micro-batches,
model and baseline resampled together.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
import pyarrow as pa
from prequential import FIGURES, Log, answers, arm_answers, heading, overrides, since

from models import ranking_metrics
from models.bootstrap import interval
from models.evaluation.mean_baselines import RunningMeans
from models.evaluation.metric_definitions import spearman
from models.feature_batch import head_targets, read_batch
from models.schema import BINARY_HEADS, HEADS
from pipelines.config import JobConfig, load_job

LOGS = ("kuairand_likes", "movielens_small")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("logs", nargs="*", default=list(LOGS))
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.FIELD=VALUE")
    parser.add_argument("--batches", type=int, default=None, help="stop after so many")
    given = parser.parse_args()
    config = load_job(None, overrides(given.set))
    print(heading())
    for name in given.logs:
        report(Log.read(name, config, given.batches), config)


def report(log: Log, config: JobConfig) -> None:
    """Run one log and print its table."""
    from models.training.trainer import Trainer

    trainer = Trainer(config.model, log.items, log.users)
    trainer.tuned = sys.maxsize  # the best arm in hindsight is judged on every row
    trainer.log = log.batch
    tally = Tally()
    used = time.process_time()
    for number, batch in log.batches():
        tally.add(trainer.step(number, batch), batch)
    used = (time.process_time() - used) / max(len(log), 1)
    print(
        f"\n{log.name}: {log.rows.num_rows} rows, {len(log)} micro-batches, "
        f"{used * 1e3:.0f} ms of CPU each"
    )
    tally.print(trainer.state.baselines)


class Tally:
    """Per micro-batch: figures of each predicted row, of the model and of every arm."""

    def __init__(self) -> None:
        self.model: list[np.ndarray] = []  # [2, rows]: recall@20, NDCG@20
        self.arms: list[np.ndarray] = []  # [2, rows, arms]
        self.heads: list[tuple[np.ndarray, ...]] = []
        self.means = RunningMeans()

    def add(self, result: Any, rows: pa.RecordBatch) -> None:
        """Take in what a step said of its rows."""
        found = result.evaluation
        self.model.append(answers(found))
        self.arms.append(arm_answers(found))
        batch, where = read_batch(rows), found.head_rows
        targets, present = head_targets(batch)
        means = self.means.before(batch)[where, :, 1:]  # the user's, the item's, both
        self.means.add(batch)
        self.heads.append((targets[where], present[where], found.heads, means))

    def print(self, baselines: Any) -> None:
        """Print the table of the log."""
        sizes = np.array([part.shape[1] for part in self.model])
        width = len(baselines.half_lives_h)
        for name, share in (("last half", 0.5), ("last tenth", 0.9)):
            first = since(sizes, share)
            model = np.stack([part.sum(axis=1) for part in self.model[first:]])
            arms = np.stack([part.sum(axis=1) for part in self.arms[first:]])
            rows = sizes[first:]
            print(f"  {name}: {rows.sum()} rows")
            for place, figure in enumerate(FIGURES):
                totals = arms[:, place].sum(axis=0)
                best = int(totals.argmax())
                popular = int(totals[:width].argmax())
                mean = interval(model[:, place], rows)
                ratio = interval(model[:, place], arms[:, place, best])
                print(
                    f"    {figure:9} model {mean.value:.4f} ± {mean.se:.4f}   "
                    f"best baseline {totals[best] / rows.sum():.4f} {_arm(baselines, best)}   "
                    f"popularity {totals[popular] / rows.sum():.4f} {_arm(baselines, popular)}   "
                    f"ratio {ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"
                )
        self._print_heads()

    def _print_heads(self) -> None:
        half = len(self.heads) // 2
        targets, present, scores, means = (
            np.concatenate([part[i] for part in self.heads[half:]]) for i in range(4)
        )
        for head, name in enumerate(HEADS):
            held = present[:, head]
            if held.sum() < 100:
                continue
            y, p = targets[held, head], scores[held, head]
            user, item, both = (means[held, head, i] for i in range(3))
            if head < BINARY_HEADS:
                if y.min() == y.max():
                    continue
                figures = {
                    "AUC": ranking_metrics.auc(y, p),
                    "item's mean": ranking_metrics.auc(y, item),
                    "user's mean": ranking_metrics.auc(y, user),
                }
            elif name == "rating":
                figures = {
                    "RMSE": np.sqrt(np.mean((y - p) ** 2)),
                    "user + item mean": np.sqrt(np.mean((y - both) ** 2)),
                }
            else:
                figures = {"rank correlation": spearman(y, p), "item's mean": spearman(y, item)}
            told = "   ".join(f"{key} {value:.4f}" for key, value in figures.items())
            print(f"  head {name}, last half of the micro-batches: {told}   ({held.sum()} rows)")


def _arm(baselines: Any, index: int) -> str:
    arm = baselines.arm(index)
    half_life = "no decay" if arm["half_life_h"] is None else f"{arm['half_life_h']:g} h"
    return f"({half_life}{', m ' + format(arm['m'], 'g') if 'm' in arm else ''})"


if __name__ == "__main__":
    main()
