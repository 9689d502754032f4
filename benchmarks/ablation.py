"""What does each part of the model bring? One table per log, a part left out in each line.

    .venv/bin/python benchmarks/ablation.py [LOG]... [--batches 3000] [--only "no context"]...

A LOG is a folder as for benchmarks/quality.py (default: kuairand_likes); with --together
there is one table of all of them, for what one log is too short to tell. Each line is a
model of its own that goes through the whole log, every micro-batch predicted before it is
trained on, with one part changed by settings of the job file or taken out, or without the
catalogue or the users' table. Columns:

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

What has no setting is taken out by hand: stream features, the items' bias and the users' gate
on them, dwells of past events. Not here are the fading sum of past items (it goes with "no
history") and in-batch negatives, which the model does not have. `heads off` cannot change a
ranking, for the towers do not learn from the heads: it is there to show just that.
"""

import argparse
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any
from unittest.mock import patch

import numpy as np
from prequential import Log, answers, heading, since

from models.bootstrap import Interval, interval
from models.config import ModelConfig
from models.feature_batch import Batch, read_batch
from models.memory.item_stream import ItemStream
from models.memory.seen_items import SeenItems
from models.schema import HEADS
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
    cut: Callable[[], AbstractContextManager[Any]] = nullcontext  # what has no setting


def _no_stream_features() -> AbstractContextManager[Any]:
    """All items look alike to the bias and to the gates."""
    real = ItemStream.features

    def blind(self: ItemStream, *args: Any) -> np.ndarray:
        return np.zeros_like(real(self, *args))

    return patch.object(ItemStream, "features", blind)


def _no_bias() -> AbstractContextManager[Any]:
    """Items have no b(F); the gates still read F."""
    from models.network.towers import ItemBias

    return patch.object(ItemBias, "call", lambda self, features: 0.0 * features[:, :1])


def _no_gate() -> AbstractContextManager[Any]:
    """F moves the bias alone, the same for all users."""
    from models.network.towers import UserTower

    real = UserTower.call

    def call(self: UserTower, inputs: dict[str, Any]) -> Any:
        mine, theirs = self._config.dim + 1, len(self._config.stream_features)
        kept = np.ones(self._config.vector_dim, np.float32)
        kept[mine : mine + theirs] = 0.0
        return real(self, inputs) * kept

    return patch.object(UserTower, "call", call)


def _no_dwells() -> AbstractContextManager[Any]:
    """How long a user stayed with a past item is not known."""
    real = SeenItems.dwells

    def unknown(self: SeenItems, *args: Any) -> np.ndarray:
        return np.zeros_like(real(self, *args))

    return patch.object(SeenItems, "dwells", unknown)


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
    Variant("likeness the same for all", {"likeness_fresh": 0.0}),
    Variant("no transitions", {"transition_dim": 0}),
    Variant("no catalogue", without=("items",)),
    Variant("no user attributes", without=("users",)),
    Variant("no context", {"contexts": 0}),
    Variant("neither of both", {"contexts": 0}, without=("users",)),
    Variant("no stream features", cut=_no_stream_features),
    Variant("no bias", cut=_no_bias),
    Variant("no gate", cut=_no_gate),
    Variant("no dwells of past events", cut=_no_dwells),
    Variant("five half-lives", {"half_lives_h": (0.25, 1.0, 3.0, 12.0, 48.0)}),
    Variant("no dislikes, no skips", {"dislike_weight": 0.0, "skip_weight": 0.0}),
    Variant("no skips", {"skip_weight": 0.0}),
    Variant("weighed by confidence", {"confidence_power": 1.0}),
    Variant("negatives drawn evenly", {"hot_share": 0.0}),
    Variant("negatives all hot", {"hot_share": 1.0}),
    Variant("256 negatives", {"negatives": 256}),
    Variant("width 32", {"dim": 32, "table_rate": 0.1125}),
    Variant("Adagrad from .0001, .09", {"table_accumulator": 1e-4, "table_rate": 0.09}),
    Variant("Adagrad from .1", {"table_accumulator": 0.1}),
    Variant("heads off", {"head_weights": dict.fromkeys(HEADS, 0.0)}),
)


def main() -> None:
    names = [one.name for one in VARIANTS]
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("logs", nargs="*", default=["kuairand_likes"])
    parser.add_argument("--batches", type=int, default=None, help="stop after so many")
    parser.add_argument("--only", nargs="*", choices=names, default=names, metavar="VARIANT")
    parser.add_argument("--together", action="store_true", help="one table of all logs")
    given = parser.parse_args()
    config = load_job(None)
    print(heading())
    variants = [one for one in VARIANTS if one.name in {"full", *given.only}]
    for names in [given.logs] if given.together else [[name] for name in given.logs]:
        logs = [Log.read(name, config, given.batches) for name in names]
        report(logs, config, variants)


def report(logs: list[Log], config: JobConfig, variants: list[Variant]) -> None:
    """Print the table of these logs, a line as soon as it is known."""
    cold = [list(_cold(log)) for log in logs]
    title = ", ".join(log.name for log in logs)
    batches, asked = sum(map(len, logs)), sum(len(c.T) for each in cold for c in each)
    print(f"\n{title}: {batches} micro-batches, {asked} questions\n")
    names = ("recall@20", "NDCG@20", "last tenth", "young items", "new users", "CPU, ms")
    print(f"| | {' | '.join(names)} |\n{'|---' * (1 + len(names))}|")
    full: Run | None = None
    for variant in variants:
        runs = (Run.of(variant, *each, config.model) for each in zip(logs, cold, strict=True))
        run = Run.joined(runs)
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


class Column(IntEnum):
    """Of a run's tables."""

    RECALL, NDCG, YOUNG, NEW = range(4)  # sums over the questions of a micro-batch
    CPU = 4  # seconds


@dataclass(frozen=True)
class Run:
    """What a variant did: a line for each micro-batch, of all, the last half, the last tenth."""

    whole: np.ndarray  # [2, micro-batches, columns]: sums, and the questions behind each
    half: np.ndarray
    tenth: np.ndarray

    @classmethod
    def of(cls, variant: Variant, log: Log, cold: list[np.ndarray], model: ModelConfig) -> "Run":
        """Go through the log."""
        with variant.cut():
            return cls._of(variant, log, cold, model)

    @classmethod
    def _of(cls, variant: Variant, log: Log, cold: list[np.ndarray], model: ModelConfig) -> "Run":
        from models.training.trainer import Trainer

        config = ModelConfig.model_validate({**model.model_dump(), **variant.settings})
        tables = [None if t in variant.without else getattr(log, t) for t in ("items", "users")]
        trainer = Trainer(config, *tables)
        trainer.tuned = 0  # the baselines are not asked
        sums, asked = [], []
        for number, rows in log.batches():
            begun = time.process_time()
            evaluation = trainer.step(number, rows).evaluation
            cpu = time.process_time() - begun
            recall, ndcg = figures = answers(evaluation) if evaluation else np.zeros((2, 0))
            those = cold[number - 1] if evaluation else np.zeros((2, 0), bool)
            sums.append([recall.sum(), ndcg.sum(), *(those @ recall), cpu])
            asked.append([*[figures.shape[1]] * 2, *those.sum(axis=1), 1])
        table = np.array([sums, asked], float)
        half, tenth = (table[:, since(table[1, :, Column.RECALL], part) :] for part in (0.5, 0.9))
        return cls(table, half, tenth)

    @classmethod
    def joined(cls, runs: Iterable["Run"]) -> "Run":
        """Of several logs, each with its own last half and last tenth."""
        parts = [(run.whole, run.half, run.tenth) for run in runs]
        return cls(*(np.concatenate(each, axis=1) for each in zip(*parts, strict=True)))


def _cells(run: Run, full: Run) -> list[str]:
    def mean(part: np.ndarray, column: Column) -> str:
        found, asked = part[:, :, column].sum(axis=1)
        return f"{found / max(asked, 1.0):.4f}"

    def share(part: str, column: Column) -> str:
        return _share(*(getattr(one, part)[0, :, column] for one in (run, full)))

    young, new = (
        f"{part[1, :, column].sum():.0f}"
        for part, column in ((run.half, Column.YOUNG), (run.whole, Column.NEW))
    )
    late = f"{mean(run.tenth, Column.RECALL)} / {mean(run.tenth, Column.NDCG)}"
    return [
        f"{mean(run.half, Column.RECALL)} · {share('half', Column.RECALL)}",
        f"{mean(run.half, Column.NDCG)} · {share('half', Column.NDCG)}",
        f"{late} · {share('tenth', Column.RECALL)}",
        f"{mean(run.half, Column.YOUNG)} ({young}) · {share('half', Column.YOUNG)}",
        f"{mean(run.whole, Column.NEW)} ({new}) · {share('whole', Column.NEW)}",
        f"{1e3 * run.half[0, :, Column.CPU].mean():.0f}",
    ]


def _share(part: np.ndarray, whole: np.ndarray) -> str:
    found: Interval = interval(part, whole)
    return f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


if __name__ == "__main__":
    main()
