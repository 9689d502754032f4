"""The same recommender as TFRS' own guides would build it: Keras layers, `compile`, `fit`.

Towers of the same width, history and vocabulary as ours, with a Transformer or without as
ours, the same number of candidates a row competes with (its batch and a uniform sample),
accidental hits removed, one sparse Adagrad. No ranking heads, no stream features, no gates,
no content of past items, a vocabulary that is known before: what is left out makes it cheaper.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf
import tensorflow_recommenders as tfrs

from models.config import ModelConfig
from models.schema import EVENT_TYPES

tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
keras: Any = tf.keras

ROWS = 256
AGES = 40


class Towers(keras.Model):
    """Both towers: ids and features in, `[n, dim]` out."""

    def __init__(self, config: ModelConfig, users: list[str], items: list[str]) -> None:
        super().__init__()
        dim = config.dim
        self.user_lookup = keras.layers.StringLookup(vocabulary=users, mask_token=None)
        self.item_lookup = keras.layers.StringLookup(vocabulary=items, mask_token="")
        self.user_id = keras.layers.Embedding(len(users) + 1, dim)
        self.item_id = keras.layers.Embedding(len(items) + 2, dim)
        self.past = keras.layers.Embedding(len(items) + 2, dim)
        self.kind = keras.layers.Embedding(len(EVENT_TYPES) + 1, dim)
        self.age = keras.layers.Embedding(AGES, dim)
        self.facts = keras.layers.Embedding(config.attribute_buckets, dim)
        self.words = keras.layers.Embedding(config.text_buckets, dim)
        self.transformer = config.sequence == "transformer"
        self.attention = keras.layers.MultiHeadAttention(
            config.attention_heads, config.attention_dim // config.attention_heads
        )
        self.norms = [keras.layers.LayerNormalization(epsilon=1e-5) for _ in range(3)]
        self.up = keras.layers.Dense(2 * config.attention_dim, activation="relu")
        self.down = keras.layers.Dense(dim)
        self.mix = keras.layers.Dense(2 * dim, activation="relu")
        self.out = keras.layers.Dense(dim)

    def user(self, inputs: dict[str, Any]) -> Any:
        """Users by id, facts, the moment and their history."""
        past = self.past(self.item_lookup(inputs["history"]))
        held = inputs["types"] > 0
        mask = tf.cast(held, tf.float32)[..., None]
        mean = tf.math.divide_no_nan(tf.reduce_sum(past * mask, 1), tf.reduce_sum(mask, 1))
        facts = tf.reduce_mean(self.facts(inputs["facts"]), 1)
        parts = [self.user_id(self.user_lookup(inputs["user"])), facts, inputs["clock"]]
        parts += [past[:, -1], mean]
        if self.transformer:
            x = past + self.kind(inputs["types"]) + self.age(inputs["ages"])
            y = self.norms[0](x)
            x += self.attention(y, y, attention_mask=held[:, None, :])
            x += self.down(self.up(self.norms[1](x)))
            parts.append(self.norms[2](x[:, -1]))
        return self.out(self.mix(tf.concat(parts, 1)))

    def item(self, row: Any, words: Any) -> Any:
        """Items by row and words (0 = none)."""
        count = tf.reduce_sum(tf.cast(words > 0, tf.float32), 1, keepdims=True)
        held = tf.cast(words > 0, tf.float32)[..., None]
        content = tf.reduce_sum(self.words(words) * held, 1)
        return self.item_id(row) + content * tf.maximum(count, 1.0) ** -0.25


class Plain(tfrs.Model):
    """Retrieval over the batch's items and a uniform sample, as many as ours draws.

    Args:
        config: widths and sizes.
        users: vocabulary.
        items: vocabulary.
        words: `[items + 2, words]` int32, rows of the table of words of each item.
    """

    def __init__(
        self, config: ModelConfig, users: list[str], items: list[str], words: np.ndarray
    ) -> None:
        super().__init__()
        self.towers = Towers(config, users, items)
        self.all_words = tf.constant(words)
        self.extra = config.negatives - ROWS
        self.task = tfrs.tasks.Retrieval(remove_accidental_hits=True)

    def compute_loss(self, inputs: dict[str, Any], training: bool = False) -> Any:
        """One batch: its own items, then the sample."""
        own = self.towers.item_lookup(inputs["item"])
        most = tf.shape(self.all_words, tf.int64)[0]
        rows = tf.concat([own, tf.random.uniform([self.extra], 2, most, tf.int64)], 0)
        return self.task(
            self.towers.user(inputs),
            self.towers.item(rows, tf.gather(self.all_words, rows)),
            candidate_ids=rows,
            compute_metrics=False,
        )

    @tf.function(reduce_retracing=True)
    def item_vectors(self, names: Any) -> Any:
        """`[n, dim]` of item ids."""
        rows = self.towers.item_lookup(names)
        return self.towers.item(rows, tf.gather(self.all_words, rows))

    @tf.function(reduce_retracing=True)
    def user_vectors(self, inputs: dict[str, Any]) -> Any:
        """`[n, dim]` of users at their last row."""
        return self.towers.user(inputs)


def compiled(config: ModelConfig, *args: Any) -> Plain:
    """A model ready for `fit`; the old optimizer has the fused sparse kernel, the faster one."""
    model = Plain(config, *args)
    adagrad = keras.optimizers.legacy.Adagrad(
        config.table_rate, initial_accumulator_value=config.table_accumulator
    )
    model.compile(optimizer=adagrad)
    return model


def tensors(rows: pa.RecordBatch, facts: dict[str, np.ndarray], length: int) -> dict[str, Any]:
    """A `FEATURES` batch as `fit` takes it; `facts`: user → rows of the attribute table."""
    n = rows.num_rows
    past, kinds, ages = (rows[f"history_{name}"] for name in ("items", "types", "age_ms"))
    ends = past.offsets.to_numpy()
    sizes = np.minimum(np.diff(ends), length)
    row = np.repeat(np.arange(n), sizes)
    back = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    back += length - sizes[row]
    at = ends[1:][row] - length + back
    history = np.full((n, length), "", object)
    types, octaves = np.zeros((n, length), np.int32), np.zeros((n, length), np.int32)
    history[row, back] = past.values.to_numpy(zero_copy_only=False)[at]
    codes = pc.index_in(kinds.values, pa.array(EVENT_TYPES)).to_numpy(zero_copy_only=False)
    types[row, back] = codes[at] + 1
    octaves[row, back] = np.minimum(1 + np.log2(1 + ages.values.to_numpy()[at] / 1e3), AGES - 1)
    moment = rows["anchor_time"].cast(pa.int64()).to_numpy() % 86_400_000 / 86_400_000 * 2 * np.pi
    since = np.log1p(rows["since_event_ms"].to_numpy(zero_copy_only=False) / 3.6e6)
    users = rows["user_id"].to_pylist()
    return {
        "user": np.array(users, object),
        "item": rows["item_id"].to_numpy(zero_copy_only=False),
        "history": history,
        "types": types,
        "ages": octaves,
        "facts": np.stack([facts[name] for name in users]),
        "clock": np.column_stack([np.sin(moment), np.cos(moment), since]).astype(np.float32),
    }


def micro_batch(model: Plain, inputs: dict[str, Any]) -> pa.RecordBatch:
    """`fit` once, then the vectors of the users and items of the batch."""
    data = tf.data.Dataset.from_tensor_slices(inputs).batch(ROWS)
    model.fit(data, verbose=0)
    _, last = np.unique(inputs["user"][::-1], return_index=True)
    last = len(inputs["user"]) - 1 - last
    items = np.unique(inputs["item"])
    u = model.user_vectors({name: tf.constant(value[last]) for name, value in inputs.items()})
    v = model.item_vectors(tf.constant(items))
    vectors = np.concatenate([u.numpy(), v.numpy()])
    ids = [*inputs["user"][last].tolist(), *items.tolist()]
    values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.RecordBatch.from_arrays([pa.array(ids), values], names=["id", "embedding"])
