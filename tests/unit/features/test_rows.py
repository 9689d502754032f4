"""Feature rows as they travel: whatever is done to them, they read the same."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from oracle import deduplicate
from strategies import configs, logs

from pipelines.features.aggregate import compute
from pipelines.features.rows import ROWS, FeatureRows
from pipelines.schema import EVENTS


def rows_of(events, config):
    unique = deduplicate(events, config.dedupe_horizon)
    return compute(pa.RecordBatch.from_pylist(unique, schema=EVENTS), config)


def plain(rows):
    return rows.materialise().to_pylist()


@given(logs(), configs)
def test_the_wire_changes_nothing(events, config):
    rows = rows_of(events, config)
    assert rows.rows.schema.names == ROWS.names
    assert plain(FeatureRows.from_bytes(rows.to_bytes())) == plain(rows)


@given(logs(), configs, st.randoms(use_true_random=False))
def test_rows_can_be_taken_cut_and_put_together(events, config, random):
    rows = rows_of(events, config)
    order = random.sample(range(len(rows)), len(rows))
    want = plain(rows)
    assert plain(rows.take(order)) == [want[i] for i in order]
    cut = random.randint(0, len(rows))
    parts = [rows.slice(0, cut), rows.slice(cut, len(rows))]
    assert [row for part in parts for row in plain(part)] == want
    assert plain(FeatureRows.concat(parts)) == want


@given(logs(), logs(), configs)
def test_rows_of_different_logs_keep_their_own_past(one, other, config):
    parts = [rows_of(one, config), rows_of(other, config)]
    assert plain(FeatureRows.concat(parts)) == plain(parts[0]) + plain(parts[1])


@given(logs(), configs, st.integers(0, 5))
def test_a_compact_timeline_is_no_longer_than_needed(events, config, start):
    rows = rows_of(events, config).slice(start, 3)
    small = rows.compact()
    assert plain(small) == plain(rows)
    assert small.timeline.num_rows <= sum(len(row["history_items"]) for row in plain(rows))


@given(logs(), configs, st.integers(0, 4))
def test_a_shorter_history_is_the_end_of_the_longer(events, config, shorter):
    rows = rows_of(events, config)
    for long, short in zip(plain(rows), rows.materialise(shorter).to_pylist(), strict=True):
        for name in ("history_items", "history_types", "history_age_ms"):
            assert short[name] == (long[name][-shorter:] if shorter else [])
