"""What `training.py` measures, each part in a process of its own: plain values come back."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 1_000
USERS, ITEMS = 100_000, 20_000
SMALL = 100_000
WARM = 6


def cpu_ms(act: Callable[[], Any]) -> float:
    """Processor time of one call, all threads, milliseconds."""
    begun = time.process_time()
    act()
    return (time.process_time() - begun) * 1e3


def median(values: list[float]) -> float:
    return float(np.median(values))


def batches(
    count: int, users: int = USERS, items: int = ITEMS, strides: tuple[int, int] = (1, 1)
) -> list[pa.RecordBatch]:
    """Micro-batches on so many users and items, which lie `strides` apart in their tables."""
    from synthetic import feature_rows, popular

    rng = np.random.default_rng(1)
    made = []
    for k in range(1, count + 1):
        user = strides[0] * rng.integers(0, users, ROWS)
        item = strides[1] * popular(rng, items, ROWS)
        made.append(feature_rows(rng, k, user, item, items, stride=strides[1]))
    return made


def publish(delta: pa.RecordBatch, folder: str) -> None:
    """Write it as the store does: with a dictionary of vectors it would take ten times as long."""
    table = pa.Table.from_batches([delta])
    path = Path(folder) / "delta.parquet"
    pq.write_table(table, path, compression="zstd", use_dictionary=False)


def ours(sequence: Any, evaluate: bool, count: int) -> dict[str, Any]:
    """CPU milliseconds of each micro-batch of a live trainer."""
    from synthetic import items_table, users_table

    from models.config import ModelConfig
    from models.training.trainer import Trainer

    rng = np.random.default_rng(0)
    config = ModelConfig(evaluate=evaluate, sequence=sequence)
    trainer = Trainer(config, items_table(rng, ITEMS), users_table(rng, USERS))
    used = []
    with tempfile.TemporaryDirectory() as folder:
        for number, rows in enumerate(batches(WARM + count), 1):
            used.append(cpu_ms(lambda r=rows, n=number: publish(trainer.step(n, r).delta, folder)))
    return {"cpu_ms": used[WARM:]}


def _peer(sequence: Any) -> tuple[Any, tuple[Any, ...], dict[str, np.ndarray]]:
    from peers import tfrs_fit
    from synthetic import items_table, users_table

    from models.config import ModelConfig
    from models.training.catalogue_features import Attributes, Catalogue

    rng = np.random.default_rng(0)
    config = ModelConfig(sequence=sequence)
    catalogue = Catalogue(items_table(rng, ITEMS), config)
    known = Attributes(users_table(rng, USERS), config)
    users = [f"user{n}" for n in range(USERS)]
    context = np.arange(3, dtype=np.int32) + 1
    facts = {name: np.concatenate([known.of([name])[0][:3], context]) for name in users}
    words = np.concatenate([np.zeros((2, config.content_columns), np.int32), catalogue.words])
    return tfrs_fit, (config, users, catalogue.ids, words), facts


def fit(sequence: str, count: int) -> dict[str, Any]:
    """CPU milliseconds of each micro-batch, one model kept alive."""
    peer, arguments, facts = _peer(sequence)
    model = peer.compiled(*arguments)
    length = arguments[0].history
    used = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in batches(WARM + count):
            used.append(
                cpu_ms(
                    lambda r=rows: publish(
                        peer.micro_batch(model, peer.tensors(r, facts, length)), folder
                    )
                )
            )
    return {"cpu_ms": used[WARM:]}


def fit_anew(sequence: str, count: int) -> dict[str, Any]:
    """CPU milliseconds of each micro-batch, a new model that takes over the old one's weights."""
    peer, arguments, facts = _peer(sequence)
    length = arguments[0].history
    kept: list[list[np.ndarray]] = []
    used = []

    def one(rows: pa.RecordBatch, folder: str) -> None:
        model = peer.compiled(*arguments)
        inputs = peer.tensors(rows, facts, length)
        if kept:
            model.compute_loss({name: value[:2] for name, value in inputs.items()})
            model.set_weights(kept.pop())
        publish(peer.micro_batch(model, inputs), folder)
        kept.append(model.get_weights())

    with tempfile.TemporaryDirectory() as folder:
        for rows in batches(1 + count):
            used.append(cpu_ms(lambda r=rows: one(r, folder)))
    return {"cpu_ms": used[1:]}


def table(users: int, items: int, count: int) -> dict[str, Any]:
    """Median CPU milliseconds with so many ids known before."""
    from models.config import ModelConfig
    from models.training.trainer import Trainer

    config = ModelConfig(
        dim=64, evaluate=False, user_limit=users + users // 20, item_limit=items + items // 20
    )
    trainer = Trainer(config, None, None)
    _fill(trainer, users, items)
    strides = (users // SMALL, items // SMALL)  # as many rows are touched, however many there are
    used: dict[str, list[float]] = {"micro-batch": [], "step": [], "delta": []}
    train, delta, published = trainer.model.train, trainer._delta, []
    inner: dict[str, float] = {}

    def timed(name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            begun = time.process_time()
            result = act(*arguments)
            inner[name] = inner.get(name, 0.0) + (time.process_time() - begun) * 1e3
            return result

        return run

    trainer.model.train, trainer._delta = timed("step", train), timed("delta", delta)
    with tempfile.TemporaryDirectory() as folder:
        for number, rows in enumerate(batches(WARM + count, SMALL, SMALL, strides), 1):
            inner.clear()

            def act(n: int = number, r: pa.RecordBatch = rows) -> None:
                out = trainer.step(n, r).delta
                published.append(out.num_rows)
                publish(out, folder)

            inner["micro-batch"] = cpu_ms(act)
            for name, values in used.items():
                values.append(inner[name])
    return {
        **{name: median(values[WARM:]) for name, values in used.items()},
        "rows": median(published[WARM:]),
        "rss_mb": psutil.Process().memory_info().rss / 1e6,
    }


def _fill(trainer: Any, users: int, items: int) -> None:
    """Make ids known as if each had had one event, over the hours before the first batch."""
    from synthetic import START_MS

    state = trainer.state
    rng = np.random.default_rng(2)
    for ids, prefix, size in ((state.user_ids, "user", users), (state.item_ids, "item", items)):
        for first in range(0, size, 500_000):
            numbers = range(first, min(first + 500_000, size))
            ones = np.ones(len(numbers), np.int64)
            ids.admit([f"{prefix}{n}" for n in numbers], START_MS * ones, ones)
    state.grow()
    trainer._grow()
    for first in range(1, items + 1, 500_000):
        rows = np.arange(first, min(first + 500_000, items + 1))
        # So long ago that none is due for renewal: what is published is what is touched.
        times = START_MS - rng.integers(10 * 86_400_000, 20 * 86_400_000, len(rows))
        ones = np.ones(len(rows))
        state.stream.update(rows, ones, 0 * ones, np.sort(times))
        state.items.add_known(rows)
        state.top_counts.touch(rows)
        state.items.published_at[rows] = START_MS
        state.stale_counts.note(rows, state.stream.last[rows], state.items.published_at[rows])
    state.now = START_MS


def ids(count: int) -> dict[str, Any]:
    """New users and items in every row; expiry after two days of event time, and limits."""
    from synthetic import feature_rows

    from models.config import ModelConfig
    from models.training.trainer import Trainer

    config = ModelConfig(
        dim=16,
        history=4,
        evaluate=False,
        user_limit=100_000,
        item_limit=50_000,
        expiry_days=2,
        wide_rows=1_000,
        negatives=512,
    )
    trainer = Trainer(config, None, None)
    rng = np.random.default_rng(3)
    marks = []
    for number in range(1, count + 1):
        fresh = np.arange(ROWS) + number * ROWS
        rows = feature_rows(rng, number, fresh, fresh, number * ROWS, history=8)
        trainer.step(number, rows)
        if number % (count // 10) == 0 or number in (10, count // 100):
            marks.append(
                {
                    "batch": number,
                    "rss_mb": psutil.Process().memory_info().rss / 1e6,
                    "users": len(trainer.state.user_ids),
                    "items": len(trainer.state.item_ids),
                    "traces": trainer.model.traces(),
                }
            )
    return {"ids": 2 * ROWS * count, "batches": count, "marks": marks}


def step(count: int) -> dict[str, Any]:
    """Each traced step alone, and a large matrix product."""
    from synthetic import items_table, users_table

    from models.config import ModelConfig
    from models.network.tensorflow_runtime import tensorflow
    from models.training import train_step
    from models.training.negative_sampling import draw_negatives
    from models.training.trainer import Trainer

    rng = np.random.default_rng(0)
    config = ModelConfig(evaluate=False)
    trainer = Trainer(config, items_table(rng, ITEMS), users_table(rng, USERS))
    *before, last = batches(WARM)
    for number, rows in enumerate(before, 1):
        trainer.step(number, rows)
    prepared = trainer._preparer.prepare(trainer.state, WARM, last)
    trainer._grow()
    popular = train_step._popular_rows(config, trainer.state, prepared)
    known = trainer.state.items.known_rows()
    weights, steps = train_step._weights(config, prepared.batch), {}
    for size in (config.step_rows, config.wide_rows):
        negatives = draw_negatives(popular, known, config.negatives, rng)
        rows = np.arange(size)
        given = train_step._inputs(config, trainer.state, prepared, rows, weights, negatives, size)
        used = median([cpu_ms(lambda g=given: trainer.model.train(g)) for _ in range(count)][5:])
        flops = trainer.model.flops(size)
        steps[str(size)] = {
            "examples_per_s": size / used * 1e3,
            "flops_per_example": flops / size,
            "gflops": flops / used / 1e6,
        }
    tf = tensorflow()
    a = tf.random.stateless_uniform([2_048, 2_048], [1, 2])
    product = tf.function(lambda: tf.matmul(a, a))
    used = min(cpu_ms(product) for _ in range(12))
    return {"steps": steps, "peak_gflops": 2 * 2_048**3 / used / 1e6}


PARTS = {"ours": ours, "fit": fit, "fit_anew": fit_anew, "table": table, "ids": ids, "step": step}
