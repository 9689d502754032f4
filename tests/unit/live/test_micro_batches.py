"""Live micro-batches: those of a bounded run, however rows arrive and whatever is restarted."""

import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.store.store import Store
from pipelines.batches.micro_batch import LogBatches
from pipelines.config import BatchConfig
from pipelines.features.rows import FeatureRows
from pipelines.live.state.journal import Entry
from pipelines.live.state.micro_batches import END_OF_STREAM, Cutter, LiveLog, row_keys
from pipelines.live.state.timer_grid import TimerGrid
from tests.support.rows import MINUTE, feature_rows

HISTORY = 5
ANY = TimerGrid(1)


def store(folder: str, name: str) -> Store:
    made = Store(Path(folder) / name)
    made.create({})
    return made


def ends(rows: FeatureRows) -> list[int]:
    return rows.rows.column("window_end").cast(pa.int64()).to_pylist()


def hashes(where: Store) -> list[str]:
    return [where.read_batch(n)[1] for n in range(1, where.last_batch() + 1)]


def reborn(cutter: Cutter, written: list[Entry]) -> Cutter:
    other = Cutter(cutter.log, cutter.grid)
    for entry in written:
        other.load(entry)
    return other


def live(rows: FeatureRows, log: LiveLog, seed: int) -> None:
    """Feed the rows shard by shard, tick by tick; restart from the journal now and then."""
    dice, cutter, written = random.Random(seed), Cutter(log, ANY), []
    told = np.array(ends(rows))
    ticks: set[int] = set()
    for end in sorted(set(told.tolist())):
        here = np.flatnonzero(told == end)
        dice.shuffle(here)
        for part in np.array_split(here, dice.randrange(1, 4)):
            if len(part):
                wake, entries = cutter.wait(rows.take(part).to_bytes())
                written += entries
                ticks |= set(wake)
        for tick in sorted(t for t in ticks if t <= end):
            ticks.discard(tick)
            if dice.random() < 0.3:
                cutter = reborn(cutter, written)
            if dice.random() < 0.3:
                written = list(cutter.dump())
            written += cutter.fire(tick)[1]
    for tick in [*sorted(ticks), END_OF_STREAM]:
        written += cutter.fire(tick)[1]


@given(
    st.integers(1, 60),
    st.integers(1, 9),
    st.builds(
        lambda least, more, wait: BatchConfig(
            min_rows=least, max_rows=least + more, max_wait=f"{wait}s"
        ),
        st.integers(1, 20),
        st.integers(0, 10),
        st.sampled_from([0, 60, 90, 600]),
    ),
    st.integers(0, 2**16),
)
@example(3, 3, BatchConfig(min_rows=1, max_rows=1, max_wait="0s"), 1)  # several pieces a cut
@settings(max_examples=25)
def test_batches_are_those_of_a_bounded_run(
    n: int, per_window: int, config: BatchConfig, seed: int
) -> None:
    rows = feature_rows(n, per_window=per_window, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        bounded, streamed = store(folder, "bounded"), store(folder, "streamed")
        LogBatches(bounded, config, HISTORY, 0)(rows)
        live(rows, LiveLog(streamed, config, HISTORY), seed)
        assert hashes(streamed) == hashes(bounded)


def test_what_was_logged_before_a_crash_stays_and_is_not_logged_again(tmp_path: Path) -> None:
    # Ten rows of one window; before the crash, two of them came too late for the first batch.
    rows = feature_rows(10, per_window=10)
    config = BatchConfig(min_rows=1, max_rows=100, max_wait="0")
    where = store(str(tmp_path), "store")
    log = LiveLog(where, config, HISTORY)
    before = Cutter(log, ANY)
    before.wait(rows.take(np.arange(8)).to_bytes())
    assert before.fire(ends(rows)[0])[0] == 1
    first = hashes(where)

    after = Cutter(log, ANY)
    after.wait(rows.to_bytes())
    assert after.fire(ends(rows)[0])[0] == 2
    assert hashes(where)[:1] == first
    logged = [where.read_batch(n)[0] for n in (1, 2)]
    assert [batch.num_rows for batch in logged] == [8, 2]
    assert sorted(np.concatenate([row_keys(b) for b in logged])) == sorted(row_keys(rows.rows))


def test_rows_that_were_logged_early_are_left_out_when_they_come(tmp_path: Path) -> None:
    rows = feature_rows(10, per_window=10)
    config = BatchConfig(min_rows=1, max_rows=100, max_wait="0")
    where = store(str(tmp_path), "store")
    log = LiveLog(where, config, HISTORY)
    before = Cutter(log, ANY)
    before.wait(rows.to_bytes())
    before.fire(ends(rows)[0])

    after, written = Cutter(log, ANY), []
    written += after.wait(rows.take(np.arange(8)).to_bytes())[1]
    number, entries = after.fire(ends(rows)[0])
    written += entries
    assert number == 1
    after = reborn(after, written)
    after.wait(rows.take(np.arange(8, 10)).to_bytes())
    assert after.fire(ends(rows)[0])[0] == 1
    assert where.last_batch() == 1


def test_the_oldest_row_waits_no_longer_than_it_should(tmp_path: Path) -> None:
    rows = feature_rows(4, per_window=2)
    config = BatchConfig(min_rows=100, max_rows=100, max_wait="90s")
    cutter = Cutter(LiveLog(store(str(tmp_path), "store"), config, HISTORY), ANY)
    first = min(ends(rows))
    wake, _ = cutter.wait(rows.to_bytes())
    assert wake == sorted(
        {first, first + MINUTE, first + 90_000, first + MINUTE + 90_000, END_OF_STREAM}
    )
    assert cutter.fire(first)[0] == 0
    assert cutter.fire(first + MINUTE)[0] == 0
    assert cutter.fire(first + 90_000)[0] == 1


@pytest.mark.parametrize("late", [True, False])
def test_late_rows_are_part_of_the_next_batch(late: bool, tmp_path: Path) -> None:
    rows = feature_rows(6, per_window=2)
    config = BatchConfig(min_rows=2, max_rows=100, max_wait="0")
    where = store(str(tmp_path), "store")
    cutter = Cutter(LiveLog(where, config, HISTORY), ANY)
    told = ends(rows)
    cutter.wait(rows.take(np.arange(2, 6) if late else np.arange(6)).to_bytes())
    for end in sorted(set(told[2:] if late else told)):
        cutter.fire(end)
    assert cutter.number == (2 if late else 3)
    if late:
        cutter.wait(rows.take(np.arange(2)).to_bytes())
        assert cutter.fire(told[0])[0] == 3
    assert sum(where.read_batch(n)[0].num_rows for n in (1, 2, 3)) == 6
