"""The retrieval + ranking model: a `tfrs.Model` over vectors of tables that grow.

The score of an item for a user is one inner product,
`[u, 1, w] · [v, b, F] = u·v + b(F) + w·F`, so any vector index can serve it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.optimizers import Adam, Table
from models.runtime import Tensor, recommenders, tensorflow
from models.serving import BINARY_HEADS, HEADS
from models.towers import ItemBias, UserTower, content_vector

tf: Any = tensorflow()
tfrs: Any = recommenders()

__all__ = ["CLOCK", "Recommender", "retrieval_loss"]

CLOCK = 3
"""Numbers of the moment: sine and cosine of the hour, ln of the time since the last event."""

Inputs = dict[str, Any]


def retrieval_loss(
    positive: Any, negative: Any, correction: Any, masked: Any, wanted: Any, disliked: Any
) -> Any:
    """Sampled softmax, as a logistic loss on each row's margin over its negatives.

    With z = positive − logsumexp(negative + correction), the row's own softmax
    probability is σ(z): a wanted row loses −ln σ(z), a disliked one −ln(1 − σ(z)).
    The correction is −ln of a negative's inclusion probability, which makes the
    sum an unbiased estimate of that over all items (Bengio and Senécal, 2008).

    Args:
        positive: `[b]` scores of the rows' own items, uncorrected.
        negative: `[b, k]` scores.
        correction: `[k]` −ln P(included).
        masked: `[b, k]` bool: accidental hits and items that the user has had.
        wanted: `[b]` weights of positives.
        disliked: `[b]` weights of dislikes.

    Returns:
        `[b]` float32 weighted losses.
    """
    others = tf.where(masked, -1e9, negative + correction[None, :])
    z = positive - tf.reduce_logsumexp(others, axis=1)
    return wanted * tf.nn.softplus(-z) + disliked * tf.nn.softplus(z)


class Recommender(tfrs.Model):
    """Two towers and five ranking heads.

    Args:
        config: shape, rates and seed.
        users: rows of the user table at first.
        items: rows of the item tables at first.
        stats: columns of running statistics per side that the heads read.
    """

    def __init__(self, config: ModelConfig, *, users: int, items: int, stats: int) -> None:
        super().__init__()
        self.config = config
        self._stats = stats
        kwargs = {"rate": config.table_rate, "accumulator": config.table_accumulator}
        self.tables = {
            name: Table(rows, config.dim, name=name, **kwargs)
            for name, rows in (
                ("user", users),
                ("item", items),
                ("history", items),
                ("word", config.text_buckets),
                ("attribute", config.attribute_buckets),
            )
        }
        self.user_tower = UserTower(config)
        self.item_bias = ItemBias(config)
        seed = tf.keras.initializers.GlorotUniform(seed=1_000 * (config.seed + 1) + 950)
        self.hidden = tf.keras.layers.Dense(32, activation="relu", kernel_initializer=seed)
        self.out = tf.keras.layers.Dense(len(HEADS), kernel_initializer="zeros")
        self.skip = self.add_weight(
            "skip", [2 * stats, len(HEADS)], initializer=tf.keras.initializers.Constant(self._own())
        )
        binary = {"loss": tf.keras.losses.BinaryCrossentropy(from_logits=True)}
        real = {"loss": tf.keras.losses.MeanSquaredError()}
        self.tasks = [
            tfrs.tasks.Ranking(**(binary if i < BINARY_HEADS else real)) for i in range(len(HEADS))
        ]
        self._build()

    def _own(self) -> NDArray[np.float32]:
        """Each head starts as the sum of the user's and the item's own running mean."""
        kernel = np.zeros((2, self._stats, len(HEADS)), np.float32)
        for head in range(len(HEADS)):
            kernel[:, head, head] = 1.0
        return kernel.reshape(-1, len(HEADS))

    # Traced functions -----------------------------------------------------

    def _build(self) -> None:
        one = self._signature(rows=None, negatives=None)
        fixed = self._signature(rows=self.config.step_rows, negatives=self.config.negatives)
        # Keras makes its variables on the first call; the optimizer needs them before.
        self.compute_loss(_zeros(self._signature(rows=2, negatives=2)))
        self.adam = Adam(self.trainable_variables, self.config.dense_rate)
        self.users = tf.function(self._users, input_signature=[one["users"]])
        self.items = tf.function(self._items, input_signature=[one["items"]])
        vectors = tf.TensorSpec([None, self.config.vector_dim], tf.float32)
        self.score = tf.function(_inner, input_signature=[vectors, vectors])
        self.train = tf.function(self.train_step, input_signature=[fixed])

    def _signature(self, *, rows: int | None, negatives: int | None) -> dict[str, Any]:
        config, features = self.config, len(self.config.stream_features)

        def ints(*shape: int | None) -> Any:
            return tf.TensorSpec(shape, tf.int32)

        def floats(*shape: int | None) -> Any:
            return tf.TensorSpec(shape, tf.float32)

        def items(n: int | None) -> dict[str, Any]:
            return {
                "rows": ints(n),
                "words": ints(None),
                "owner": ints(None),
                "features": floats(n, features),
            }

        return {
            "users": {
                "rows": ints(rows),
                "past": ints(rows, config.history),
                "types": ints(rows, config.history),
                "ages": ints(rows, config.history),
                "attributes": ints(rows, config.attributes),
                "context": ints(rows, config.contexts),
                "clock": floats(rows, CLOCK),
            },
            "items": items(rows),
            "negatives": items(negatives),
            "correction": floats(negatives),
            "masked": tf.TensorSpec([rows, negatives], tf.bool),
            "wanted": floats(rows),
            "disliked": floats(rows),
            "stats": floats(rows, 2 * self._stats),
            "targets": floats(rows, len(HEADS)),
            "present": floats(rows, len(HEADS)),
            "base": floats(len(HEADS)),
        }

    def _users(self, inputs: Inputs) -> Any:
        """`[b, vector_dim]` served vectors of users."""
        attribute = self.tables["attribute"]
        return self.user_tower(
            {
                "user": self.tables["user"](inputs["rows"]),
                "past": self.tables["history"](inputs["past"]),
                "types": inputs["types"],
                "ages": inputs["ages"],
                "attributes": _bag(attribute, inputs["attributes"]),
                "context": _bag(attribute, inputs["context"]),
                "clock": inputs["clock"],
            }
        )

    def _items(self, inputs: Inputs) -> Any:
        """`[n, vector_dim]` served vectors of items."""
        words = self.tables["word"](inputs["words"])
        content = content_vector(words, inputs["owner"], tf.shape(inputs["rows"])[0])
        v = self.tables["item"](inputs["rows"]) + content
        return tf.concat([v, self.item_bias(inputs["features"]), inputs["features"]], 1)

    # Training -------------------------------------------------------------

    def compute_loss(self, inputs: Inputs, training: bool = False) -> Any:
        """Mean loss of a padded step: retrieval and ranking heads, float32 scalar."""
        u, v = self._users(inputs["users"]), self._items(inputs["items"])
        others = self._items(inputs["negatives"])
        positive = tf.reduce_sum(u * v, 1)
        retrieval = retrieval_loss(
            positive,
            tf.matmul(u, others, transpose_b=True),
            inputs["correction"],
            inputs["masked"],
            inputs["wanted"],
            inputs["disliked"],
        )
        rows = tf.math.count_nonzero(inputs["wanted"] + inputs["disliked"], dtype=tf.float32)
        heads = self._head_loss(tf.stop_gradient(u), tf.stop_gradient(v), inputs)
        return tf.reduce_sum(retrieval) / tf.maximum(rows, 1.0) + self.config.head_weight * heads

    def _head_loss(self, u: Any, v: Any, inputs: Inputs) -> Any:
        stats = inputs["stats"]
        x = tf.concat([u, v, u * v, stats], 1)
        out = self.out(self.hidden(x)) + tf.matmul(stats, self.skip) + inputs["base"]
        losses = [
            task(
                labels=inputs["targets"][:, i : i + 1],
                predictions=out[:, i : i + 1],
                sample_weight=inputs["present"][:, i],
                compute_metrics=False,
            )
            for i, task in enumerate(self.tasks)
        ]
        return tf.add_n(losses)

    def train_step(self, inputs: Inputs) -> dict[str, Any]:
        """One step on `step_rows` rows; without effect where anything is not finite.

        Returns:
            loss: float32 scalar; finite: bool scalar, False when the step was skipped.
        """
        tables = list(self.tables.values())
        with tf.GradientTape() as tape:
            tape.watch([table.weights for table in tables])
            loss = self.compute_loss(inputs, training=True)
        dense = self.trainable_variables
        gradients = tape.gradient(loss, [table.weights for table in tables] + dense)
        values = [
            g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients if g is not None
        ]
        checks = [tf.reduce_all(tf.math.is_finite(value)) for value in [loss, *values]]
        finite = tf.reduce_all(tf.stack(checks))
        tf.cond(finite, lambda: self._apply(gradients), lambda: tf.constant(True))
        return {"loss": loss, "finite": finite}

    def _apply(self, gradients: list[Any]) -> Any:
        tables = list(self.tables.values())
        for table, gradient in zip(tables, gradients, strict=False):
            if gradient is not None:
                table.apply(gradient)
        dense = zip(self.trainable_variables, gradients[len(tables) :], strict=True)
        self.adam.apply([tf.zeros_like(v) if g is None else g for v, g in dense])
        return tf.constant(True)

    # State ----------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Every variable by a stable name: weights, accumulators, moments."""
        named = {}
        for name, table in self.tables.items():
            named[f"{name}/rows"], named[f"{name}/adagrad"] = table.weights, table.slots
        for i, variable in enumerate(self.trainable_variables):
            named[f"dense/{i}"] = variable
            named[f"adam/first/{i}"] = self.adam.first[i]
            named[f"adam/second/{i}"] = self.adam.second[i]
        named["adam/power/0"], named["adam/power/1"] = self.adam.powers
        return named

    def load(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        """Put back what `state` held.

        Raises:
            ValueError: another shape or number of variables; the message names one.
        """
        variables = self.state()
        if variables.keys() != arrays.keys():
            odd = sorted(variables.keys() ^ arrays.keys())[0]
            raise ValueError(f"the checkpoint and the model differ in variable {odd!r}")
        for name, variable in variables.items():
            if not variable.shape.is_compatible_with(arrays[name].shape):
                raise ValueError(
                    f"variable {name!r} has shape {tuple(variable.shape)}, "
                    f"the checkpoint {arrays[name].shape}; use the job file it was made with"
                )
            variable.assign(arrays[name])

    def heads(self) -> dict[str, NDArray[np.float32]]:
        """Weights of the ranking heads by the names of `models.serving`."""
        w1, b1 = self.hidden.get_weights()
        w2, b2 = self.out.get_weights()
        return {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "skip": self.skip.numpy()}


def _bag(table: Table, tokens: Any) -> Any:
    """Sum of token vectors over the root of their number, `[b, t]` → `[b, dim]`."""
    count = tf.reduce_sum(tf.cast(tokens > 0, tf.float32), 1, keepdims=True)
    return tf.reduce_sum(table(tokens), 1) * tf.math.rsqrt(tf.maximum(count, 1.0))


def _inner(users: Tensor, items: Tensor) -> Tensor:
    """Inner products, `[users, items]`."""
    return tf.matmul(users, items, transpose_b=True)


def _zeros(signature: Any) -> Any:
    return tf.nest.map_structure(
        lambda spec: tf.zeros([0 if d is None else d for d in spec.shape], spec.dtype), signature
    )
