"""Optimizers apart: row-wise cost for tables, Adam for dense layers.

Both are written on TensorFlow's fused kernels so that all of their state is
plain variables, a skipped step touches nothing, and a table may grow.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.network.tensorflow_runtime import Tensor, tensorflow

tf: Any = tensorflow()

__all__ = ["Adam", "Table"]


class Table(tf.Module):
    """Rows of a learned table with their Adagrad accumulators; row 0 is always zero.

    Duchi et al. (JMLR 2011), sparse: a step costs the rows that it touches. A
    small initial accumulator lets a row learn from its first few events.

    Args:
        rows: rows at first.
        dim: width.
        rate: learning rate.
        accumulator: where the squared gradients start.
        name: of the variables.
    """

    def __init__(self, rows: int, dim: int, *, rate: float, accumulator: float, name: str) -> None:
        super().__init__(name=name)
        shape = tf.TensorShape([None, dim])
        self._start = accumulator
        self._rate = tf.constant(rate, tf.float32)
        # Not trainable for Keras: its optimizer would make dense slots.
        self.weights = tf.Variable(
            tf.zeros([rows, dim]), shape=shape, trainable=False, name=f"{name}/rows"
        )
        self.slots = tf.Variable(
            tf.fill([rows, dim], tf.constant(accumulator, tf.float32)),
            shape=shape,
            trainable=False,
            name=f"{name}/adagrad",
        )

    def __call__(self, rows: Tensor) -> Tensor:
        """`[…]` int32 → `[…, dim]`; zeros for row 0."""
        return tf.gather(self.weights, rows)

    def randomise(self, spread: float, seed: int) -> None:
        """Give all rows but 0 a vector of their own, normal, with standard deviation `spread`.

        Sums of such rows have the inner product of the bags behind them, on average (Kanerva
        et al., "Random indexing", CogSci 2000): who shares some is near.
        """
        shape = tf.shape(self.weights)
        drawn = spread * tf.random.stateless_normal(shape, [seed, 1])
        self.weights.assign(drawn * tf.cast(tf.range(shape[0]) > 0, tf.float32)[:, None])

    def grow(self, rows: int) -> None:
        """Add zero rows until there are `rows`; no retracing, as the shape is open."""
        # Not `value()`: after a sparse update it is a copy of the whole table.
        extra = rows - int(tf.raw_ops.VariableShape(input=self.weights.handle)[0])
        if extra > 0:
            dim = self.weights.shape[1]
            self.weights.assign(tf.concat([self.weights, tf.zeros([extra, dim])], 0))
            start = tf.fill([extra, dim], tf.constant(self._start, tf.float32))
            self.slots.assign(tf.concat([self.slots, start], 0))

    def reset(self, rows: NDArray[np.integer]) -> None:
        """Make recycled rows new again."""
        shape = (len(rows), self.weights.shape[1])
        self.put(rows, np.zeros(shape, np.float32), np.full(shape, self._start, np.float32))

    def put(
        self, rows: NDArray[np.integer], weights: NDArray[np.float32], slots: NDArray[np.float32]
    ) -> None:
        """Set rows `[n]` and their accumulators, `[n, dim]` each."""
        index = tf.constant(rows, tf.int32)
        self.weights.scatter_update(tf.IndexedSlices(weights, index))
        self.slots.scatter_update(tf.IndexedSlices(slots, index))

    def apply(self, rows: Tensor, gradient: Tensor) -> None:
        """One Adagrad step.

        Gathers, elementwise arithmetic and two scatters: a quarter of the time of the
        fused kernel, which goes row by row.

        Args:
            rows: `[u]` int32, distinct, without row 0.
            gradient: `[u, dim]` float32.
        """
        slots = tf.gather(self.slots, rows) + gradient * gradient
        moved = tf.gather(self.weights, rows) - self._rate * gradient * tf.math.rsqrt(slots)
        self.slots.scatter_update(tf.IndexedSlices(slots, rows))
        self.weights.scatter_update(tf.IndexedSlices(moved, rows))


class Adam(tf.Module):
    """Adam (Kingma and Ba, ICLR 2015) for dense variables.

    Args:
        variables: what it moves, in a fixed order.
        rate: learning rate.
    """

    def __init__(self, variables: Sequence[Tensor], rate: float) -> None:
        super().__init__(name="adam")
        self._variables = list(variables)
        self._rate = tf.constant(rate, tf.float32)
        self.powers = [tf.Variable(beta, trainable=False) for beta in (0.9, 0.999)]
        self.first = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self.second = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]

    def apply(self, gradients: Sequence[Tensor], part: Tensor) -> None:
        """One step, `part` (0 to 1) of its length; `gradients` in the order of the variables."""
        for variable, m, v, gradient in zip(
            self._variables, self.first, self.second, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=self.powers[0],
                beta2_power=self.powers[1],
                lr=self._rate * part,
                beta1=tf.constant(0.9),
                beta2=tf.constant(0.999),
                epsilon=tf.constant(1e-7),
                grad=tf.convert_to_tensor(gradient),
            )
        for power, beta in zip(self.powers, (0.9, 0.999), strict=True):
            power.assign(power * beta)
