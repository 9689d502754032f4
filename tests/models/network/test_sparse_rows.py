"""Rows of a step, sorted once: sums and their gradients against plain loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.network.tensorflow_runtime import tensorflow
from models.sparse_rows import distinct, group_rows, row_numbers

tf = tensorflow()

from models.config import ModelConfig  # noqa: E402
from models.network.recommender import Recommender  # noqa: E402
from models.network.towers import bag  # noqa: E402

# On both sides of the 16 bits that are sorted at a time, 0 for none.
ROWS = st.sampled_from([0, 1, 2, 65_535, 65_536, 65_537, 131_073, 2**31 - 1])

CONFIG = ModelConfig(
    dim=4,
    attention_heads=1,
    history=2,
    step_rows=3,
    wide_rows=0,
    negatives=4,
    attributes=2,
    contexts=1,
    text_buckets=16,
    attribute_buckets=16,
)


def test_entries_by_row_the_earlier_first_and_row_0_nowhere():
    group = group_rows(np.array([7, 0, 3, 7, 3]), np.array([10, 11, 12, 13, 14]))
    assert group.unique.tolist() == [3, 7]
    assert group.owner.tolist() == [12, 14, 10, 13]
    assert group.segment.tolist() == [0, 0, 1, 1]
    assert group.place[[0, 2, 3, 4]].tolist() == [1, 0, 1, 0]
    nothing = group_rows(np.zeros(3, np.int32))
    assert len(nothing.unique) == len(nothing.owner) == 0


@given(st.lists(st.tuples(ROWS, st.integers(0, 9)), max_size=30))
def test_entries_lie_as_a_plain_sort_has_them(entries):
    rows, owner = (np.array([e[k] for e in entries], np.int32) for k in (0, 1))
    group = group_rows(rows, owner)
    told = sorted((row, place) for place, row in enumerate(rows.tolist()) if row)
    unique = sorted({row for row, _ in told})
    assert group.unique.tolist() == unique
    assert group.owner.tolist() == [owner[place] for _, place in told]
    assert group.segment.tolist() == [unique.index(row) for row, _ in told]
    assert group.place.tolist() == [unique.index(row) if row else 0 for row in rows.tolist()]
    assert distinct(rows).tolist() == sorted(set(rows.tolist()))


@given(arrays(np.int32, st.tuples(st.integers(0, 6), st.integers(1, 5)), elements=ROWS))
def test_the_rows_of_a_padded_matrix_in_order(tokens):
    rows, owner, scale = row_numbers(tokens)
    held = [(row, n) for n, line in enumerate(tokens.tolist()) for row in line if row]
    assert list(zip(rows.tolist(), owner.tolist(), strict=True)) == held
    counts = [max(sum(row > 0 for row in line), 1) for line in tokens.tolist()]
    assert scale.tolist() == pytest.approx([count**-0.25 for count in counts])


def test_a_bag_is_a_scaled_sum():
    tokens = np.array([[2, 5, 0], [0, 0, 0], [5, 0, 0]])
    rows, owner, scale = row_numbers(tokens)
    table = np.arange(24, dtype=np.float32).reshape(6, 4)
    group = group_rows(rows, owner)
    found = bag(tf.constant(table[group.unique]), group.place, owner, scale)
    expected = [(table[2] + table[5]) / 2**0.25, np.zeros(4), table[5]]
    assert found.numpy() == pytest.approx(np.array(expected), rel=1e-6)


def test_gradients_go_back_to_every_row_that_was_summed():
    """Against tf's own gradient of dense look-ups."""
    model = Recommender(CONFIG, users=8, items=8, stats=10)
    rng = np.random.default_rng(0)
    rows = {"user": [1, 1, 3], "item": [2, 2, 5, 0, 1, 6, 7], "past": [[1, 2], [0, 2], [2, 2]]}
    # Owners 7 and 8 are the past items 1 and 2.
    words, owner = np.array([3, 9, 3, 5, 3], np.int32), np.array([0, 0, 4, 8, 8], np.int32)
    token, of = np.array([8, 8, 2], np.int32), np.array([0, 1, 5], np.int32)
    scale, token_scale = (rng.random(n).astype(np.float32) for n in (9, 6))
    groups = {
        "user": group_rows(np.array(rows["user"])),
        "item": group_rows(np.array(rows["item"])),
        "history": group_rows(np.array(rows["past"]).ravel()),
        "word": group_rows(words, owner),
        "attribute": group_rows(token, of),
    }
    given = {"word_scale": tf.constant(scale), "token_scale": tf.constant(token_scale)}
    given["past_own"] = tf.constant([1.0, 0.0])  # item 2 was not seen often enough
    for name, group in groups.items():
        for part in ("unique", "owner", "segment"):
            given[f"{name}/{part}"] = tf.constant(getattr(group, part))
    shapes = {"user": [3], "item": [7], "past": [3, 2], "attributes": [3], "context": [3]}
    leaf = {name: rng.normal(size=(*shape, 4)).astype(np.float32) for name, shape in shapes.items()}
    tables = {
        name: tf.Variable(rng.normal(size=(16, 4)).astype(np.float32)) for name in model.tables
    }
    with tf.GradientTape() as tape:
        content = tf.math.unsorted_segment_sum(
            tf.gather(tables["word"], words) * scale[owner][:, None], owner, 9
        )
        own = tf.gather(tables["history"], [0, 1, 2]) * [[1.0], [1.0], [0.0]]
        past = own + tf.concat([np.zeros((1, 4)), content[7:]], 0)
        facts = tf.math.unsorted_segment_sum(
            tf.gather(tables["attribute"], token) * token_scale[of][:, None], of, 6
        )
        read = {
            "user": tf.gather(tables["user"], rows["user"]),
            "item": tf.gather(tables["item"], rows["item"]) + content[:7],
            "past": tf.gather(past, rows["past"]),
            "attributes": facts[:3],
            "context": facts[3:],
        }
        loss = tf.add_n([tf.reduce_sum(read[name] * leaf[name]) for name in leaf])
    expected = tape.gradient(loss, tables)
    found = model.table_gradients({name: tf.constant(v) for name, v in leaf.items()}, given)
    for name, slices in expected.items():
        dense = tf.convert_to_tensor(slices).numpy()
        unique = groups[name].unique
        assert found[name].numpy() == pytest.approx(dense[unique], rel=1e-5, abs=1e-6)
        rest = np.setdiff1d(np.arange(1, 16), unique)
        assert not dense[rest].any()
