"""Micro-batches follow from event time and keys: never from arrival, pieces or bundles."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from rows import feature_rows

from models.store.store import Store
from pipelines.batches import row_order
from pipelines.batches.cut import Pending, advance, cut, spans
from pipelines.batches.micro_batch import LogBatches
from pipelines.batches.row_order import Keys
from pipelines.config import BatchConfig
from pipelines.errors import StoreError

MINUTE = 60_000

rows = st.lists(
    st.tuples(
        st.sampled_from(["u1", "u2", "ü3"]),
        st.sampled_from(["i1", "i2", "i3", "i4"]),
        st.integers(0, 60),  # window number
        st.integers(0, 2),  # revision
    ),
    unique=True,
    max_size=60,
)
configs = st.builds(
    lambda low, more, wait: BatchConfig(min_rows=low, max_rows=low + more, max_wait=f"{wait}m"),
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(0, 12),
)


def keys_of(rows: list[tuple[str, str, int, int]]) -> Keys:
    return Keys(
        np.array([r[0].encode() for r in rows], object),
        np.array([r[1].encode() for r in rows], object),
        np.array([r[2] * MINUTE for r in rows], np.int64),
        np.array([(r[2] + 1) * MINUTE for r in rows], np.int64),
        np.array([r[3] for r in rows], np.int32),
    )


def slow_cut(rows, config: BatchConfig, first: int) -> list[list[tuple]]:
    """The rule as it is written, row by row."""
    done: list[list[tuple]] = []

    def flush(pending: list[tuple]) -> None:
        number = first + len(done)

        def place(row):
            user, item, window, revision = row
            key = user.encode() + b"\0" + item.encode()
            told = xxhash.xxh3_64_intdigest(key, seed=number)
            return (window, told, user.encode(), item.encode(), window + 1, revision)

        ordered = sorted(pending, key=place)
        for at in range(0, len(ordered), config.max_rows):
            done.append(ordered[at : at + config.max_rows])

    pending: list[tuple] = []
    for window in sorted({row[2] for row in rows}):
        end = (window + 1) * MINUTE
        if pending and (pending[0][2] + 1) * MINUTE + config.max_wait < end:
            flush(pending)
            pending = []
        pending += [row for row in rows if row[2] == window]
        oldest = (pending[0][2] + 1) * MINUTE
        if len(pending) >= config.min_rows or end >= oldest + config.max_wait:
            flush(pending)
            pending = []
    if pending:
        flush(pending)
    return done


@given(rows, configs, st.integers(1, 10**6), st.randoms())
def test_batches_equal_the_rule_whatever_the_order_of_arrival(rows, config, first, random):
    wanted = slow_cut(rows, config, first)
    shuffled = random.sample(rows, len(rows))
    got = [[shuffled[i] for i in batch] for batch in cut(keys_of(shuffled), config, first)]
    assert got == wanted


@given(rows, configs)
def test_one_window_end_after_another_gives_the_same_cuts(rows, config):
    """What a live job does: it sees a window end at a time and keeps `Pending`."""
    ends = np.sort(keys_of(rows).window_end)
    live, begun, at, pending = [], 0, 0, Pending()
    for end in np.unique(ends).tolist():
        count = int((ends == end).sum())
        before, after, pending = advance(pending, end, count, config)
        if before:
            live.append((begun, at))
            begun = at
        at += count
        if after:
            live.append((begun, at))
            begun = at
    if begun < at:
        live.append((begun, at))
    assert live == spans(ends, config)


@given(rows, configs)
def test_every_row_is_in_exactly_one_batch(rows, config):
    batches = cut(keys_of(rows), config, 1)
    assert sorted(i for batch in batches for i in batch) == list(range(len(rows)))
    assert all(0 < len(batch) <= config.max_rows for batch in batches)


def test_rows_wait_for_others_but_not_for_ever():
    config = BatchConfig(min_rows=3, max_rows=10, max_wait="5m")
    ends = np.array([1, 2, 2, 10, 15, 16, 30]) * MINUTE
    # 3 rows at minute 2; 10 waits until 15; 16 is cut before 30 comes; 30 is the rest.
    assert spans(ends, config) == [(0, 3), (3, 5), (5, 6), (6, 7)]


def test_no_rows_no_batches():
    assert cut(keys_of([]), BatchConfig(), 1) == []


def test_ids_decide_between_equal_hashes(monkeypatch):
    monkeypatch.setattr(row_order.xxhash, "xxh3_64_intdigest", lambda key, seed: 7)
    rows = [("u2", "i1", 0, 0), ("u1", "i2", 0, 0), ("u1", "i1", 0, 1), ("u1", "i1", 0, 0)]
    (batch,) = cut(keys_of(rows), BatchConfig(), 1)
    assert [rows[i] for i in batch] == sorted(rows)


def test_keys_of_coded_and_plain_columns_agree():
    plain = feature_rows(20).rows
    coded = plain.set_column(0, "user_id", plain.column(0).dictionary_encode())
    assert Keys.of(coded).user_id.tolist() == Keys.of(plain).user_id.tolist()


def test_the_log_is_written_once_and_refuses_other_rows(tmp_path: Path):
    store = Store(tmp_path / "store")
    store.create({})
    config = BatchConfig(min_rows=12, max_rows=12)
    rows = feature_rows(35)
    log = LogBatches(store, config, 50, 0)
    assert log(rows) == (0, 3)
    before = {path: path.read_bytes() for path in (tmp_path / "store" / "batches").iterdir()}
    shuffled = rows.take(np.random.default_rng(1).permutation(35))
    assert log(shuffled) == (0, 3)
    assert {path: path.read_bytes() for path in before} == before
    with pytest.raises(StoreError, match="cut from other events"):
        log(rows.slice(1, 34))
    with pytest.raises(StoreError, match="these events end at 2"):
        log(rows.take(np.arange(20)))


def test_a_logged_batch_reads_back_as_it_was_cut(tmp_path: Path):
    store = Store(tmp_path / "store")
    store.create({})
    rows = feature_rows(5)
    LogBatches(store, BatchConfig(), 50, 0)(rows)
    batch, told = store.read_batch(1)
    assert batch.schema.equals(rows.materialise(50).schema)
    key = lambda table: sorted(table.to_pylist(), key=repr)  # noqa: E731
    assert key(pa.table(batch)) == key(pa.table(rows.materialise(50)))
    assert len(told) == 64
