"""From Arrow to arrays: codes, histories, contexts, targets."""

import numpy as np
import pyarrow as pa
import pytest
from feedback import START, event, rows

from models.feature_batch import DWELL_BUCKETS, embeddings, head_targets, read_batch
from models.schema import EVENT_TYPES, HEADS

SCRIPT = [
    event(0, "u", "a", 0, "view", dwell_ms=3_000, context=[("hour", "5"), ("os", "x")]),
    event(1, "u", "b", 100, "impression"),
    event(2, "u", "b", 110, "purchase", value=9.5, platform="web"),
    event(3, "v", "a", 200, "dislike"),
    event(4, "u", "c", 300, "rating", value=4.0, platform="tv", context=[("hour", "5")]),
]


def test_ids_and_histories_become_codes():
    batch = read_batch(rows(SCRIPT))
    assert len(batch) == 4
    by_row = [
        (
            batch.users[batch.user[n]],
            batch.items[batch.item[n]],
            [
                (batch.items[batch.history_item[k]], EVENT_TYPES[batch.history_type[k]])
                for k in np.flatnonzero(batch.history_row == n)
            ],
        )
        for n in range(4)
    ]
    assert sorted(by_row) == [
        ("u", "a", []),
        ("u", "b", [("a", "view")]),
        ("u", "c", [("a", "view"), ("b", "purchase")]),
        ("v", "a", []),
    ]
    c = [row[:2] for row in by_row].index(("u", "c"))
    assert batch.history_age[batch.history_row == c].tolist() == [300_000, 190_000]
    assert batch.anchor[c] == START + 300_000


def test_what_a_user_did_with_an_item_in_a_row_is_one_past_event_the_newest():
    kinds = [("a", "view"), ("a", "like"), ("b", "view"), ("a", "view"), ("a", "dislike")]
    script = [event(n, "u", item, 100 * n, kind) for n, (item, kind) in enumerate(kinds)]
    batch = read_batch(rows([*script, event(5, "u", "c", 600), event(6, "v", "a", 650)]))
    c = next(n for n in range(len(batch)) if batch.items[batch.item[n]] == "c")
    mine = np.flatnonzero(batch.history_row == c)
    assert [
        (batch.items[batch.history_item[k]], EVENT_TYPES[batch.history_type[k]]) for k in mine
    ] == [("a", "like"), ("b", "view"), ("a", "dislike")]
    assert batch.history_age[mine].tolist() == [500_000, 400_000, 200_000]
    assert (np.diff(batch.history_row) >= 0).all()


def test_dwells_fall_into_octaves_of_seconds():
    seconds = {"a": 0.5, "b": 1.0, "c": 6.9, "d": 7.0, "e": 86_400.0}
    script = [
        event(n, "u", item, 100_000 * n, "view", dwell_ms=int(1_000 * s))
        for n, (item, s) in enumerate(seconds.items())
    ]
    batch = read_batch(rows([*script, event(9, "v", "f", 0, "like")]))
    found = {batch.items[i]: int(s) for i, s in zip(batch.item, batch.dwell_buckets, strict=True)}
    # 1 + log2(1 + s): half a second 1.58, one 2, just below seven 3.98, seven 4, a day 17.4.
    assert found == {"a": 1, "b": 2, "c": 3, "d": 4, "e": DWELL_BUCKETS - 1, "f": 0}


def test_contexts_and_platforms_become_tokens():
    batch = read_batch(rows(SCRIPT))
    named = [
        (batch.items[batch.item[row]], batch.tokens[token])
        for row, token in zip(batch.token_row, batch.token, strict=True)
    ]
    assert sorted(named) == [
        ("a", "context:hour=5"),
        ("a", "context:os=x"),
        ("c", "context:hour=5"),
        ("c", "platform:tv"),
    ]  # of b's row, the anchor is the impression: it has neither
    assert (np.diff(batch.token_row) >= 0).all()


def test_what_a_row_says():
    batch = read_batch(rows(SCRIPT))
    row = {
        (batch.users[u], batch.items[i]): n
        for n, (u, i) in enumerate(zip(batch.user, batch.item, strict=True))
    }
    a, b, c, disliked = row["u", "a"], row["u", "b"], row["u", "c"], row["v", "a"]
    assert batch.wanted[[a, b, c, disliked]].tolist() == [True, True, True, False]
    assert batch.disliked[[a, disliked]].tolist() == [False, True]
    strongest = [EVENT_TYPES[k] for k in batch.strongest[[a, b, c, disliked]]]
    assert strongest == ["view", "purchase", "rating", "dislike"]
    # The impression comes first, so the purchase may be as late as the window's end.
    assert batch.touched_at[b] == batch.window_end[b] - 1
    assert batch.touched_at[a] == batch.anchor[a]
    targets, present = head_targets(batch)
    told = {HEADS[h]: targets[n, h] for n in (b, c, disliked) for h in np.flatnonzero(present[n])}
    assert told == {"click": 0.0, "purchase": 1.0, "rating": 4.0, "like": 0.0}
    assert targets[a, HEADS.index("dwell")] == pytest.approx(np.log(4.0))


def test_an_impression_alone_says_nothing_was_wanted():
    batch = read_batch(rows([event(0, "u", "a", 0, "impression")]))
    assert not batch.wanted[0]
    assert not batch.touched[0]
    assert EVENT_TYPES[batch.strongest[0]] == "impression"


def test_dictionaries_and_plain_strings_read_alike():
    plain = rows(SCRIPT)
    coded = plain.set_column(0, "user_id", plain["user_id"].dictionary_encode())
    one, two = read_batch(plain), read_batch(coded)
    assert [one.users[k] for k in one.user] == [two.users[k] for k in two.user]


def test_an_absent_column_is_named():
    with pytest.raises(ValueError, match="no column 'anchor_time'"):
        read_batch(rows(SCRIPT).drop_columns(["anchor_time"]))


def test_embedding_rows_then_tombstones():
    live = [("user", ["a"], np.ones((1, 2), np.float32), 5)]
    gone = [("item", ["b", "c"], np.zeros((2, 2), np.float32), 6)]
    batch = embeddings(live, gone, 7)
    assert batch["deleted"].to_pylist() == [False, True, True]
    assert batch["entity"].to_pylist() == ["user", "item", "item"]
    assert batch["embedding"].type == pa.list_(pa.float32(), 2)
    assert batch["updated_at"].cast(pa.int64()).to_pylist() == [5, 6, 6]
    assert embeddings([], [("item", [], np.zeros((0, 2), np.float32), 0)], 1).num_rows == 0
