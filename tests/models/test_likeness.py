"""What items are like by their words, unlearned; the served inner product has it."""

import numpy as np
import pyarrow as pa
import pytest
from feedback import event, rows
from hypothesis import given
from hypothesis import strategies as st

from models.config import ModelConfig
from models.likeness import Likeness
from models.schema import ITEMS
from models.trainer import Trainer

BUCKETS = 64


def cosine_of_tfidf(words: np.ndarray) -> np.ndarray:
    """`[n, n]`, written down from the definition."""
    bags = np.zeros((len(words), BUCKETS))
    for item, row in enumerate(words.tolist()):
        for word in row:
            bags[item, word] += word > 0
    having = (bags > 0).sum(axis=0)
    rarity = [np.log(len(words) / n) if n > 1 else 0.0 for n in having]
    weighed = bags * rarity
    norms = np.sqrt((weighed**2).sum(axis=1, keepdims=True))
    unit = np.divide(weighed, norms, out=np.zeros_like(weighed), where=norms > 0)
    return unit @ unit.T


@given(st.integers(0, 2**32), st.integers(2, 12), st.integers(1, 5))
def test_inner_products_are_cosines_of_tf_idf(seed, items, columns):
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 12, (items, columns))
    made = Likeness(words, buckets=BUCKETS, dim=4_096, seed=seed)
    found = made.of(words)
    # In 4,096 random columns a cosine is off by some 1 / 64; .1 is six times that.
    assert found @ found.T == pytest.approx(cosine_of_tfidf(words), abs=0.1)


def test_without_words_or_without_columns_there_is_nothing():
    made = Likeness(np.array([[1, 2], [1, 0], [0, 0]]), buckets=4, dim=8, seed=0)
    vectors = made.of(np.array([[1, 2], [2, 0], [3, 3], [0, 0]]))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 0, 0, 0])  # 2 is of one item alone
    empty = Likeness(np.zeros((0, 2), int), buckets=4, dim=8, seed=0)
    assert not empty.of(np.array([[1, 2]])).any()
    for none in (
        Likeness(np.zeros((3, 0), int), buckets=4, dim=8, seed=0).of(np.zeros((2, 0), int)),
        Likeness(np.ones((3, 2), int), buckets=4, dim=0, seed=0).of(np.ones((2, 2), int)),
    ):
        assert not none.any()


def small(**more) -> ModelConfig:
    settings = {"dim": 8, "history": 4, "step_rows": 8, "wide_rows": 0, "negatives": 32}
    return ModelConfig(**settings | {"text_buckets": 4_096, "likeness_dim": 32} | more)


def series() -> pa.Table:
    """Ten items of two words each, of which the second is shared by pairs."""
    titles = [f"part{k % 2} of{k // 2}" for k in range(10)]
    return pa.Table.from_pylist(
        [{"item_id": f"i{k}", "title": title} for k, title in enumerate(titles)], ITEMS
    )


def test_what_is_like_the_past_is_first_before_anything_is_learned():
    """Words that begin as nothing say nothing by themselves; their likeness does."""
    trainer = Trainer(small(text_spread=0.0), series(), None)
    after = rows([event(1, "u", "i6", 1.0), event(2, "u", "i7", 90.0)]).slice(1)
    told = trainer.step(1, after, predictions=True).predictions.to_pylist()
    assert told[0]["top20"][0] == "i7"


@pytest.mark.parametrize(
    "without",
    [{"likeness_dim": 0}, {"text_tokens": 0}, {"history_content": False}, {"sequence": "none"}],
)
def test_without_words_or_a_past_a_vector_has_no_columns_for_it(without):
    config = small(**without)
    assert config.vector_dim == small().vector_dim - 32
    trainer = Trainer(config, series(), None)
    delta = trainer.step(1, rows([event(1, "u", "i6", 1.0), event(2, "u", "i7", 90.0)])).delta
    assert delta.schema.field("embedding").type.list_size == config.vector_dim


def test_the_fixed_columns_stay_and_their_gain_is_learned(tmp_path):
    """Users go from one item of a pair to the other: to follow words is right, so it grows."""
    trainer = Trainer(small(), series(), None)
    at = trainer.config.vector_dim - 32
    everything = np.arange(11)
    gain = trainer.model.user_tower._likeness
    before = float(gain)
    trainer.step(1, rows([event(0, "u", "i0", 0.0)]))
    fixed = trainer.item_vectors(everything, trainer.state.now)[:, at:]
    for number in range(2, 8):
        users = [(f"u{number}.{k}", 2 * (k % 5)) for k in range(20)]
        told = [
            event(1_000 * number + 2 * k + side, user, f"i{item + side}", 1e3 * number + k + side)
            for k, (user, item) in enumerate(users)
            for side in (0, 1)
        ]
        trainer.step(number, rows(told))
    assert (trainer.item_vectors(everything, trainer.state.now)[:, at:] == fixed).all()
    assert float(gain) > before
    trainer.save(tmp_path)
    again = Trainer.restore(tmp_path, trainer.config, series(), None)
    now = trainer.state.now
    assert (again.item_vectors(everything, now) == trainer.item_vectors(everything, now)).all()
