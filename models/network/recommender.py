"""The retrieval + ranking model: a `tfrs.Model` over tables that grow.

The score of an item for a user is one inner product,
`[u, 1, w, q] · [v, b, F, t] = u·v + b(F) + w·F + q·t`, so any vector index can serve it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.memory.item_table import ItemContents
from models.network.data_parallel import COMPUTED, compute_devices, over_devices
from models.network.input_specs import Signatures
from models.network.losses import ranking_loss, ranking_tasks, retrieval_loss
from models.network.optimizers import Adam, Table
from models.network.packed_inputs import PAST, pack_step, pack_users
from models.network.tensorflow_runtime import Tensor, recommenders, tensorflow
from models.network.towers import ItemBias, UserTower, bag
from models.schema import HEADS

tf: Any = tensorflow()
tfrs: Any = recommenders()

__all__ = ["Recommender"]

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
Inputs = dict[str, Any]
Floats = NDArray[np.float32]


class Recommender(tfrs.Model):
    """Two towers and five ranking heads.

    Args:
        config: shape, rates and seed.
        users: rows of the user table at first.
        items: rows of the item tables at first.
        stats: columns of running statistics per side that the heads read.
        text_width: of the fixed vectors of items' texts, which are projected; 0 for none.
    """

    def __init__(
        self, config: ModelConfig, *, users: int, items: int, stats: int, text_width: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        self.signatures = Signatures(config, stats, text_width)
        self._text_width = text_width
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
        self.tables["word"].randomise(config.text_spread, config.seed)
        self._devices = compute_devices(config.devices)
        policy = tf.keras.mixed_precision.Policy(_POLICIES[config.precision])
        self.user_tower = UserTower(config, policy)
        self.item_bias = ItemBias(config)
        seed = tf.keras.initializers.GlorotUniform(seed=1_000 * (config.seed + 1) + 950)
        self.hidden = tf.keras.layers.Dense(
            32, activation="relu", kernel_initializer=seed, dtype=policy
        )
        self.out = tf.keras.layers.Dense(len(HEADS), kernel_initializer="zeros")
        self.skip = self.add_weight(
            "skip",
            [2 * stats, len(HEADS)],
            initializer=tf.keras.initializers.Constant(self._skip_start()),
        )
        if text_width:  # from nothing, like the item vectors
            self.projection = self.add_weight(
                "projection", [text_width, config.dim], initializer="zeros"
            )
        self.tasks = ranking_tasks()
        self._emphasis = np.array(
            [getattr(config.head_weights, name) for name in HEADS], np.float32
        )
        self._trace()

    def _skip_start(self) -> Floats:
        """Each head starts as the sum of the user's and the item's own running mean."""
        kernel = np.zeros((2, self.signatures.stats, len(HEADS)), np.float32)
        for head in range(len(HEADS)):
            kernel[:, head, head] = 1.0
        return kernel.reshape(-1, len(HEADS))

    # Traced functions, one trace each: every shape that varies is open ------

    def _trace(self) -> None:
        config, given = self.config, self.signatures
        # Keras makes its variables on the first call; the optimizer needs them before.
        self.compute_loss(given.blank(2, 2))
        self.adam = Adam(self.trainable_variables, config.dense_rate)
        self._score = _traced(_inner, [given.vectors(), given.vectors()])
        self._bias = _traced(self.item_bias, [given.features()])
        self._users = _traced(self.user_vectors, [given.users()])
        self._items = _traced(self.item_vectors, [given.items()])
        self._gradients = _traced(self.gradients, None, jit=config.jit) if config.jit else None
        self._train = {
            rows: _traced(self.train_step, [given.step(rows, config.negatives)])
            for rows in sorted({config.step_rows, config.wide_rows or config.step_rows})
        }

    def users(self, inputs: Inputs, contents: ItemContents) -> Floats:
        """Served vectors `[b, vector_dim]` of users, from what `prepare_batch` gives."""
        return np.array(self._users(pack_users(inputs, contents)))

    def items(self, inputs: Inputs) -> Floats:
        """Item vectors v `[n, dim]`, from `models.training.prepare_batch`'s inputs."""
        return np.array(self._items({name: inputs[name] for name in self.signatures.items()}))

    def bias(self, features: Floats) -> Floats:
        """b(F) `[n, 1]` of stream features `[n, features]`."""
        return np.array(self._bias(features))

    def score(self, users: Floats, items: Floats) -> Floats:
        """Scores `[users, items]` of served vectors; what is not finite becomes -inf."""
        scores = np.array(self._score(users, items))
        odd = np.flatnonzero(~np.isfinite(scores.sum(axis=1)))  # cheaper than to look at each
        if len(odd):
            rows = scores[odd]
            scores[odd] = np.where(np.isfinite(rows), rows, -np.inf)
        return scores

    def scores_of(self, items: Floats) -> Callable[[Floats], Floats]:
        """`score` of users against the same items again and again: they are handed over once."""
        table = tf.constant(items)
        return lambda users: self.score(users, table)

    def train(self, inputs: Inputs) -> tuple[float, bool]:
        """One padded step (`models.training.train_step`); its loss, and whether it took effect."""
        result = self._train[len(inputs["weights"])](pack_step(inputs))
        return float(result["loss"]), bool(result["finite"])

    def traces(self) -> int:
        """Traces of all functions so far: a live process must not make new ones."""
        made = [self._score, self._bias, self._users, self._items, *self._train.values()]
        return sum(function.experimental_get_tracing_count() for function in made)

    def flops(self, rows: int) -> int:
        """Multiplications and additions of one step's matrix products and elementwise sums.

        As TensorFlow's own profiler counts the traced graph: of operations whose shapes are
        open (look-ups, the tables' optimizer) it knows nothing.

        Args:
            rows: of the step, one of the two sizes that are traced.
        """
        from tensorflow.python.profiler import model_analyzer, option_builder

        graph = self._train[rows].get_concrete_function().graph
        option = option_builder.ProfileOptionBuilder
        wanted = option(option.float_operation()).with_empty_output().build()
        return int(model_analyzer.profile(graph, options=wanted).total_float_ops)

    # The graph ------------------------------------------------------------

    def leaves(self, given: Inputs) -> dict[str, Tensor]:
        """What a step reads of the tables, all float32.

        user, attributes, context `[b, d]`; past `[b, l, d]`; item `[b + k, d]`.
        """
        bags = {}
        for name, scale in (("word", given["word_scale"]), ("attribute", given["token_scale"])):
            rows = self.tables[name](given[f"{name}/unique"])
            bags[name] = bag(rows, given[f"{name}/place"], given[f"{name}/of"], scale)
        attributes, context = tf.split(bags["attribute"], 2)
        own = given["features"].shape[0]
        content = bags["word"][own:]
        rows, earned = given["history/unique"], given["past_own"]
        past = self._past(rows, earned, content, given["past_text"])
        return {
            "user": self.tables["user"](given["rows"]),
            "past": _gathered(past, given["past"]),
            "item": self.tables["item"](given["items"]) + bags["word"][:own],
            "attributes": attributes,
            "context": context,
        }

    def table_gradients(self, leaf: dict[str, Tensor], given: Inputs) -> dict[str, Tensor]:
        """Gradients `[u, d]` of the rows `unique` of each table, from those of the leaves.

        A leaf is a sum of rows; its gradient goes back to each of them, sorted by row.
        """

        def summed(name: str, flat: Tensor) -> Tensor:
            return tf.raw_ops.SparseSegmentSumWithNumSegments(
                data=flat,
                indices=given[f"{name}/owner"],
                segment_ids=given[f"{name}/segment"],
                num_segments=tf.size(given[f"{name}/unique"]),
            )

        past = summed("history", tf.reshape(leaf["past"], [-1, self.config.dim]))
        contents = tf.concat([leaf["item"], past], 0)
        both = tf.concat([leaf["attributes"], leaf["context"]], 0)
        return {
            "user": summed("user", leaf["user"]),
            "item": summed("item", leaf["item"]),
            "history": past * given["past_own"][:, None],
            "word": summed("word", contents * given["word_scale"][:, None]),
            "attribute": summed("attribute", both * given["token_scale"][:, None]),
        }

    def _past(self, rows: Tensor, own: Tensor, content: Tensor, text: Tensor) -> Tensor:
        """`[p, dim]`: the vectors of `p` past items, by id (where `own` is 1) and content.

        The words are those of the items themselves: one like what a user had is near them
        from its first event on.
        """
        return self._with_text(self.tables["history"](rows) * own[:, None] + content, text)

    def user_vectors(self, inputs: Inputs) -> Tensor:
        """`[b, vector_dim]` float32: `[u, 1, w, q]`, from the inputs of `pack_users`."""
        length = self.config.history
        rows, past, *events = tf.split(inputs["ints"], [1, *([length] * len(PAST))], axis=1)
        tokens = self._bag("attribute", inputs["tokens"], inputs["scale"])
        attributes, context = tf.split(tokens, 2)
        content = self._bag("word", inputs["past/words"], inputs["past/scale"])
        known = self._past(inputs["past"], inputs["past/own"], content, inputs["past/text"])
        return self._tower(
            {
                "user": self.tables["user"](rows[:, 0]),
                "past": _gathered(known, past),
                "alike": _gathered(inputs["past/likeness"], past),
                **dict(zip(PAST[1:], events, strict=True)),
                "attributes": attributes,
                "context": context,
                "clock": inputs["clock"],
            }
        )

    def _tower(self, inputs: Inputs) -> Tensor:
        return tf.cast(self.user_tower(inputs), tf.float32)

    def item_vectors(self, inputs: Inputs) -> Tensor:
        """`[n, dim]`: v, by id and content."""
        content = self._bag("word", inputs["words"], inputs["scale"])
        return self._with_text(self.tables["item"](inputs["rows"]) + content, inputs["text"])

    def _bag(self, table: str, entries: Tensor, scale: Tensor) -> Tensor:
        """Scaled sums of each owner's rows of a table; entries (row, owner) `[2, t]`."""
        rows, owner = tf.unstack(entries)
        return bag(self.tables[table](rows), tf.range(tf.size(rows)), owner, scale)

    def _with_text(self, vectors: Tensor, text: Tensor) -> Tensor:
        """`[n, dim]` item vectors with their projected text `[n, width]` added."""
        return vectors + tf.matmul(text, self.projection) if self._text_width else vectors

    def loss_of(self, leaves: dict[str, Tensor], given: Inputs) -> Tensor:
        """Loss of a padded step: retrieval and ranking heads, float32 scalar.

        The sum over its rows, by the rows of an ordinary step: an event weighs the same
        in a wide step, in a full one and in one that is mostly padding.

        Args:
            leaves: see `leaves`; their rows may be a part of the step's.
            given: the same rows of types, ages, dwells, alike and `ROW_FLOATS`; features
                `[b + k, F]`, item_likeness `[b + k, fixed]`, correction `[k]`, masked
                `[b, k]`, base.
        """
        names = ("user", "past", "attributes", "context")
        u = self._tower(
            {name: leaves[name] for name in names}
            | {name: given[name] for name in (*PAST[1:], "clock", "alike")}
        )
        features = given["features"]
        items = self._with_text(leaves["item"], given["item_text"])
        vectors = tf.concat([items, self.item_bias(features), features], 1)
        rows = u.shape[0]
        sizes = [rows, vectors.shape[0] - rows]
        (v, others), (t, fixed) = (tf.split(x, sizes) for x in (vectors, given["item_likeness"]))
        v = tf.concat([v, t], 1)
        wanted, disliked = tf.unstack(given["weights"], axis=1)
        retrieval = retrieval_loss(
            tf.reduce_sum(u * v, 1),
            self._scores(u, others, fixed),
            given["correction"],
            given["masked"],
            wanted,
            disliked,
        )
        # The tasks' losses are means over the rows.
        heads = rows * ranking_loss(
            self.tasks,
            self._ranked(u, v, given),
            given["targets"],
            given["present"] * self._emphasis,
        )
        return (tf.reduce_sum(retrieval) + heads) / float(self.config.step_rows)

    def _scores(self, u: Tensor, others: Tensor, fixed: Tensor) -> Tensor:
        """`[b, k]` float32 scores; in bfloat16 only u·v, as a log count needs more digits.

        Args:
            u: `[b, vector_dim]`.
            others: `[k, …]` `[v, b, F]`.
            fixed: `[k, fixed]` t; apart, as nothing learns from its gradient.
        """
        u, q = tf.split(u, [others.shape[1], self.config.fixed], 1)
        alike = _inner(q, fixed) if self.config.fixed else 0.0
        if self.config.precision == "float32":
            return _inner(u, others) + alike
        dim = self.config.dim
        half = [tf.cast(x[:, :dim], tf.bfloat16) for x in (u, others)]
        return tf.cast(_inner(*half), tf.float32) + _inner(u[:, dim:], others[:, dim:]) + alike

    def _ranked(self, u: Tensor, v: Tensor, given: Inputs) -> Tensor:
        """What the heads say of the rows, `[b, heads]`; the towers do not learn from it."""
        u, v, stats = tf.stop_gradient(u), tf.stop_gradient(v), given["stats"]
        x = self.hidden(tf.concat([u, v, u * v, stats], 1))
        return self.out(tf.cast(x, tf.float32)) + tf.matmul(stats, self.skip) + given["base"]

    def gradients(
        self, leaves: dict[str, Tensor], given: Inputs
    ) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
        """Loss, its gradients by the leaves, and by the dense variables."""
        dense = self.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([leaves, dense])
            loss = self.loss_of(leaves, given)
        zero = tf.UnconnectedGradients.ZERO
        leaf, moved = tape.gradient(loss, (leaves, dense), unconnected_gradients=zero)
        return loss, leaf, [tf.convert_to_tensor(g) for g in moved]

    def compute_loss(self, inputs: Inputs, training: bool = False) -> Tensor:
        """TFRS' own entry: the loss of a packed step."""
        given = self.unpacked(inputs)
        return self.loss_of(self.leaves(given), given)

    def unpacked(self, inputs: Inputs) -> Inputs:
        """The arrays of a packed step, and what its past items are like, `[b, l, fixed]`."""
        given = self.signatures.unpacked(inputs, inputs["row_floats"].shape[0])
        return given | {"alike": _gathered(given["past_likeness"], given["past"])}

    def train_step(self, inputs: Inputs) -> dict[str, Tensor]:
        """One packed step; without effect where anything is not finite.

        Returns:
            loss: float32 scalar; finite: bool scalar, False when the step was skipped.
        """
        given = self.unpacked(inputs)
        compute = self._gradients or self.gradients
        loss, leaf, dense = over_devices(
            compute, self._devices, self.leaves(given), {n: given[n] for n in COMPUTED}
        )
        # A sum is finite where all of its parts are, and costs no copy of them.
        sums = [tf.reduce_sum(g) for g in (loss, *leaf.values(), *dense)]
        finite = tf.reduce_all(tf.math.is_finite(tf.stack(sums)))
        tf.cond(
            finite,
            lambda: self._apply(self.table_gradients(leaf, given), given, dense),
            lambda: tf.constant(value=True),
        )
        return {"loss": loss, "finite": finite}

    def _apply(self, tables: dict[str, Tensor], given: Inputs, dense: list[Tensor]) -> Tensor:
        for name, gradient in tables.items():
            self.tables[name].apply(given[f"{name}/unique"], gradient)
        # Adam's step does not shrink with the gradient: a few rows would move the dense
        # layers as far as a full step, and towards the one user that they may be of.
        taught = tf.reduce_any(tf.concat([given["weights"], given["present"]], 1) > 0, 1)
        rows = tf.math.count_nonzero(taught, dtype=tf.float32)
        self.adam.apply(dense, tf.minimum(rows / float(self.config.step_rows), 1.0))
        return tf.constant(value=True)


def _traced(function: Any, signature: list[Any] | None, *, jit: bool = False) -> Any:
    """One trace for all shapes; without AutoGraph, whose rewriting takes two thirds of a start."""
    return tf.function(function, input_signature=signature, autograph=False, jit_compile=jit)


def _gathered(vectors: Tensor, places: Tensor) -> Tensor:
    """`[p, n]` vectors at their places `[b, l]`, counted from 1: `[b, l, n]`; zeros for place 0."""
    return tf.gather(tf.pad(vectors, [[1, 0], [0, 0]]), places)


def _inner(users: Tensor, items: Tensor) -> Tensor:
    """Inner products, `[users, items]`."""
    return tf.matmul(users, items, transpose_b=True)
