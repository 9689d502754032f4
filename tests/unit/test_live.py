"""The live stages without Beam: whatever comes when, the rows and batches of a bounded run."""

import random
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.batches import concat
from pipelines.config import FeatureConfig, WindowSpec
from pipelines.features import aggregate
from pipelines.live.dedupe import Waiting
from pipelines.live.journal import Entry
from pipelines.live.ticks import tick_of
from pipelines.live.users import Users
from pipelines.memory import Memory, go_on
from pipelines.observations import observe, read_log
from pipelines.prints import drop, losers, prints
from pipelines.schema import EVENTS
from tests.strategies import configs, logs

fixed = st.builds(
    lambda config, size: config.model_copy(
        update={"window": WindowSpec.parse(f"fixed:{size}"), "allowed_lateness": 86_400_000}
    ),
    configs,
    st.sampled_from(["1s", "5s", "2500ms"]),
)


def batch(events: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(events, schema=EVENTS)


def plain(parts: list) -> list[dict[str, Any]]:
    """Feature rows, with their histories, in an order of their own."""
    rows = [row for part in parts for row in part.materialise().to_pylist()]
    return sorted(rows, key=lambda r: (r["user_id"], r["item_id"], r["window_end"], r["revision"]))


def bounded(events: list[dict[str, Any]], config: FeatureConfig) -> list[dict[str, Any]]:
    """All at once, as `rillet features` does."""
    whole = batch(events)
    unique = drop(whole, [losers(prints(whole), config.dedupe_horizon)])
    return plain([aggregate(observe(read_log(unique), config), config)])


def reborn(mirror: Any, fresh: Any, written: list[Entry]) -> Any:
    """The mirror that a restart makes of what was written."""
    other = fresh()
    for entry in written:
        other.load(entry)
    return other


def live(
    events: list[dict[str, Any]],
    config: FeatureConfig,
    seed: int,
    crash: float = 0.3,
) -> tuple[list[dict[str, Any]], int]:
    """As the live stages do, in an order of arrival drawn with `seed`; (rows, duplicates).

    An event comes at any moment before the tick that ends its window. With the
    chance `crash`, a stage is made anew from its journal before a tick.
    """
    dice = random.Random(seed)
    size = config.window.size_ms
    ticks = sorted({tick_of_one(e, size) for e in events})
    moment = {id(e): dice.randrange(ticks.index(tick_of_one(e, size)) + 1) for e in events}

    def dedupe() -> Waiting:
        return Waiting(size, config.dedupe_horizon, config.allowed_lateness)

    def users() -> Users:
        return Users(config)

    one, two = dedupe(), users()
    first: list[Entry] = []
    second: list[Entry] = []
    rows, duplicates = [], 0
    for now, tick in enumerate(ticks):
        arriving = [e for e in events if moment[id(e)] == now]
        dice.shuffle(arriving)
        while arriving:
            cut = dice.randrange(len(arriving)) + 1
            first += [entry for _, entry in one.wait(batch(arriving[:cut]))]
            arriving = arriving[cut:]
        if dice.random() < crash:
            one, two = reborn(one, dedupe, first), reborn(two, users, second)
        if dice.random() < crash:
            first, second = list(one.dump()), list(two.dump())
        settled, entries = one.fire(tick)
        first += entries
        if settled is None:
            continue
        assert settled.late == 0
        assert settled.too_late.num_rows == 0
        duplicates += settled.duplicates
        if settled.unique.num_rows:
            second += [entry for _, entry in two.wait(settled.unique)]
        made, repeats, entries = two.fire(tick)
        second += entries
        duplicates += repeats
        if made is not None:
            rows.append(made)
    return plain(rows), duplicates


def tick_of_one(event: dict[str, Any], size: int) -> int:
    return event["event_time"] // size * size + size


@given(logs(), fixed, st.integers(0, 2**16))
@settings(max_examples=60)
def test_any_order_of_arrival_gives_the_rows_of_a_bounded_run(
    events: list[dict[str, Any]], config: FeatureConfig, seed: int
) -> None:
    rows, duplicates = live(events, config, seed)
    assert rows == bounded(events, config)
    counted = sum(
        sum(row[name] for name in row if name.startswith("n_") and name != "n_dwell")
        for row in rows
    )
    assert counted + duplicates == len(events)


@given(logs(ids=400), fixed, st.data())
def test_the_kernel_goes_on_from_a_memory_as_if_it_had_seen_it_all(
    events: list[dict[str, Any]], config: FeatureConfig, data: st.DataObject
) -> None:
    unique = list({e["event_id"]: e for e in events}.values())
    ticks = sorted({tick_of_one(e, config.window.size_ms) for e in unique})
    memory, parts = Memory.empty(), []
    for tick in ticks:
        now = [e for e in unique if tick_of_one(e, config.window.size_ms) == tick]
        users = {e["user_id"] for e in now}
        known = memory.facts.column("user_id").to_pylist()
        mine = [place for place, user in enumerate(known) if user in users]
        others = [place for place in range(len(known)) if place not in mine]
        import numpy as np

        part = memory.take(np.array(mine, np.int64))
        rows, new, repeats = go_on(Memory.from_bytes(part.to_bytes()), batch(now), config)
        assert repeats == 0
        parts.append(rows)
        memory = Memory.concat([memory.take(np.array(others, np.int64)), new])
    assert plain(parts) == bounded(unique, config)


def test_ticks_are_the_ends_of_windows() -> None:
    import numpy as np

    times = np.array([-1, 0, 999, 1_000])
    assert tick_of(times, 1_000).tolist() == [0, 1_000, 1_000, 2_000]


def test_no_batches_is_an_empty_memory() -> None:
    assert Memory.empty().facts.num_rows == 0
    assert concat([], EVENTS).num_rows == 0
