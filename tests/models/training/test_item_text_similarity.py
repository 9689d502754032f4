"""What items are like by their words, unlearned; the served inner product has it."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from feedback import event, rows
from hypothesis import given
from hypothesis import strategies as st

from models.config import ModelConfig
from models.schema import ITEMS
from models.training.item_text_similarity import ContentSimilarity
from models.training.trainer import Trainer

BUCKETS = 64


def bags(lists: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Where each item's words begin, and the words."""
    ends = np.cumsum([0, *map(len, lists)])
    return ends, np.array([word for words in lists for word in words], np.int64)


def made(lists: list[list[int]], *, dim: int, seed: int = 0) -> np.ndarray:
    starts, words = bags(lists)
    alike = ContentSimilarity(starts, words, buckets=BUCKETS, dim=dim, seed=seed)
    return alike.of(np.arange(len(lists)))


def tfidf(lists: list[list[int]]) -> np.ndarray:
    """`[items, BUCKETS]` of length 1, written down from the definition."""
    counts = np.zeros((len(lists), BUCKETS))
    for item, words in enumerate(lists):
        counts[item, words] = 1
    having = counts.sum(axis=0)
    rarity = [np.log(len(lists) / n) if n > 1 else 0.0 for n in having]
    weighed = counts * rarity
    norms = np.sqrt((weighed**2).sum(axis=1, keepdims=True))
    return np.divide(weighed, norms, out=np.zeros_like(weighed), where=norms > 0)


catalogues = st.lists(st.sets(st.integers(1, 12), max_size=6).map(sorted), max_size=12)


@given(catalogues, st.integers(0, 2**32))
def test_with_a_direction_for_every_word_they_are_the_cosines_of_tf_idf(lists, seed):
    found = made(lists, dim=12, seed=seed)
    unit = tfidf(lists)
    assert found @ found.T == pytest.approx(unit @ unit.T, abs=1e-4)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_with_fewer_they_are_those_of_a_singular_value_decomposition(seed, dim):
    rng = np.random.default_rng(seed)
    # Two kinds of items and words of their own for each, so that the directions are told apart.
    lists = [sorted(rng.choice(np.arange(1, 21), 5, replace=False).tolist()) for _ in range(40)]
    unit = tfidf(lists)
    right = np.linalg.svd(unit)[2]
    seen = unit @ right[:dim].T
    seen /= np.maximum(np.linalg.norm(seen, axis=1, keepdims=True), 1e-9)
    found = made(lists, dim=dim, seed=seed)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(40), abs=1e-4)
    # Subspace iteration is not exact; a random direction would be off by 1 on average.
    assert np.abs(found @ found.T - seen @ seen.T).mean() < 0.1


def test_words_that_come_together_are_near():
    """Who says 1 says 2, who says 3 says 4: items of 1 and of 2 share no word, and are alike."""
    lists = [[1, 2]] * 8 + [[3, 4]] * 8 + [[1], [2], [3]]
    found = made(lists, dim=2)
    assert found[-3] @ found[-2] == pytest.approx(1.0, abs=1e-3)
    assert abs(found[-3] @ found[-1]) < 1e-3


def test_without_words_or_without_columns_there_is_nothing():
    lists = [[1, 2], [1], [], [2, 3]]
    assert np.linalg.norm(made(lists, dim=8), axis=1) == pytest.approx([1, 1, 0, 1])
    assert not made([[3], [], []], dim=8).any()  # 3 is of one item alone
    assert made(lists, dim=0).shape == (4, 0)
    assert made([], dim=8).shape == (0, 8)
    assert not made([[], []], dim=8).any()


MANY = """
import sys
import numpy as np
from threadpoolctl import threadpool_limits
from models.training.item_text_similarity import ContentSimilarity
rng = np.random.default_rng(0)
words = np.stack([rng.permutation(500)[:8] + 1 for _ in range(20_000)])
with threadpool_limits(int(sys.argv[1])):
    starts = np.arange(len(words) + 1) * 8
    made = ContentSimilarity(starts, words.ravel(), buckets=512, dim=64, seed=0)
import hashlib
print(hashlib.sha256(made.of(np.arange(100)).tobytes()).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_number_of_threads():
    found = {
        subprocess.run(
            [sys.executable, "-c", MANY, threads], check=True, capture_output=True, text=True
        ).stdout
        for threads in ("1", "2")
    }
    assert len(found) == 1


def small(**more) -> ModelConfig:
    settings = {"dim": 8, "history": 4, "step_rows": 8, "wide_rows": 0, "negatives": 32}
    return ModelConfig(
        **settings | {"text_buckets": 4_096, "likeness_dim": 32, "transition_dim": 0} | more
    )


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


def test_the_fixed_columns_fade_with_what_is_seen_and_their_gain_is_learned(tmp_path):
    """Users go from one item of a pair to the other: to follow words is right, so it grows."""
    trainer = Trainer(small(), series(), None)
    at = trainer.config.vector_dim - 32
    everything = np.arange(11)
    gain, _ = trainer.model.user_tower._gains[0]
    before = float(gain)
    trainer.step(1, rows([event(0, "u", "i0", 0.0)]))
    fixed = trainer.item_vectors(everything, trainer.state.now)[:, at:]
    had = trainer.state.stream.seen(everything).copy()
    for number in range(2, 8):
        users = [(f"u{number}.{k}", 2 * (k % 5)) for k in range(20)]
        told = [
            event(1_000 * number + 2 * k + side, user, f"i{item + side}", 1e3 * number + k + side)
            for k, (user, item) in enumerate(users)
            for side in (0, 1)
        ]
        trainer.step(number, rows(told))
    seen = trainer.state.stream.seen(everything)
    shrunk = (1 + 1 / (1 + seen / 3)) / (1 + 1 / (1 + had / 3))
    now = trainer.state.now
    assert seen[1:].min() > 10
    assert trainer.item_vectors(everything, now)[:, at:] == pytest.approx(
        fixed * shrunk[:, None], rel=1e-5
    )
    assert float(gain) > before
    trainer.save(tmp_path)
    again = Trainer.restore(tmp_path, trainer.config, series(), None)
    assert (again.item_vectors(everything, now) == trainer.item_vectors(everything, now)).all()
