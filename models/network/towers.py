"""The two towers: users by id, history and attributes; items by id and content."""

from typing import Any

import numpy as np

from models.config import ModelConfig
from models.feature_batch import AGE_BUCKETS, DWELL_BUCKETS
from models.network.tensorflow_runtime import Tensor, tensorflow

tf: Any = tensorflow()

__all__ = ["Encoder", "ItemBias", "Norm", "UserTower", "bag"]

_TYPES = 10  # 0 = no event, then the event types + 1
_ALIKE = 2.0  # what a past item's likeness counts at first
_FOLLOWED = 4.0  # what it counts at first that an item followed it
_GAIN = 3.0  # by which q's gain moves faster than the dense layers' rate
_STEEPEST = 1.5  # log of what a Transformer may multiply or divide a past item's share by


def _dense(units: int, seed: int, **kwargs: Any) -> Any:
    return tf.keras.layers.Dense(
        units, kernel_initializer=tf.keras.initializers.GlorotUniform(seed=seed), **kwargs
    )


def _constant(value: Any) -> Any:
    return tf.keras.initializers.Constant(value)


def _blank(units: int, **kwargs: Any) -> Any:
    """A layer that says nothing at first."""
    return tf.keras.layers.Dense(units, kernel_initializer="zeros", **kwargs)


@tf.custom_gradient
def _normalised(x: Tensor) -> Any:
    """`x` with mean 0 and variance 1 along its last axis; its gradient in five operations."""
    centred = x - tf.reduce_mean(x, -1, keepdims=True)
    inverse = tf.math.rsqrt(tf.reduce_mean(centred * centred, -1, keepdims=True) + 1e-5)
    out = centred * inverse

    def gradient(upstream: Tensor) -> Tensor:
        along = tf.reduce_mean(upstream * out, -1, keepdims=True)
        return inverse * (upstream - tf.reduce_mean(upstream, -1, keepdims=True) - out * along)

    return out, gradient


class Norm(tf.keras.layers.Layer):
    """Layer normalisation (Ba et al., 2016) along the last axis, computed in float32."""

    def build(self, shape: Any) -> None:
        """Make gain and offset."""
        self._gain = self.add_weight("gain", [shape[-1]], initializer="ones")
        self._offset = self.add_weight("offset", [shape[-1]], initializer="zeros")

    def call(self, x: Tensor) -> Tensor:
        """See the class."""
        normal = tf.cast(_normalised(tf.cast(x, tf.float32)), x.dtype)
        return normal * self._gain + self._offset


class Encoder(tf.keras.layers.Layer):
    """One pre-norm Transformer layer (Vaswani et al., 2017; Xiong et al., ICML 2020).

    `[batch, length, dim]` → the same. Positions with mask 0 are not attended to. Both of its
    branches end in zeros, so that a fresh layer passes on what it is given (Bachlechner et
    al., "ReZero is all you need", UAI 2021).
    """

    def __init__(self, dim: int, heads: int, seed: int, dtype: Any = None) -> None:
        super().__init__(dtype=dtype)
        self._shape = [heads, dim // heads]
        self._norms = [Norm(dtype=dtype) for _ in range(2)]
        glorot = tf.keras.initializers.GlorotUniform(seed=seed)
        self._qkv = self.add_weight("qkv", [dim, 3 * dim], initializer=glorot)
        self._out = _blank(dim, dtype=dtype)
        self._up = _dense(2 * dim, seed + 2, activation="relu", dtype=dtype)
        self._down = _blank(dim, dtype=dtype)

    def call(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attend and transform.

        Args:
            x: `[batch, length, dim]`.
            mask: `[batch, length]`, 1 where there is an event, else 0.
        """
        x += self._out(self._attended(self._norms[0](x), -1e9 * (1.0 - mask)))
        return x + self._down(self._up(self._norms[1](x)))

    def _attended(self, y: Tensor, hidden: Tensor) -> Tensor:
        """What every position attends to, `[batch, length, dim]`."""
        length, dim = y.shape[1:]
        qkv = tf.matmul(tf.reshape(y, [-1, dim]), tf.convert_to_tensor(self._qkv))
        qkv = tf.reshape(qkv, [-1, length, 3, *self._shape])
        q, k, v = tf.unstack(tf.transpose(qkv, [2, 0, 3, 1, 4]))
        weights = tf.matmul(q, k, transpose_b=True) * self._shape[1] ** -0.5
        weights = tf.nn.softmax(weights + hidden[:, None, None, :])
        mixed = tf.transpose(tf.matmul(weights, v), [0, 2, 1, 3])
        return tf.reshape(mixed, [-1, length, dim])


class UserTower(tf.keras.layers.Layer):
    """`[batch]` users → `[batch, vector_dim]`: `[u, 1, w, q]`.

    The gates w start at zero: at first the model is its items' bias alone.
    Past items add to u directly too, fading by a fifth with each event, the newest once
    more: a factorised item-to-item model (Kabbur et al., KDD 2013; Rendle et al., WWW 2010)
    that learns at the tables' rate. On movielens_small it brought a third of recall@20.
    What each counts is learned by the event's type, age and dwell. A user's attributes add to u
    likewise: a factorisation machine of them and the items (Rendle, ICDM 2010). The context
    does not, for all rows of an hour would pull at the hour's vector together.
    A Transformer, where one is chosen, says what each past item counts among the others
    (pooling by self-attention: Lin et al., ICLR 2017), and adds a vector of its own, scaled
    by a gain per column. Both start from nothing (Touvron et al., "Going deeper with image
    Transformers", ICCV 2021): a fresh one would be noise. As its shares are of the items' own
    vectors, it need not learn what follows an item, only which item counts.
    What past items are like (`models.training.item_text_similarity`) adds up by the same counts to
    q, times a gain that is learned: an item-to-item model by words alone, which needs no event
    of an item. So do signs that stand for the past items (`models.memory.predecessors`), times a
    gain of their own: with an item's sketch of what came before it they make counts of what
    followed what.

    Args:
        config: shape of the tower.
    """

    def __init__(self, config: ModelConfig, dtype: Any = None) -> None:
        super().__init__(dtype=dtype)
        seed = 1_000 * (config.seed + 1)
        self._config = config
        self._features = len(config.stream_features)
        layers = config.attention_layers if config.sequence == "transformer" else 0
        self._layers = [
            Encoder(config.attention_dim, config.attention_heads, seed + 10 * i + 2, dtype)
            for i in range(layers)
        ]
        if config.sequence != "none":
            self._by_type = self.add_weight("by_type", [_TYPES], initializer="ones")
            self._by_age = self.add_weight("by_age", [AGE_BUCKETS], initializer="ones")
            self._by_dwell = self.add_weight("by_dwell", [DWELL_BUCKETS - 1], initializer="zeros")
        self._gains = [
            (self.add_weight(name, [], initializer=_constant(start / _GAIN)), width)
            for name, start, width in (
                ("likeness", _ALIKE, config.likeness),
                ("transitions", _FOLLOWED, config.transitions),
            )
            if width
        ]
        fade = np.array([0.8**k for k in range(config.history - 1, -1, -1)], np.float32)
        fade[-1] += 1.0
        self._fade = fade[:, None]
        if self._layers:
            width = config.attention_dim
            self._types = self.add_weight(
                "types",
                [_TYPES, width],
                initializer=tf.keras.initializers.RandomNormal(stddev=0.05, seed=seed),
            )
            self._ages = self.add_weight(
                "ages",
                [AGE_BUCKETS, width],
                initializer=tf.keras.initializers.RandomNormal(stddev=0.05, seed=seed + 1),
            )
            self._dwells = self.add_weight(
                "dwells",
                [DWELL_BUCKETS - 1, width],
                initializer=tf.keras.initializers.RandomNormal(stddev=0.05, seed=seed + 400),
            )
            self._places = self.add_weight(
                "places",
                [config.history, width],
                initializer=tf.keras.initializers.RandomNormal(stddev=0.05, seed=seed + 2),
            )
            self._read = _dense(width, seed + 3, use_bias=False, dtype=dtype)
            self._norm = Norm(dtype=dtype)
            self._gain = self.add_weight("gain", [width], initializer="zeros")
            self._share = _blank(1, dtype=dtype)
        self._mix = _dense(2 * config.dim, seed + 500, activation="relu", dtype=dtype)
        self._u = _dense(config.dim, seed + 501, dtype=dtype)
        self._w = _blank(self._features, dtype=dtype)

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Combine what is known of a user at a moment.

        Args:
            inputs: user `[b, dim]` id vectors; past `[b, l, dim]` vectors of past
                items, newest last, zeros where there is none; types, ages, dwells `[b, l]`
                int32, 0 where there is no event, or no dwell is known; alike
                `[b, l, fixed]`; attributes, context `[b, dim]`; clock `[b, c]`.
        """
        past, types = inputs["past"], inputs["types"]
        mask = tf.cast(types > 0, past.dtype)
        parts = [inputs[name] for name in ("user", "attributes", "context", "clock")]
        if self._config.sequence != "none":
            kinds = self._kinds(inputs, past.dtype)
            counted = self._weights(kinds)
            weighed = past * counted
            count = tf.maximum(tf.reduce_sum(mask, 1, keepdims=True), 1.0)
            parts += [weighed[:, -1], tf.reduce_sum(weighed, 1) / count]
        if self._layers:
            x = self._read(past) + self._marks(kinds)
            x += tf.cast(self._places, past.dtype) * mask[:, :, None]
            for layer in self._layers:
                x = layer(x, mask)
            shares = self._shares(x, mask)
            weighed, counted = weighed * shares, counted * shares
            parts.append(self._norm(x[:, -1]) * tf.cast(self._gain, past.dtype) * mask[:, -1:])
        hidden = self._mix(tf.concat(parts, 1))
        u = self._u(hidden)
        if self._config.sequence != "none":
            fade = tf.cast(self._fade, past.dtype)
            u += tf.reduce_sum(weighed * fade, 1)
        u += inputs["attributes"]
        told = [u, tf.ones_like(u[:, :1]), self._w(hidden)]
        if self._gains:
            told.append(self._alike(counted * fade, tf.cast(inputs["alike"], past.dtype)))
        return tf.concat(told, 1)

    def _alike(self, counted: Tensor, alike: Tensor) -> Tensor:
        """`[b, fixed]`: vectors of past items `[b, l, fixed]`, as counted `[b, l, 1]`."""
        gain = tf.concat([tf.fill([width], _GAIN * gain) for gain, width in self._gains], 0)
        gain = tf.cast(gain, alike.dtype)
        return gain * tf.matmul(counted, alike, transpose_a=True)[:, 0]

    def _kinds(self, inputs: dict[str, Tensor], dtype: Any) -> list[Tensor]:
        """Types, ages and dwells of past events, `[b, l, …]`: 1 where it is so, else 0."""
        # An unknown dwell, -1 here, is none of them.
        codes = (inputs["types"], inputs["ages"], inputs["dwells"] - 1)
        sizes = (_TYPES, AGE_BUCKETS, DWELL_BUCKETS - 1)
        return [tf.one_hot(c, n, dtype=dtype) for c, n in zip(codes, sizes, strict=True)]

    def _weights(self, kinds: list[Tensor]) -> Tensor:
        """What past events count, by type, age and dwell, `[b, l, 1]`; all the same at first."""
        weights = (self._by_type, self._by_age, self._by_dwell)
        by_type, by_age, by_dwell = (
            tf.matmul(kind, tf.cast(weight, kind.dtype)[:, None])
            for kind, weight in zip(kinds, weights, strict=True)
        )
        return by_type * by_age * (1.0 + by_dwell)

    def _shares(self, x: Tensor, mask: Tensor) -> Tensor:
        """What past items count among each other, `[b, l, 1]`: 1 on average, all 1 at first.

        Bounded: none counts more than twenty times what another does, e^(2 · 1.5).
        """
        told, here = (tf.cast(t, tf.float32) for t in (self._share(x)[:, :, 0], mask))
        odds = tf.exp(_STEEPEST * tf.tanh(told / _STEEPEST)) * here
        count, total = (tf.reduce_sum(t, 1, keepdims=True) for t in (here, odds))
        return tf.cast(tf.math.divide_no_nan(odds * count, total), x.dtype)[:, :, None]

    def _marks(self, kinds: list[Tensor]) -> Tensor:
        """What events are, `[b, l, width]`, as a product: its gradient needs no scatter."""
        marks, table = tf.concat(kinds, -1), tf.concat([self._types, self._ages, self._dwells], 0)
        table = tf.cast(table, marks.dtype)
        flat = tf.matmul(tf.reshape(marks, [-1, marks.shape[-1]]), table)
        return tf.reshape(flat, [-1, self._config.history, table.shape[1]])


class ItemBias(tf.keras.layers.Layer):
    """`[n, features]` stream features → `[n, 1]` bias b(F).

    It starts as the log of one decayed count, popularity, and learns the rest.

    Args:
        config: which count it starts from, and the seed.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        features = len(config.stream_features)
        start = config.half_lives_h.index(config.start_half_life_h)
        kernel = [[float(i == start)] for i in range(features)]
        self._linear = self.add_weight("linear", [features, 1], initializer=_constant(kernel))
        self._up = _dense(16, 1_000 * (config.seed + 1) + 900, activation="relu")
        self._down = _blank(1)

    def call(self, features: Tensor) -> Tensor:
        """See the class."""
        return tf.matmul(features, self._linear) + self._down(self._up(features))


def bag(rows: Tensor, place: Tensor, owner: Tensor, scale: Tensor) -> Tensor:
    """Scaled sums of each owner's rows, `[n, dim]`; of an owner without any, zeros.

    Args:
        rows: `[u, dim]` vectors.
        place: `[t]` int32: which of them.
        owner: `[t]` int32, ascending.
        scale: `[n]`.
    """
    sums = tf.raw_ops.SparseSegmentSumWithNumSegments(
        data=rows, indices=place, segment_ids=owner, num_segments=tf.size(scale)
    )
    return sums * scale[:, None]
