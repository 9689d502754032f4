"""What a step may do, what histories say, and what the vectors start from."""

import numpy as np
import pytest

from models.config import ModelConfig
from models.network.tensorflow_runtime import tensorflow

tf = tensorflow()

from models.memory.item_table import ItemContents  # noqa: E402
from models.network.recommender import Recommender  # noqa: E402
from models.network.towers import UserTower  # noqa: E402
from models.network.weights import load_variables, weights_by_name  # noqa: E402
from models.schema import HEADS  # noqa: E402

SMALL = ModelConfig(
    dim=8,
    attention_dim=6,
    history=4,
    step_rows=4,
    negatives=6,
    attributes=3,
    contexts=2,
    text_buckets=64,
    likeness_dim=5,
    transition_dim=0,
    attribute_buckets=64,
)
WIDTH = len(SMALL.stream_features)
NO_TEXT, UNLIKE = np.zeros((64, 0), np.float32), np.zeros((64, 5), np.float32)
SILENT = ItemContents(np.zeros((64, 3), np.int32), NO_TEXT, UNLIKE)


@pytest.fixture(scope="module")
def model():
    return Recommender(SMALL, users=16, items=32, stats=10)


def inputs(seed: int = 0, rows: int = 4, negatives: int = 6) -> dict:
    """A step on users 1..rows, their items the same, and negatives 11.. ; everything finite."""
    rng = np.random.default_rng(seed)
    n, heads = rows + negatives, len(HEADS)
    present = np.zeros((rows, heads), np.float32)
    present[:, 1] = 1.0
    targets = np.zeros((rows, heads), np.float32)
    targets[:, 1] = rng.integers(0, 2, rows)
    weights = np.zeros((rows, 2), np.float32)
    weights[: rows - 1, 0], weights[rows - 1, 1] = 1.0, 0.5
    scale = np.ones(n, np.float32)
    scale[0] = 0.7
    return {
        "users": users(rng, rows),
        "items": {
            "rows": np.array([*range(1, rows + 1), *range(11, 11 + negatives)], np.int32),
            "words": np.array([[5, 6, 7], [0, 0, 4]], np.int32),
            "scale": scale,
            "text": np.zeros((n, 0), np.float32),
            "likeness": rng.normal(size=(n, 5)).astype(np.float32),
        },
        "contents": SILENT,
        "features": rng.normal(size=(n, WIDTH)).astype(np.float32),
        "correction": np.zeros(negatives, np.float32),
        "masked": np.zeros((rows, negatives), bool),
        "weights": weights,
        "stats": np.zeros((rows, 20), np.float32),
        "targets": targets,
        "present": present,
        "base": np.zeros(heads, np.float32),
    }


def users(rng: np.random.Generator, rows: int) -> dict:
    """Users with a full history and one attribute each."""
    attributes = np.zeros((rows, 3), np.int32)
    attributes[:, 0] = rng.integers(1, 64, rows)
    return {
        "rows": np.arange(1, rows + 1, dtype=np.int32),
        "past": rng.integers(1, 32, (rows, 4)).astype(np.int32),
        "types": np.full((rows, 4), 2, np.int32),
        "ages": np.zeros((rows, 4), np.int32),
        "dwells": np.zeros((rows, 4), np.int32),
        "attributes": attributes,
        "context": np.zeros((rows, 2), np.int32),
        "clock": rng.normal(size=(rows, 3)).astype(np.float32),  # else all starts from nothing
    }


def weights(model: Recommender) -> dict[str, np.ndarray]:
    return {name: value.copy() for name, value in weights_by_name(model).items()}


def test_a_new_model_is_popularity(model):
    users = {
        "rows": np.arange(3),
        "past": np.zeros((3, 4), np.int32),
        "types": np.zeros((3, 4), np.int32),
        "ages": np.zeros((3, 4), np.int32),
        "dwells": np.zeros((3, 4), np.int32),
        "attributes": np.zeros((3, 3), np.int32),
        "context": np.zeros((3, 2), np.int32),
        "clock": np.zeros((3, 3), np.float32),
    }
    fresh = Recommender(SMALL, users=16, items=32, stats=10)
    features = np.random.default_rng(0).normal(size=(5, WIDTH)).astype(np.float32)
    v = np.zeros((5, 8), np.float32)
    items = np.concatenate([v, fresh.bias(features), features, UNLIKE[:5]], axis=1)
    vectors = fresh.users(users, SILENT)
    assert vectors.shape == (3, SMALL.vector_dim)
    assert (vectors[:, 8] == 1).all()
    hour = SMALL.stream_features.index("log_count_1h")
    expected = np.repeat(features[None, :, hour], 3, axis=0)
    assert fresh.score(vectors, items) == pytest.approx(expected, abs=1e-5)


def test_a_step_moves_what_it_touched_and_padding_nothing(model):
    before = weights(model)
    loss, finite = model.train(inputs())
    after = weights(model)
    assert finite
    assert np.isfinite(loss)
    moved = np.flatnonzero((before["item/rows"] != after["item/rows"]).any(axis=1))
    assert moved.tolist() == [1, 2, 3, 4, *range(11, 17)]
    words = np.flatnonzero((before["word/rows"] != after["word/rows"]).any(axis=1))
    assert words.tolist() == [5, 6, 7]
    for name in ("user", "item", "history", "word", "attribute"):
        assert not after[f"{name}/rows"][0].any()


@pytest.mark.parametrize("poison", ["weights", "features", "targets", "stats"])
def test_a_poisoned_step_changes_nothing(model, poison):
    given = inputs()
    given[poison][0, 1] = np.nan
    before = weights(model)
    _, finite = model.train(given)
    assert not finite
    for name, value in weights(model).items():
        assert value.tobytes() == before[name].tobytes(), name


def test_tables_grow_without_a_new_trace(model):
    model.train(inputs())
    model.tables["item"].grow(64)
    given = inputs()
    given["items"]["rows"][0] = 63
    model.train(given)
    assert model.tables["item"].weights.numpy()[63].any()
    assert model._train[SMALL.step_rows].experimental_get_tracing_count() == 1
    model.items(dict(given["items"]))
    model.users(given["users"], SILENT)
    before = model.traces()
    for rows in (1, 3):
        given["items"] = {
            "rows": np.ones(rows, np.int32),
            "words": np.ones((2, 0), np.int32),
            "scale": np.ones(rows, np.float32),
            "text": np.zeros((rows, 0), np.float32),
            "likeness": UNLIKE[:rows],
        }
        model.items(given["items"])
        model.users(users(np.random.default_rng(0), rows), SILENT)
    assert model.traces() == before


def test_scores_that_are_not_finite_rank_last(model):
    users = np.full((1, SMALL.vector_dim), np.nan, np.float32)
    assert np.isneginf(model.score(users, np.ones((2, SMALL.vector_dim), np.float32))).all()


def test_weights_of_another_shape_are_refused(model):
    arrays = weights(model)
    arrays["dense/0"] = arrays["dense/0"][:1]
    with pytest.raises(ValueError, match=r"'dense/0' has shape .* the checkpoint"):
        load_variables(model, arrays)
    del arrays["dense/0"]
    with pytest.raises(ValueError, match="differ in variable 'dense/0'"):
        load_variables(model, arrays)


@pytest.mark.parametrize("sequence", ["mean", "none", "transformer"])
def test_ways_to_read_a_history(sequence):
    made, given = recommender(sequence), inputs()
    width = made.config.likeness
    given["items"]["likeness"] = given["items"]["likeness"][:, :width]
    given["contents"] = ItemContents(SILENT.words, NO_TEXT, UNLIKE[:, :width])
    assert made.train(given)[1]


def recommender(sequence: str) -> Recommender:
    config = SMALL.model_copy(update={"sequence": sequence})
    return Recommender(config, users=16, items=32, stats=10)


def history(seed: int) -> dict[str, np.ndarray]:
    """The user tower's inputs for two users with full histories."""
    rng = np.random.default_rng(seed)
    small = {name: np.zeros((2, 8), np.float32) for name in ("user", "attributes", "context")}
    return small | {
        "past": rng.normal(size=(2, 4, 8)).astype(np.float32),
        "alike": rng.normal(size=(2, 4, 5)).astype(np.float32),
        "types": np.full((2, 4), 2, np.int32),
        "ages": np.zeros((2, 4), np.int32),
        "dwells": np.zeros((2, 4), np.int32),
        "clock": np.zeros((2, 3), np.float32),
    }


def test_a_fresh_transformer_says_nothing():
    fresh, plain = (recommender(way).user_tower for way in ("transformer", "mean"))
    # The mix reads what the Transformer adds in its last rows.
    same, more = (tower._mix.kernel.numpy() for tower in (plain, fresh))
    fresh._mix.kernel.assign(np.vstack([same, more[len(same) :]]))
    given = history(0)
    given["types"][0, :2] = 0
    given["past"][0, :2], given["alike"][0, :2] = 0.0, 0.0
    assert fresh(given).numpy() == pytest.approx(plain(given).numpy(), abs=1e-6)
    fresh._gain.assign(tf.ones_like(fresh._gain))
    assert np.abs(fresh(given).numpy() - plain(given).numpy()).max() > 1e-3


def taught() -> UserTower:
    """A tower whose Transformer has something to say."""
    tower = recommender("transformer").user_tower
    rng = np.random.default_rng(1)
    learned = [layer.kernel for made in tower._layers for layer in (made._out, made._down)]
    for kernel in (tower._share.kernel, *learned):
        kernel.assign(rng.normal(size=kernel.shape).astype(np.float32))
    return tower


def test_shares_of_past_items_are_one_on_average_and_bounded():
    mask = tf.constant([[0.0, 0.0, 1.0, 1.0], [1.0] * 4])
    encoded = np.random.default_rng(0).normal(size=(2, 4, SMALL.attention_dim))
    found = taught()._shares(encoded.astype(np.float32), mask).numpy()[:, :, 0]
    assert found[0, :2].tolist() == [0.0, 0.0]
    assert found[0, 2:].mean() == pytest.approx(1.0)
    assert found[1].mean() == pytest.approx(1.0)
    assert found[1].std() > 0.1
    assert found[1].max() / found[1].min() <= np.exp(3.0) + 1e-3


def test_a_user_without_a_past_has_shares_of_nothing():
    given = history(0)
    given["types"][:], given["past"][:], given["alike"][:] = 0, 0.0, 0.0
    out = taught()(given).numpy()
    assert np.isfinite(out).all()
    assert (out[0] == out[1]).all()


def test_the_order_of_a_history_matters_to_the_transformer():
    """Neither the newest item nor the sum changes: the oldest two swap places."""
    tower, given = taught(), history(0)
    tower._fade = np.ones_like(tower._fade)
    swapped = given | {"past": given["past"][:, [1, 0, 2, 3]]}
    assert np.abs(tower(swapped).numpy() - tower(given).numpy()).max() > 1e-3
    plain = recommender("mean").user_tower
    plain._fade = np.ones_like(plain._fade)
    assert plain(swapped).numpy() == pytest.approx(plain(given).numpy(), abs=1e-5)


def test_a_past_event_counts_by_its_type_and_age():
    tower, given = recommender("mean").user_tower, history(0)
    given["types"][:, 1], given["ages"][:, 2] = 5, 7
    every = tower(given).numpy()
    tower._by_type.assign(tf.tensor_scatter_nd_update(tower._by_type, [[5]], [0.0]))
    tower._by_age.assign(tf.tensor_scatter_nd_update(tower._by_age, [[7]], [0.0]))
    fewer = tower(given).numpy()
    assert np.abs(fewer - every).max() > 1e-3
    given["past"][:, 1:3], given["alike"][:, 1:3] = 0.0, 0.0
    assert tower(given).numpy() == pytest.approx(fewer, abs=1e-6)


def test_a_past_event_counts_by_its_dwell_where_that_is_known():
    tower, given = recommender("mean").user_tower, history(0)
    unknown = tower(given).numpy()
    given["dwells"][:, 1], given["dwells"][:, 2] = 3, 15
    assert (tower(given).numpy() == unknown).all()  # all the same at first
    # Bucket k is the weights' k-th; 1 + w is what a past event counts: here twice, and nothing.
    learned = tf.tensor_scatter_nd_update(tower._by_dwell, [[2], [14]], [1.0, -1.0])
    tower._by_dwell.assign(learned)
    found = tower(given).numpy()
    by_hand = {name: given[name].copy() for name in ("past", "alike")}
    for vectors in by_hand.values():
        vectors[:, 1] *= 2.0
        vectors[:, 2] = 0.0
    nothing = {"dwells": np.zeros_like(given["dwells"])}
    assert found == pytest.approx(tower(given | by_hand | nothing).numpy(), abs=1e-5)


def test_a_transformer_reads_dwells_and_of_an_unknown_one_nothing():
    tower, given = taught(), history(0)
    before = tower(given).numpy()
    tower._dwells.assign(tf.ones_like(tower._dwells))
    assert (tower(given).numpy() == before).all()
    given["dwells"][:, 2] = 5
    assert np.abs(tower(given).numpy() - before).max() > 1e-4


def test_a_past_item_is_read_by_its_content_too():
    """Two users who had an item each, neither of which has a vector of its own yet."""
    made = recommender("mean")
    made.tables["word"].weights.assign(tf.random.stateless_normal([64, 8], [1, 2]))
    given = users(np.random.default_rng(0), 2)
    given = {name: np.zeros_like(value) for name, value in given.items()}
    given["past"][:, -1], given["types"][:, -1] = [7, 8], 2
    alike = made.users(given, SILENT)
    assert (alike[0] == alike[1]).all()  # their own vectors are zeros yet
    words = np.zeros((32, 3), np.int32)
    words[7, :2], words[8, 0] = [5, 6], 9
    known = made.users(given, ItemContents(words, NO_TEXT, UNLIKE))
    table = made.tables["word"].weights.numpy()
    summed = np.stack([(table[5] + table[6]) / 2**0.25, table[9]])
    # As an id vector with the same numbers.
    made.tables["history"].weights.scatter_nd_update([[7], [8]], summed)
    by_id = made.users(given, SILENT)
    assert known == pytest.approx(by_id, abs=1e-5)
    assert np.abs(known[0] - known[1]).max() > 1e-3


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_fresh_words_lie_apart_and_none_has_no_vector(spread):
    config = SMALL.model_copy(update={"text_buckets": 4_096, "text_spread": spread})
    twice = [
        Recommender(config, users=4, items=4, stats=10).tables["word"].weights.numpy()
        for _ in range(2)
    ]
    assert (twice[0] == twice[1]).all()
    assert not twice[0][0].any()
    assert twice[0][1:].std() == pytest.approx(spread, rel=0.02)
