"""A text model from a path: small ones made here, and what is said of a wrong one."""

import numpy as np
import pyarrow as pa
import pytest
from feedback import event, rows

from models.config import ModelConfig
from models.errors import JobError, RequestError
from models.network.tensorflow_runtime import tensorflow
from models.network.text_encoder import text_encoder
from models.network.text_fingerprint import fingerprint
from models.schema import ITEMS
from models.training.trainer import Trainer

tf = tensorflow()

WIDTH = 6
SMALL = {
    "dim": 8,
    "history": 2,
    "step_rows": 8,
    "wide_rows": 0,
    "negatives": 16,
    "attributes": 0,
    "contexts": 0,
    "text_buckets": 16,
    "attribute_buckets": 16,
    "text_tokens": 2,
}


def transformer() -> "tf.keras.Model":
    """Strings → ids (its tokenizer is inside) → one attention layer → a vector."""
    words = tf.keras.layers.TextVectorization(output_sequence_length=5)
    words.adapt(["red shoes", "blue hat", "green coat"])
    text = tf.keras.Input([], dtype=tf.string)
    x = tf.keras.layers.Embedding(16, WIDTH)(words(text))
    x = x + tf.keras.layers.MultiHeadAttention(2, 3)(x, x)
    return tf.keras.Model(text, tf.keras.layers.GlobalAveragePooling1D()(x))


class Exported(tf.Module):
    """A SavedModel with several outputs, as text encoders are published."""

    def __init__(self) -> None:
        super().__init__()
        self.table = tf.Variable(tf.random.stateless_normal([64, WIDTH], [1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def __call__(self, text):
        rows = tf.gather(self.table, tf.strings.to_hash_bucket_fast(text, 64))
        return {"pooled_output": rows, "sequence_output": rows[:, None]}


@pytest.fixture(scope="module", params=["keras", "saved model"])
def saved(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    if request.param == "keras":
        path = folder / "model.keras"
        transformer().save(path)
    else:
        path, model = folder / "exported", Exported()
        tf.saved_model.save(model, str(path), signatures=model.__call__)
    return path


def items(n: int = 12) -> pa.Table:
    titles = ["red shoes", "blue hat", None]
    listed = [{"item_id": f"i{k}", "title": titles[k % 3]} for k in range(n)]
    return pa.Table.from_pylist(listed, ITEMS)


def script(n: int, start: float = 0.0) -> list[dict]:
    return [event(k, f"u{k % 5}", f"i{k % 7}", start + k) for k in range(n)]


def test_equal_texts_have_equal_vectors_of_unit_length(saved):
    encoder = text_encoder(str(saved))
    one, two, same, none = encoder.vectors(["red shoes", "blue hat", "red shoes", ""])
    assert encoder.width == WIDTH
    assert np.linalg.norm(one) == pytest.approx(1, abs=1e-5)
    assert one == pytest.approx(same, abs=1e-6)
    assert np.abs(one - two).max() > 1e-3
    assert not none.any()
    assert encoder.tokens(["red"]) == [[]]


def test_it_is_projected_learned_cached_and_restored(saved, tmp_path):
    config = ModelConfig(**SMALL, text_model=str(saved), text_model_sha256=fingerprint(saved))
    trainer = Trainer(config, items(), None)
    asked = []
    encoder = trainer._preparer._catalogue._encoder
    compute = encoder.vectors
    encoder.vectors = lambda texts: (asked.extend(texts), compute(texts))[1]
    for number in range(1, 6):
        trainer.step(number, rows(script(20, 700.0 * number)))
    assert len(asked) == 12  # every item of the catalogue once
    assert trainer.model.projection.numpy().any()
    # Items that nobody touched, with the text of one that was: text alone tells them.
    find = trainer.state.item_ids.lookup
    first, other, silent = find(["i9", "i10", "i11"])
    v = trainer.item_vectors(np.array([first, other, silent]), trainer.state.now)[:, : config.dim]
    assert np.abs(v[0] - v[1]).max() > 1e-5
    trainer.save(tmp_path / "checkpoint")
    again = Trainer.restore(tmp_path / "checkpoint", config, items(), None)
    last = rows(script(20, 9_000.0))
    assert again.step(6, last).delta.equals(trainer.step(6, last).delta)


def test_other_files_are_refused(saved):
    before = fingerprint(saved)
    assert before == fingerprint(saved)
    with pytest.raises(JobError, match="put the same files on every worker"):
        text_encoder(str(saved), "0" * 64)


def integers() -> "tf.keras.Model":
    ids = tf.keras.Input([5], dtype=tf.int32)
    return tf.keras.Model(ids, tf.keras.layers.Embedding(9, 4)(ids))


def unpooled() -> "tf.keras.Model":
    text = tf.keras.Input([], dtype=tf.string)
    hashed = tf.strings.to_hash_bucket_fast(text, 9)
    return tf.keras.Model(text, tf.keras.layers.Embedding(9, 4)(hashed[:, None]))


@pytest.mark.parametrize("make", [integers, unpooled])
def test_a_wrong_signature_is_said_in_one_line(make, tmp_path):
    path = tmp_path / "wrong.keras"
    make().save(path)
    with pytest.raises(RequestError, match=r"text_model .*wrong.keras.*expected strings") as told:
        text_encoder(str(path))
    assert "\n" not in str(told.value)


def test_what_is_no_model_is_said_in_one_line(tmp_path):
    with pytest.raises(RequestError, match="correct the path in the job file"):
        text_encoder(str(tmp_path / "absent"))
    with pytest.raises(RequestError, match="empty folder"):
        text_encoder(str(tmp_path))
    (tmp_path / "junk.keras").write_text("junk")
    with pytest.raises(RequestError, match=r"cannot be loaded.*save it again") as told:
        text_encoder(str(tmp_path / "junk.keras"))
    assert "\n" not in str(told.value)
