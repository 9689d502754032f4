"""Which items are known, as flags and as rows, in every order of calls."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.config import ModelConfig
from models.memory.item_table import ItemTable

CONFIG = ModelConfig(dim=8, text_buckets=64, text_tokens=4)
ROWS = 3_000  # more than the room that is there at first

rows = st.lists(st.integers(1, ROWS - 1), max_size=9).map(lambda found: np.array(found, int))
many = st.tuples(st.integers(1, ROWS - 2), st.integers(1, ROWS)).map(
    lambda ends: np.arange(min(ends), max(ends))
)
calls = st.lists(
    st.tuples(st.sampled_from(["add", "reset", "save"]), st.one_of(rows, many)), max_size=12
)


@given(calls)
def test_known_rows_are_the_flags(script):
    table, oracle = ItemTable(CONFIG, 0, ROWS), set()
    for call, given_rows in script:
        if call == "add":
            table.add_known(given_rows)
            oracle |= set(given_rows.tolist())
        elif call == "reset":
            table.reset(given_rows)
            oracle -= set(given_rows.tolist())
        else:
            saved, table = table.arrays(), ItemTable(CONFIG, 0, 4)
            table.load(saved)
        assert table.known_rows().tolist() == sorted(oracle)
        assert np.flatnonzero(table.known).tolist() == sorted(oracle)
        assert table.known_rows().dtype == np.int32
