"""The retrieval loss and its gradient; numbers derived here."""

import numpy as np
import pytest

from models.network.tensorflow_runtime import tensorflow

tf = tensorflow()

from models.network.losses import retrieval_loss  # noqa: E402


def test_with_every_item_drawn_the_loss_is_the_full_softmax():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 5)).astype(np.float32)
    own = np.array([0, 3, 4])
    masked = np.zeros((3, 5), bool)
    masked[np.arange(3), own] = True  # the own item is not its own negative
    score = tf.Variable(scores)
    with tf.GradientTape() as tape:
        positive = tf.gather(score, own, batch_dims=1)
        loss = retrieval_loss(positive, score, tf.zeros(5), masked, tf.ones(3), tf.zeros(3))
    softmax = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    p = softmax[np.arange(3), own]
    assert loss.numpy() == pytest.approx(-np.log(p), rel=1e-5)
    expected = softmax.copy()
    expected[np.arange(3), own] -= 1.0
    gradient = tf.convert_to_tensor(tape.gradient(loss, score)).numpy()
    assert gradient == pytest.approx(expected, abs=1e-6)


def test_a_dislike_loses_what_it_keeps_of_the_probability():
    scores = np.array([[1.0, 0.0, 2.0]], np.float32)
    p = np.exp(1.0) / np.exp(scores).sum()
    loss = retrieval_loss(
        np.array([1.0], np.float32),
        scores,
        np.zeros(3, np.float32),
        np.array([[True, False, False]]),
        np.zeros(1, np.float32),
        np.ones(1, np.float32),
    )
    assert loss.numpy()[0] == pytest.approx(-np.log(1 - p), rel=1e-5)


def test_the_correction_makes_a_sample_speak_for_all():
    # One of four equal items drawn with probability 1/4 weighs as much as all four.
    loss = retrieval_loss(
        np.zeros(1, np.float32),
        np.zeros((1, 1), np.float32),
        np.array([np.log(4.0)], np.float32),
        np.zeros((1, 1), bool),
        np.ones(1, np.float32),
        np.zeros(1, np.float32),
    )
    assert loss.numpy()[0] == pytest.approx(np.log(5.0), rel=1e-6)


def test_with_nothing_to_compete_with_there_is_no_loss():
    loss = retrieval_loss(
        np.ones(2, np.float32),
        np.ones((2, 2), np.float32),
        np.array([-1e9, 0.0], np.float32),
        np.array([[False, True], [False, False]]),
        np.ones(2, np.float32),
        np.ones(2, np.float32),
    )
    assert loss.numpy()[0] == 0
    assert loss.numpy()[1] > 0
