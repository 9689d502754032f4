"""A table's Adagrad and the dense layers' Adam; numbers derived here."""

import numpy as np
import pytest

from models.network.tensorflow_runtime import tensorflow

tf = tensorflow()

from models.network.optimizers import Adam, Table  # noqa: E402


def test_adagrad_on_the_rows_touched():
    table = Table(4, 2, rate=0.1, accumulator=0.01, name="t")
    table.apply(tf.constant([2]), tf.constant([[4.0, 2.0]]))
    expected = [-0.1 * 4 / np.sqrt(0.01 + 16), -0.1 * 2 / np.sqrt(0.01 + 4)]
    assert table.weights.numpy()[2] == pytest.approx(expected, rel=1e-5)
    assert not table.weights.numpy()[[0, 1, 3]].any()
    assert table.slots.numpy()[2] == pytest.approx([16.01, 4.01])
    table.grow(6)
    assert table.weights.shape == [None, 2]
    assert table.weights.numpy().shape == (6, 2)
    assert table.slots.numpy()[5] == pytest.approx([0.01, 0.01])
    table.reset(np.array([2]))
    assert not table.weights.numpy().any()
    assert table.slots.numpy()[2] == pytest.approx([0.01, 0.01])


def test_adams_first_step_is_its_rate():
    variable = tf.Variable([1.0, 1.0])
    optimizer = Adam([variable], rate=0.1)
    optimizer.apply([tf.constant([3.0, -0.5])], tf.constant(1.0))
    assert variable.numpy() == pytest.approx([0.9, 1.1], rel=1e-5)
