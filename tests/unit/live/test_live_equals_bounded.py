"""The live stages without Beam: whatever comes when, the rows and batches of a bounded run."""

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.store.store import Store
from pipelines.arrow.columns import as_int64
from pipelines.arrow.ipc import concat
from pipelines.batches.micro_batch import LogBatches
from pipelines.clean.duplicate_rule import drop_repeats, fingerprints_of, repeated_fingerprints
from pipelines.clean.quarantine import Suspicion
from pipelines.config import BatchConfig, CleanConfig, FeatureConfig, WindowSpec, parse_duration
from pipelines.features.aggregate import aggregate
from pipelines.features.observations import observe, read_log
from pipelines.features.rows import FeatureRows
from pipelines.features.user_state import UserMemory, rows_and_memory
from pipelines.live.state.journal import Entry
from pipelines.live.state.micro_batches import Cutter, LiveLog
from pipelines.live.state.seen_events import SeenEvents
from pipelines.live.state.timer_grid import TimerGrid
from pipelines.live.state.user_features import UserFeatures
from pipelines.schema import EVENT_TYPES, EVENTS
from tests.support.strategies import START, configs, logs

lasting = configs.map(lambda config: config.model_copy(update={"allowed_lateness": 86_400_000}))


TRUSTING = CleanConfig()
suspicions = st.builds(
    CleanConfig,
    max_events=st.sampled_from([0, 1, 2, 4]),
    max_dwell=st.sampled_from(["0", "1s"]),
    min_click_dwell=st.sampled_from(["0", "1500ms"]),
)


def batch(events: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(events, schema=EVENTS)


def plain(parts: list) -> list[dict[str, Any]]:
    """Feature rows, with their histories, in an order of their own."""
    rows = [row for part in parts for row in part.materialise().to_pylist()]
    return sorted(rows, key=lambda r: (r["user_id"], r["item_id"], r["window_end"], r["revision"]))


def unique(events: list[dict[str, Any]], config: FeatureConfig) -> pa.RecordBatch:
    whole = batch(events)
    return drop_repeats(
        whole, [repeated_fingerprints(fingerprints_of(whole), config.dedupe_horizon)]
    )


def bounded(
    events: list[dict[str, Any]], config: FeatureConfig, clean: CleanConfig = TRUSTING
) -> list[dict[str, Any]]:
    """All at once, as `rillet features` does."""
    kept = Suspicion(clean, config.window).set_apart(unique(events, config)).events
    return plain([aggregate(observe(read_log(kept), config), config)])


def reborn(mirror: Any, fresh: Any, written: list[Entry]) -> Any:
    """The mirror that a restart makes of what was written."""
    other = fresh()
    for entry in written:
        other.load(entry)
    return other


class Living:
    """A live stage of one shard: it may be made anew from its journal before a tick."""

    def __init__(self, fresh: Any, dice: random.Random, crash: float = 0.3) -> None:
        self.fresh, self.dice, self.crash = fresh, dice, crash
        self.mirror, self.written, self.ticks = fresh(), [], set()

    def wait(self, events: pa.RecordBatch) -> list[int]:
        wake, entries = self.mirror.wait(events)
        self.written += entries
        self.ticks.update(wake)
        return wake

    def fire(self, tick: int) -> tuple[Any, ...]:
        if self.dice.random() < self.crash:
            self.mirror = reborn(self.mirror, self.fresh, self.written)
        if self.dice.random() < self.crash:
            self.written = list(self.mirror.dump())
        self.ticks.discard(tick)
        *told, entries = self.mirror.fire(tick)
        self.written += entries
        return tuple(told)


def live(
    events: list[dict[str, Any]],
    config: FeatureConfig,
    seed: int,
    late_steps: int = 0,
    clean: CleanConfig = TRUSTING,
    letters: list[pa.RecordBatch] | None = None,
) -> tuple[list[FeatureRows], int, int]:
    """As the live stages do, in an order of arrival drawn with `seed`.

    An event comes at any moment before the tick that it belongs before, or so many steps
    of the grid later. What is quarantined is added to `letters`.

    Returns:
        The rows, how many duplicates there were, and how many came too late.
    """
    dice = random.Random(seed)
    grid, all_there = TimerGrid.of(config.window), TimerGrid.of_rows(config.window)
    due = grid.after(np.array([e["event_time"] for e in events], np.int64)).tolist()
    begin, behind = min(due, default=0) - 3 * grid.step_ms, late_steps * grid.step_ms
    moments = [dice.randrange(begin, tick + behind) for tick in due]
    order = sorted(range(len(events)), key=moments.__getitem__)
    one = Living(
        lambda: SeenEvents(config.window, config.dedupe_horizon, config.allowed_lateness), dice
    )
    two = Living(lambda: UserFeatures(config, clean=clean), dice)
    rows, duplicates, too_late = [], 0, 0
    while order or one.ticks or two.ticks:
        tick = min(one.ticks | two.ticks, default=2**62)
        here = [k for k in order if moments[k] < tick]
        if here:
            some = here[: dice.randrange(len(here)) + 1]
            order = order[len(some) :]
            one.wait(batch([events[k] for k in some]))
        elif tick in one.ticks:
            (settled,) = one.fire(tick)
            if settled is None:
                continue
            assert late_steps or settled.late == settled.too_late.num_rows == 0
            duplicates += settled.duplicates
            too_late += settled.too_late.num_rows
            if settled.unique.num_rows:
                wake = two.wait(settled.unique)
                assert late_steps or min(wake) >= tick
        else:
            made, repeats, apart = two.fire(tick)
            duplicates += repeats
            if letters is not None and apart is not None:
                letters.append(apart.letters)
            ends = [as_int64(part.rows.column("window_end")) for part in made]
            assert late_steps or all((all_there.at_or_after(e) == tick).all() for e in ends)
            rows += made
    assert two.mirror._held.events.num_rows == 0
    return rows, duplicates, too_late


def cut_live(
    parts: list[FeatureRows], config: FeatureConfig, log: LiveLog, dice: random.Random
) -> None:
    """Micro-batches of rows as they are told, with restarts."""
    grid = TimerGrid.of_rows(config.window)
    three = Living(lambda: Cutter(log, grid), dice)
    for part in parts:
        told = int(grid.at_or_after(as_int64(part.rows.column("window_end")))[0])
        for tick in sorted(tick for tick in three.ticks if tick < told):
            three.fire(tick)
        three.wait(part.to_bytes())
    for tick in sorted(three.ticks):
        three.fire(tick)


@given(
    logs(),
    lasting,
    st.sampled_from([(1, 3, "0"), (4, 9, "1s"), (9, 9, "1500ms"), (100, 100, "10s")]),
    st.integers(0, 2**16),
)
@settings(max_examples=40)
def test_any_order_of_arrival_gives_the_batches_of_a_bounded_run(
    events: list[dict[str, Any]], config: FeatureConfig, when: tuple[int, int, str], seed: int
) -> None:
    assume(events)
    least, most, wait = when
    batching = BatchConfig(min_rows=least, max_rows=most, max_wait=wait)
    parts, _, _ = live(events, config, seed)
    whole = unique(events, config)
    with tempfile.TemporaryDirectory() as folder:
        bounded, streamed = (Store(Path(folder) / name) for name in ("bounded", "streamed"))
        for made in (bounded, streamed):
            made.create({})
        rows = aggregate(observe(read_log(whole), config), config)
        LogBatches(bounded, batching, config.history, 0)(rows)
        log = LiveLog(streamed, batching, config.history)
        cut_live(parts, config, log, random.Random(seed))
        numbers = range(1, bounded.last_batch() + 1)
        assert streamed.last_batch() == bounded.last_batch()
        assert [streamed.read_batch(n)[1] for n in numbers] == [
            bounded.read_batch(n)[1] for n in numbers
        ]


@given(logs(), lasting, st.integers(0, 2**16))
@settings(max_examples=60)
def test_any_order_of_arrival_gives_the_rows_of_a_bounded_run(
    events: list[dict[str, Any]], config: FeatureConfig, seed: int
) -> None:
    parts, duplicates, _ = live(events, config, seed)
    rows = plain(parts)
    assert rows == bounded(events, config)
    if config.window.overlap == 1:  # else an event counts in several rows
        assert counted(rows) + duplicates == len(events)


@given(logs(), lasting, suspicions, st.integers(1, 5), st.integers(0, 2**16))
@settings(max_examples=80)
def test_any_order_of_arrival_sets_the_same_events_apart(
    events: list[dict[str, Any]],
    config: FeatureConfig,
    clean: CleanConfig,
    times: int,
    seed: int,
) -> None:
    step = config.window.tick_ms
    per = next(n for n in range(-(-step // times), step + 1) if step % n == 0)
    clean = clean.model_copy(update={"per": per})
    letters: list[pa.RecordBatch] = []
    parts, duplicates, _ = live(events, config, seed, clean=clean, letters=letters)
    rows = plain(parts)
    assert rows == bounded(events, config, clean)
    whole = Suspicion(clean, config.window).set_apart(unique(events, config))
    told = [repr(row) for batch in letters for row in batch.to_pylist()]
    assert sorted(told) == sorted(map(repr, whole.letters.to_pylist()))
    if config.window.overlap == 1:
        assert counted(rows) + duplicates + len(told) == len(events)


def counted(rows: list[dict[str, Any]]) -> int:
    """Events in all rows."""
    names = [f"n_{name}" for name in EVENT_TYPES]
    return sum(row[name] for row in rows for name in names)


@given(logs(), configs, st.sampled_from(["0", "2s", "20s"]), st.integers(0, 2**16))
@settings(max_examples=60)
def test_however_late_an_event_is_one_thing_and_no_row_is_told_twice(
    events: list[dict[str, Any]], config: FeatureConfig, lateness: str, seed: int
) -> None:
    allowed = parse_duration(lateness)
    config = config.model_copy(update={"allowed_lateness": allowed})
    parts, duplicates, too_late = live(events, config, seed, late_steps=8)
    rows = plain(parts)
    keys = [
        tuple(row[k] for k in ("user_id", "item_id", "window_start", "window_end", "revision"))
        for row in rows
    ]
    assert len(set(keys)) == len(keys)
    left = len(events) - duplicates - too_late
    if config.window.overlap == 1:
        assert counted(rows) == left
    else:  # windows that are gone are left out
        assert left <= counted(rows) <= left * config.window.overlap


fixed = st.builds(
    lambda config, size: config.model_copy(update={"window": WindowSpec.parse(f"fixed:{size}")}),
    configs,
    st.sampled_from(["1s", "5s", "2500ms"]),
)


@given(logs(ids=400), fixed)
def test_the_kernel_goes_on_from_a_memory_as_if_it_had_seen_it_all(
    events: list[dict[str, Any]], config: FeatureConfig
) -> None:
    distinct = list({e["event_id"]: e for e in events}.values())
    size = config.window.size_ms

    def tick_of_one(event: dict[str, Any]) -> int:
        return event["event_time"] // size * size + size

    ticks = sorted({tick_of_one(e) for e in distinct})
    memory, parts = UserMemory.empty(), []
    for tick in ticks:
        now = [e for e in distinct if tick_of_one(e) == tick]
        users = {e["user_id"] for e in now}
        known = memory.facts.column("user_id").to_pylist()
        mine = [place for place, user in enumerate(known) if user in users]
        others = [place for place in range(len(known)) if place not in mine]
        part = memory.take(np.array(mine, np.int64))
        rows, new, repeats = rows_and_memory(
            UserMemory.from_bytes(part.to_bytes()), batch(now), config
        )
        assert repeats == 0
        parts.append(rows)
        memory = UserMemory.concat([memory.take(np.array(others, np.int64)), new])
    assert plain(parts) == bounded(distinct, config)


def test_ticks_are_the_ends_of_windows() -> None:
    times = np.array([-1, 0, 999, 1_000])
    assert TimerGrid(1_000).after(times).tolist() == [0, 1_000, 1_000, 2_000]
    assert TimerGrid(1_000).at_or_after(times).tolist() == [0, 0, 1_000, 1_000]
    assert TimerGrid(1_000, 300).after(times).tolist() == [300, 300, 1_300, 1_300]


def test_no_batches_is_an_empty_memory() -> None:
    assert UserMemory.empty().facts.num_rows == 0
    assert concat([], EVENTS).num_rows == 0


def test_a_restart_forgets_nobody_whose_windows_are_open() -> None:
    # Retention is shorter than a window: an event outlives, in open windows, who it follows.
    given = {"window": "sliding:5s/2s", "session_gap": "0", "retention": "3s", "history": 0}
    config = FeatureConfig.model_validate({**given, "dedupe_horizon": "0"})
    blank = dict.fromkeys(EVENTS.names) | {"user_id": "u", "item_id": "i", "event_type": "like"}
    seconds = enumerate([0, 1, 7, 10])
    events = [blank | {"event_id": f"e{n}", "event_time": START + 1_000 * s} for n, s in seconds]
    for seed in range(20):
        parts, _, _ = live([*events], config, seed)
        assert plain(parts) == bounded([*events], config)
