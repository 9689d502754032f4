"""What an item tower reads of a catalogue."""

import datetime

import numpy as np
import pyarrow as pa

from models.config import ModelConfig
from models.network.text_encoder import (
    MOST_TOKENS,
    HashedSubwords,
    duration_tokens,
    hash_token,
    item_tokens,
)
from models.schema import ITEMS, USERS
from models.training.catalogue_features import Attributes, Catalogue

UTC = datetime.UTC


def catalogue(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist([{"item_id": f"i{n}"} | row for n, row in enumerate(rows)], ITEMS)


def test_words_then_their_ends():
    words = HashedSubwords().tokens(["The Café, the café!", ""])
    assert words == [["the", "café"], []]
    assert HashedSubwords().tokens(["Toys"]) == [["toys"]]
    assert HashedSubwords().tokens(["Story"]) == [["story", "<stor", "tory>"]]


def test_facts_come_before_words():
    table = catalogue({"categories": ["drama", "war"], "duration_ms": 60_000, "title": "Ran"}, {})
    names = ["category:drama", "category:war", "word:ran"]
    expected = [hash_token(name, 1_000) for name in names]
    starts, tokens = item_tokens(table, HashedSubwords(), buckets=1_000)
    assert (starts.tolist(), tokens.tolist()) == ([0, 3, 3], expected)
    octave = hash_token("duration:16", 1_000)  # 60,000 < 2**16
    assert duration_tokens(table, buckets=1_000).tolist() == [octave, 0]
    for columns, words in ((3, [octave, *expected]), (1, [octave, expected[0]]), (0, [])):
        items = Catalogue(table, ModelConfig(text_buckets=1_000, text_tokens=columns))
        assert items.words.tolist() == [words, [0] * len(words)]


def test_a_word_counts_once_and_a_long_text_is_cut():
    endless = " ".join(f"{n:04}" for n in range(2 * MOST_TOKENS))
    table = catalogue({"categories": ["war", "war"]}, {"text": endless})
    starts, tokens = item_tokens(table, HashedSubwords(), buckets=2**24)
    assert starts.tolist() == [0, 1, 1 + MOST_TOKENS]
    assert len(set(tokens.tolist())) == len(tokens)


def test_a_token_never_falls_on_the_row_for_none():
    rows = [hash_token(f"word:{i}", 16) for i in range(500)]
    assert min(rows) == 1
    assert max(rows) == 15


def test_items_appear_when_they_are_published():
    at = [datetime.datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2)]
    ms = [int(moment.timestamp() * 1_000) for moment in at]
    items = Catalogue(
        catalogue({"published_at": at[1]}, {}, {"published_at": at[0]}), ModelConfig()
    )
    assert items.appeared(None, ms[0] - 1) == ["i1"]
    assert items.appeared(None, ms[0]) == ["i1", "i2"]
    assert items.appeared(ms[0], ms[1]) == ["i0"]
    assert items.facts(["i0", "?", "i1"])[1].tolist() == [ms[1], *[np.iinfo(np.int64).min] * 2]


def test_attributes_of_users():
    rows = [
        {"user_id": "a", "attributes": [("age", "30"), ("country", "de")]},
        {"user_id": "b", "attributes": None},
        {"user_id": "a", "attributes": [("country", "fr")]},
    ]
    users = Attributes(pa.Table.from_pylist(rows, USERS), ModelConfig(attributes=2))
    row = hash_token("user:country=fr", 8_192)
    assert users.of(["b", "a", "?"]).tolist() == [[0, 0], [row, 0], [0, 0]]
    codes = users.codes(["a"])[0]
    assert [users.names[code - 1] for code in codes if code] == ["user:country=fr"]
    assert Attributes(None, ModelConfig()).of(["a"]).shape == (1, 32)
