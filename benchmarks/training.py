"""What fine-tuning costs: CPU seconds as ratios, each figure from a process of its own.

    .venv/bin/python benchmarks/training.py [--quick] [--only micro-batch,tables,stream,floor]

micro-batch  1,000 rows from an Arrow batch to a delta written as Parquet: ours, with and
             without the prediction of every row before it is trained on; plain TFRS with one
             live `fit`; plain TFRS with `compile` + `fit` each time (benchmarks/peers); all of
             them as by default, then without a Transformer over the history
tables       the same micro-batch, and its steps alone, with 100k and with 5M rows of 64 in
             the tables of users and of items
stream       new ids without end: resident memory, ids held, traces of the tf.functions
floor        examples per CPU second, FLOPs per example, share of what a large matrix
             product reaches on this machine

Processor time is of one thread, user + system, the median of the micro-batches measured.
`--quick`: a tenth of the stream, tables of 1M. Needs some 12 GB of memory without it.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
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
SINGLE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="micro-batch,tables,stream,floor")
    parser.add_argument("--out", type=Path, default=None, help="JSON of all figures")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        name, *arguments = given.part
        print(json.dumps(PARTS[name](*map(json.loads, arguments))))
        return
    cpu = platform.processor() or platform.machine()
    figures: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{cpu}, {os.cpu_count()} cores, Python {sys.version.split()[0]}",
        "quick": given.quick,
    }
    print(f"{figures['date']} · {figures['machine']}")
    for name in given.only.split(","):
        figures[name] = SECTIONS[name](quick=given.quick)
    if given.out:
        given.out.write_text(json.dumps(figures, indent=1) + "\n")


def part(name: str, *arguments: Any) -> dict[str, Any]:
    """Run a part in a process of its own; what it measured."""
    command = [sys.executable, __file__, "--part", name, *map(json.dumps, arguments)]
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **SINGLE, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{name} {arguments} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def cpu_ms(act: Callable[[], Any]) -> float:
    """Processor time of one call, all threads, milliseconds."""
    begun = time.process_time()
    act()
    return (time.process_time() - begun) * 1e3


def median(values: list[float]) -> float:
    return float(np.median(values))


# -- one micro-batch ---------------------------------------------------------


def micro_batch(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    return {sequence: _compared(sequence, quick=quick) for sequence in ("transformer", "mean")}


def _compared(sequence: str, *, quick: bool) -> dict[str, float]:
    """Print and return what each way costs that reads histories so."""
    count = 8 if quick else 20
    runs: dict[str, list[float]] = {}
    for _ in range(1 if quick else 2):  # in turn: the machine's other work falls on all alike
        for name, act in (
            ("ours", lambda: part("ours", sequence, False, count)),
            ("ours, predicting first", lambda: part("ours", sequence, True, count)),
            ("fit kept alive", lambda: part("fit", sequence, count)),
            ("compile + fit each time", lambda: part("fit_anew", sequence, 3)),
        ):
            runs.setdefault(name, []).extend(act()["cpu_ms"])
    cost = {name: median(values) for name, values in runs.items()}
    print(f"\na micro-batch of {ROWS} rows, Arrow batch to published delta; sequence = {sequence}")
    for name, value in cost.items():
        print(f"  {name:26} {value:8.1f} ms CPU   {value / cost['ours']:6.2f} × ours")
    return cost


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


# -- large tables ------------------------------------------------------------


def tables(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    small, large = SMALL, 1_000_000 if quick else 5_000_000
    count = 8 if quick else 20
    sizes = {"small": (small, small), "users": (large, small), "items": (small, large)}
    found = {name: part("table", *size, count) for name, size in sizes.items()}
    print("\nlarge tables, dim 64, without predicting first")
    for name, (users, items) in sizes.items():
        told = found[name]
        base = found["small"]
        print(
            f"  {users:9,} users {items:9,} items: "
            + "   ".join(
                f"{key} {told[key]:7.1f} ms ({told[key] / base[key]:.2f} ×)"
                for key in ("micro-batch", "step", "delta")
            )
            + f"   {told['rows']:.0f} rows published, {told['rss_mb']:,.0f} MB"
        )
    return found


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
        state.know(rows)
        state.hot.touch(rows)
        state.published_at[rows] = START_MS
        state.fading.note(rows, state.stream.last[rows], state.published_at[rows])
    state.now = START_MS


# -- a stream without end ----------------------------------------------------


def stream(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    found = part("ids", 1_000 if quick else 10_000)
    print(f"\na stream of new ids: {found['ids']:,} distinct in {found['batches']:,} micro-batches")
    for mark in found["marks"]:
        print(
            f"  after {mark['batch']:6,}: {mark['rss_mb']:7,.0f} MB resident, {mark['users']:7,} "
            f"users and {mark['items']:7,} items held, {mark['traces']} traces"
        )
    return found


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


# -- the floor ---------------------------------------------------------------


def floor(*, quick: bool) -> dict[str, Any]:
    """Print and return the section."""
    found = part("step", 20 if quick else 60)
    print(f"\nthe floor: a matrix product reaches {found['peak_gflops']:.0f} GFLOP/s on one thread")
    for size, told in found["steps"].items():
        share = told["gflops"] / found["peak_gflops"]
        print(
            f"  steps of {size:>4} rows: {told['examples_per_s']:8,.0f} examples a CPU second, "
            f"{told['flops_per_example'] / 1e6:.2f} MFLOP each, {share:.1%} of that"
        )
    return found


def step(count: int) -> dict[str, Any]:
    """Each traced step alone, and a large matrix product."""
    from synthetic import items_table, users_table

    from models.config import ModelConfig
    from models.network.tensorflow_runtime import tensorflow
    from models.training import train_step
    from models.training.negative_sampling import draw
    from models.training.trainer import Trainer

    rng = np.random.default_rng(0)
    config = ModelConfig(evaluate=False)
    trainer = Trainer(config, items_table(rng, ITEMS), users_table(rng, USERS))
    *before, last = batches(WARM)
    for number, rows in enumerate(before, 1):
        trainer.step(number, rows)
    prepared = trainer._preparer.prepare(trainer.state, WARM, last)
    trainer._grow()
    hot, known = train_step._hot(config, trainer.state, prepared), trainer.state.known_rows()
    weights, steps = train_step._weights(config, prepared.batch), {}
    for size in (config.step_rows, config.wide_rows):
        negatives = draw(hot, known, config.negatives, rng)
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
SECTIONS = {"micro-batch": micro_batch, "tables": tables, "stream": stream, "floor": floor}

if __name__ == "__main__":
    main()
