"""What does each part of the model bring? One table per log, a part left out in each line.

    .venv/bin/python benchmarks/ablation.py [LOG]... [--batches 3000] [--only "no context"]...

A LOG is a folder as for benchmarks/quality.py (default: kuairand_likes). Each line is a
model of its own that goes through the whole log, every micro-batch predicted before it is
trained on, with one part changed by settings of the job file, or without the catalogue or
the users' table. Columns:

recall@20, NDCG@20  of the last half of the predicted rows, and as shares of the full model's
last tenth          the same of the last tenth
young items         recall@20 of those rows of the last half whose item had fewer than ten
                    events, of any type, before the micro-batch
new users           recall@20 of those rows of the whole log whose user had done fewer than
                    three things before
CPU                 ms of a micro-batch with its prediction, without the baselines' grid: the
                    mean of the last half

Shares are with their 95 % interval: bootstrap over blocks of 50 consecutive micro-batches,
both models resampled together. Below 1 the part helps.

What cannot be switched off by a setting is not here: the stream features, the items' bias and
the gate on them (the nearest is to add three half-lives to the two), the fading sum of past
items (it goes with "no history"), and in-batch negatives, which the model does not have.
`heads off` cannot change a ranking, for the towers do not learn from the heads: it is there
to show just that.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from prequential import Log, answers, heading, since

from models.config import ModelConfig
from models.evaluation.bootstrap import Interval, interval
from models.inputs import Batch, read_batch
from pipelines.config import JobConfig, load_job

YOUNG = 10
"""Events before which an item is young."""

NEW = 3
"""Past events before which a user is new."""


@dataclass(frozen=True)
class Variant:
    """The model with one part changed: `settings` of `[model]`, tables it does not get."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    without: tuple[str, ...] = ()  # of "items", "users"


VARIANTS = (
    Variant("full"),
    Variant("no Transformer", {"sequence": "mean"}),
    Variant("past items by id alone", {"history_content": False}),
    Variant("a Transformer of 32", {"attention_dim": 32}),
    Variant("no history", {"sequence": "none"}),
    # No id earns a vector of its own before its thousandth row.
    Variant("no user ids", {"user_sightings": 1_000}),
    Variant("no item ids", {"item_sightings": 1_000}),
    Variant("no content", {"text_tokens": 0}),
    Variant("words from nothing", {"text_spread": 0.0}),
    Variant("twelve words", {"text_tokens": 12}),
    Variant("no likeness", {"likeness_dim": 0}),
    Variant("a likeness of 256", {"likeness_dim": 256}),
    Variant("no catalogue", without=("items",)),
    Variant("no user attributes", without=("users",)),
    Variant("no context", {"contexts": 0}),
    Variant("neither of both", {"contexts": 0}, without=("users",)),
    Variant("five half-lives", {"half_lives_h": (0.25, 1.0, 3.0, 12.0, 48.0)}),
    Variant("no dislikes, no skips", {"dislike_weight": 0.0, "skip_weight": 0.0}),
    Variant("no skips", {"skip_weight": 0.0}),
    Variant("weighed by confidence", {"confidence_power": 1.0}),
    Variant("negatives drawn evenly", {"hot_share": 0.0}),
    Variant("negatives all hot", {"hot_share": 1.0}),
    Variant("256 negatives", {"negatives": 256}),
    Variant("width 32", {"dim": 32, "table_rate": 0.135}),
    Variant("Adagrad from .1", {"table_accumulator": 0.1}),
    Variant("heads off", {"head_weight": 0.0}),
)


def main() -> None:
    names = [one.name for one in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("logs", nargs="*", default=["kuairand_likes"])
    parser.add_argument("--batches", type=int, default=None, help="stop after so many")
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="VARIANT")
    given = parser.parse_args()
    config = load_job(None)
    print(heading())
    for name in given.logs:
        log = Log.read(name, config, given.batches)
        report(log, config, [one for one in VARIANTS if one.name in {"full", *given.only}])


def report(log: Log, config: JobConfig, variants: list[Variant]) -> None:
    """Print the table of one log, a line as soon as it is known."""
    cold = list(_cold(log))
    print(f"\n{log.name}: {len(log)} micro-batches, {sum(len(c.T) for c in cold)} questions\n")
    names = ("recall@20", "NDCG@20", "last tenth", "young items", "new users", "CPU, ms")
    print(f"| | {' | '.join(names)} |\n{'|---' * (1 + len(names))}|")
    full: Run | None = None
    for variant in variants:
        run = Run.of(variant, log, config.model, cold)
        full = full or run
        print(f"| {variant.name} | {' | '.join(_cells(run, full))} |", flush=True)


def _cold(log: Log) -> Iterator[np.ndarray]:
    """For each micro-batch, `[2, questions]`: whether the item is young, the user new."""
    events: dict[str, int] = {}
    for _, rows in log.batches():
        batch: Batch = read_batch(rows)
        before = np.array([events.get(name, 0) for name in batch.items], np.int64)
        past = np.bincount(batch.history_row, minlength=len(batch))
        yield np.stack([before[batch.item] < YOUNG, past < NEW])[:, batch.wanted]
        added = np.bincount(batch.item, batch.counts.sum(axis=1), minlength=len(batch.items))
        for place in np.flatnonzero(added).tolist():
            events[batch.items[place]] = int(before[place] + added[place])


@dataclass(frozen=True)
class Run:
    """What a variant did: sums over the questions of each micro-batch, and its cost."""

    found: np.ndarray  # [micro-batches, 2]: recall@20, NDCG@20
    rows: np.ndarray  # [micro-batches]
    cold: np.ndarray  # [micro-batches, 2] recall@20 on young items, for new users
    cold_rows: np.ndarray  # [micro-batches, 2]
    cpu: np.ndarray  # [micro-batches] seconds

    @classmethod
    def of(cls, variant: Variant, log: Log, model: ModelConfig, cold: list[np.ndarray]) -> "Run":
        """Go through the log."""
        from models.trainer import Trainer

        config = ModelConfig.model_validate({**model.model_dump(), **variant.settings})
        tables = [None if t in variant.without else getattr(log, t) for t in ("items", "users")]
        trainer = Trainer(config, *tables)
        trainer.tuned = 0  # the baselines are not asked
        lines = []
        for number, rows in log.batches():
            begun = time.process_time()
            evaluation = trainer.step(number, rows).evaluation
            cpu = time.process_time() - begun
            figures = answers(evaluation) if evaluation else np.zeros((2, 0))
            those = cold[number - 1]
            found = those @ figures[0] if evaluation else np.zeros(2)
            lines.append([*figures.sum(axis=1), *found, *those.sum(axis=1), figures.shape[1], cpu])
        table = np.array(lines)
        return cls(
            found=table[:, :2],
            cold=table[:, 2:4],
            cold_rows=table[:, 4:6],
            rows=table[:, 6],
            cpu=table[:, 7],
        )


def _cells(run: Run, full: Run) -> list[str]:
    half, tenth = slice(since(run.rows, 0.5), None), slice(since(run.rows, 0.9), None)
    recall, ndcg = run.found[half].sum(axis=0) / run.rows[half].sum()
    late = run.found[tenth].sum(axis=0) / run.rows[tenth].sum()
    (young, _), (young_rows, _) = run.cold[half].sum(axis=0), run.cold_rows[half].sum(axis=0)
    (_, new), (_, new_rows) = run.cold.sum(axis=0), run.cold_rows.sum(axis=0)
    return [
        f"{recall:.4f} · {_share(run.found[half, 0], full.found[half, 0])}",
        f"{ndcg:.4f} · {_share(run.found[half, 1], full.found[half, 1])}",
        f"{late[0]:.4f} / {late[1]:.4f} · {_share(run.found[tenth, 0], full.found[tenth, 0])}",
        f"{young / max(young_rows, 1.0):.4f} ({young_rows:.0f}) · "
        f"{_share(run.cold[half, 0], full.cold[half, 0])}",
        f"{new / max(new_rows, 1.0):.4f} ({new_rows:.0f}) · "
        f"{_share(run.cold[:, 1], full.cold[:, 1])}",
        f"{1e3 * run.cpu[len(run.cpu) // 2 :].mean():.0f}",
    ]


def _share(part: np.ndarray, whole: np.ndarray) -> str:
    found: Interval = interval(part, whole)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
