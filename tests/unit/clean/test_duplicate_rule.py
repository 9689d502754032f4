"""Which of the events with one id counts, and what a repeat is."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import deduplicate
from strategies import START, configs, logs

from pipelines.arrow.hashing import hash_strings
from pipelines.arrow.partition import split
from pipelines.clean.duplicate_rule import (
    FINGERPRINTS,
    drop_repeats,
    fingerprints_of,
    repeated_fingerprints,
)
from pipelines.features.observations import read_log
from pipelines.schema import EVENTS


def batch_of(events):
    return pa.RecordBatch.from_pylist(events, schema=EVENTS)


def content(events):
    return sorted(repr(sorted(event.items())) for event in events)


def survivors(events, horizon):
    """What reaches the kernel, by the two steps that the job takes."""
    batch = batch_of(events)
    batch = drop_repeats(batch, [repeated_fingerprints(fingerprints_of(batch), horizon)])
    log = read_log(batch)
    rows = batch.take(pa.array(log.source)).to_pylist()
    for row in rows:
        row["event_time"] = round(row["event_time"].timestamp() * 1000)
    return rows, log.repeats


@given(logs(ids=6), configs)
def test_the_same_events_survive_as_in_the_oracle(events, config):
    got, _ = survivors(events, config.dedupe_horizon)
    assert content(got) == content(deduplicate(events, config.dedupe_horizon))


@given(logs(), st.lists(st.integers(0, 100)), st.randoms(use_true_random=False))
def test_repeats_change_nothing(events, again, random):
    unique = deduplicate(events, 10**9)
    repeated = unique + [unique[i % len(unique)] for i in again if unique]
    random.shuffle(repeated)
    got, repeats = survivors(repeated, 10**9)
    assert content(got) == content(unique)
    assert repeats == len(repeated) - len(unique)


def event(time, user="u", **more):
    known = {"event_id": "e", "user_id": user, "item_id": "i", "event_type": "view"}
    return dict.fromkeys(EVENTS.names) | known | {"event_time": START + time} | more


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        ([0, 10], [0]),  # within the horizon, just
        ([0, 11], [0, 11]),
        ([0, 6, 12, 18, 23], [0, 12, 23]),  # the horizon is counted from the one that was kept
    ],
)
def test_the_horizon_starts_anew_with_each_event_that_counts(times, kept):
    got, _ = survivors([event(t) for t in reversed(times)], 10)
    assert sorted(row["event_time"] - START for row in got) == kept


def test_one_id_of_several_users_counts_once():
    got, _ = survivors([event(5, "a"), event(3, "b"), event(3, "ab")], 10)
    assert [(row["user_id"], row["event_time"] - START) for row in got] == [("ab", 3)]


def test_prints_keep_names_and_types():
    batch = fingerprints_of(batch_of([event(0)]))
    assert batch.schema.types == FINGERPRINTS.types
    assert batch.schema.names == FINGERPRINTS.names


@given(st.lists(st.text(max_size=20)), st.integers(0, 5))
def test_a_hash_is_of_the_text_alone(texts, start):
    whole = hash_strings(pa.array(texts, pa.string()))
    alone = [hash_strings(pa.array([text]))[0] for text in texts]
    assert whole.tolist() == alone
    sliced = pa.array(texts, pa.string()).slice(min(start, len(texts)))
    assert hash_strings(sliced).tolist() == whole[start:].tolist()
    encoded = pa.array(texts, pa.string()).dictionary_encode()
    assert hash_strings(encoded).tolist() == whole.tolist()
    assert len(set(whole.tolist())) == len(set(texts))


@given(logs(), st.integers(1, 5))
def test_pieces_are_the_whole(events, shards):
    batch = batch_of(events)
    at = batch.schema.get_field_index("user_id")
    batch = batch.set_column(at, "user_id", batch.column(at).dictionary_encode())
    keys = hash_strings(batch.column("user_id"))
    pieces = dict(split(batch, keys, shards))
    rows = [row for piece in pieces.values() for row in piece.to_pylist()]
    assert content(rows) == content(batch.to_pylist())
    for number, piece in pieces.items():
        assert set(hash_strings(piece.column("user_id")) % np.uint64(shards)) == {number}
        piece.validate(full=True)
