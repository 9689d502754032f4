"""The retrieval + ranking model: a `tfrs.Model` over tables that grow.

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

_USER_INTS = ("rows", "past", "types", "ages", "attributes", "context")
Inputs = dict[str, Any]
Floats = NDArray[np.float32]


def retrieval_loss(
    positive: Tensor,
    negative: Tensor,
    correction: Tensor,
    masked: Tensor,
    wanted: Tensor,
    disliked: Tensor,
) -> Tensor:
    """Sampled softmax, as a logistic loss on each row's margin over its negatives.

    With z = positive − logsumexp(negative + correction), the row's own softmax
    probability is σ(z): a wanted row loses −ln σ(z), a disliked one −ln(1 − σ(z)).
    The correction is −ln of a negative's inclusion probability, which makes the
    sum an unbiased estimate of that over all items (Bengio and Senécal, 2008).

    Args:
        positive: `[b]` scores of the rows' own items, uncorrected.
        negative: `[b, k]` scores.
        correction: `[k]` −ln P(included); about −1e9 on padding.
        masked: `[b, k]` bool: accidental hits and items that the user has had.
        wanted: `[b]` weights of positives.
        disliked: `[b]` weights of dislikes.

    Returns:
        `[b]` float32 weighted losses; 0 where nothing is left to compete with.
    """
    others = tf.where(masked, -1e9, negative + correction[None, :])
    alone = tf.reduce_max(others, axis=1) < -1e8
    z = positive - tf.reduce_logsumexp(others, axis=1)
    z = tf.where(alone, 0.0, z)
    loss = wanted * tf.nn.softplus(-z) + disliked * tf.nn.softplus(z)
    return tf.where(alone, 0.0, loss)


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
        rates = {"rate": config.table_rate, "accumulator": config.table_accumulator}
        sizes = {
            "user": users,
            "item": items,
            "history": items,
            "word": config.text_buckets,
            "attribute": config.attribute_buckets,
        }
        self.tables = {
            name: Table(rows, config.dim, name=name, **rates) for name, rows in sizes.items()
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
        self._trace()

    def _own(self) -> Floats:
        """Each head starts as the sum of the user's and the item's own running mean."""
        kernel = np.zeros((2, self._stats, len(HEADS)), np.float32)
        for head in range(len(HEADS)):
            kernel[:, head, head] = 1.0
        return kernel.reshape(-1, len(HEADS))

    # Traced functions, one trace each: every shape that varies is open ------

    def _trace(self) -> None:
        config = self.config
        # Keras makes its variables on the first call; the optimizer needs them before.
        self.compute_loss(_zeros(self._signature(2, 2)))
        self.adam = Adam(self.trainable_variables, config.dense_rate)
        some = self._signature(None, None)
        vectors = tf.TensorSpec([None, config.vector_dim], tf.float32)
        self._score = _traced(_inner, [vectors, vectors])
        self._bias = _traced(self.item_bias, [some["features"]])
        self._users = _traced(self.user_vectors, [some["users"]])
        self._items = _traced(self.item_vectors, [some["items"]])
        sizes = {config.step_rows, config.wide_rows or config.step_rows}
        self._train = {
            rows: _traced(self.train_step, [self._signature(rows, config.negatives)])
            for rows in sorted(sizes)
        }

    def _signature(self, rows: int | None, negatives: int | None) -> dict[str, Any]:
        config, features = self.config, len(self.config.stream_features)
        width = 1 + 3 * config.history + config.attributes + config.contexts

        def floats(*shape: int | None) -> Any:
            return tf.TensorSpec(shape, tf.float32)

        def items(n: int | None) -> dict[str, Any]:
            return {
                "rows": tf.TensorSpec([n], tf.int32),
                "words": tf.TensorSpec([2, None], tf.int32),
                "scale": floats(None),
            }

        def twice(n: int | None, k: int | None) -> int | None:
            return None if n is None or k is None else n + k

        return {
            "users": {"ints": tf.TensorSpec([rows, width], tf.int32), "clock": floats(rows, CLOCK)},
            # The rows' own items first, then the negatives: one pass of the tower for both.
            "items": items(twice(rows, negatives)),
            "features": floats(twice(rows, negatives), features),
            "correction": floats(negatives),
            "masked": tf.TensorSpec([rows, negatives], tf.bool),
            "weights": floats(rows, 2),
            "stats": floats(rows, 2 * self._stats),
            "targets": floats(rows, len(HEADS)),
            "present": floats(rows, len(HEADS)),
            "base": floats(len(HEADS)),
        }

    def users(self, inputs: Inputs) -> Floats:
        """Served vectors `[b, vector_dim]` of users, from `models.prepare`'s inputs."""
        return np.array(self._users(pack_users(inputs)))

    def items(self, inputs: Inputs) -> Floats:
        """Item vectors v `[n, dim]`, from `models.prepare`'s inputs."""
        return np.array(self._items(inputs))

    def bias(self, features: Floats) -> Floats:
        """b(F) `[n, 1]` of stream features `[n, features]`."""
        return np.array(self._bias(features))

    def score(self, users: Floats, items: Floats) -> Floats:
        """Scores `[users, items]` of served vectors; what is not finite becomes -inf."""
        scores = np.array(self._score(users, items))
        scores[~np.isfinite(scores)] = -np.inf
        return scores

    def train(self, inputs: Inputs) -> tuple[float, bool]:
        """One padded step; its loss, and whether it took effect."""
        result = self._train[len(inputs["weights"])](inputs)
        return float(result["loss"]), bool(result["finite"])

    # The graph ------------------------------------------------------------

    def user_vectors(self, inputs: Inputs) -> Tensor:
        """`[b, vector_dim]`: `[u, 1, w]`."""
        config, attribute = self.config, self.tables["attribute"]
        length = config.history
        sizes = [1, length, length, length, config.attributes, config.contexts]
        split = dict(zip(_USER_INTS, tf.split(inputs["ints"], sizes, axis=1), strict=True))
        return self.user_tower(
            {
                "user": self.tables["user"](split["rows"][:, 0]),
                "past": self.tables["history"](split["past"]),
                "types": split["types"],
                "ages": split["ages"],
                "attributes": _bag(attribute, split["attributes"]),
                "context": _bag(attribute, split["context"]),
                "clock": inputs["clock"],
            }
        )

    def item_vectors(self, inputs: Inputs) -> Tensor:
        """`[n, dim]`: v, by id and content."""
        words = self.tables["word"](inputs["words"][0])
        count = tf.shape(inputs["rows"])[0]
        content = content_vector(words, inputs["words"][1], inputs["scale"], count)
        return self.tables["item"](inputs["rows"]) + content

    def compute_loss(self, inputs: Inputs, training: bool = False) -> Tensor:
        """Loss of a padded step: retrieval and ranking heads, float32 scalar.

        The mean over its rows; of a wide step as many times that as it holds
        ordinary ones, so that an event weighs the same in either.
        """
        u = self.user_vectors(inputs["users"])
        features = inputs["features"]
        both = [self.item_vectors(inputs["items"]), self.item_bias(features), features]
        vectors = tf.concat(both, 1)
        v, others = vectors[: u.shape[0]], vectors[u.shape[0] :]
        wanted, disliked = tf.unstack(inputs["weights"], axis=1)
        retrieval = retrieval_loss(
            tf.reduce_sum(u * v, 1),
            tf.matmul(u, others, transpose_b=True),
            inputs["correction"],
            inputs["masked"],
            wanted,
            disliked,
        )
        rows = tf.math.count_nonzero(wanted + disliked, dtype=tf.float32)
        heads = self._head_loss(tf.stop_gradient(u), tf.stop_gradient(v), inputs)
        share = tf.clip_by_value(rows, 1.0, float(self.config.step_rows))
        return tf.reduce_sum(retrieval) / share + self.config.head_weight * heads

    def _head_loss(self, u: Tensor, v: Tensor, inputs: Inputs) -> Tensor:
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

    def train_step(self, inputs: Inputs) -> dict[str, Tensor]:
        """One step on `step_rows` rows; without effect where anything is not finite.

        Returns:
            loss: float32 scalar; finite: bool scalar, False when the step was skipped.
        """
        tables = [table.weights for table in self.tables.values()]
        with tf.GradientTape() as tape:
            tape.watch(tables)
            loss = self.compute_loss(inputs, training=True)
        gradients = tape.gradient(loss, tables + self.trainable_variables)
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in gradients]
        checks = [tf.reduce_all(tf.math.is_finite(v)) for v in [loss, *values] if v is not None]
        finite = tf.reduce_all(tf.stack(checks))
        tf.cond(finite, lambda: self._apply(gradients), lambda: tf.constant(value=True))
        return {"loss": loss, "finite": finite}

    def _apply(self, gradients: list[Tensor]) -> Tensor:
        tables = list(self.tables.values())
        for table, gradient in zip(tables, gradients, strict=False):
            if gradient is not None:
                table.apply(gradient)
        dense = zip(self.trainable_variables, gradients[len(tables) :], strict=True)
        self.adam.apply([tf.zeros_like(v) if g is None else g for v, g in dense])
        return tf.constant(value=True)

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

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
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
                    f"the checkpoint {arrays[name].shape}"
                )
            variable.assign(arrays[name])

    def heads(self) -> dict[str, Floats]:
        """Weights of the ranking heads by the names of `models.serving`."""
        w1, b1 = self.hidden.get_weights()
        w2, b2 = self.out.get_weights()
        return {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "skip": self.skip.numpy()}


def pack_users(inputs: Inputs) -> Inputs:
    """The user tower's inputs in two arrays: each array costs a call some 50 µs."""
    columns = [inputs["rows"][:, None], *(inputs[name] for name in _USER_INTS[1:])]
    return {"ints": np.concatenate(columns, axis=1, dtype=np.int32), "clock": inputs["clock"]}


def _traced(function: Any, signature: list[Any]) -> Any:
    """One trace for all shapes; without AutoGraph, whose rewriting takes two thirds of a start."""
    return tf.function(function, input_signature=signature, autograph=False)


def _bag(table: Table, tokens: Tensor) -> Tensor:
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
