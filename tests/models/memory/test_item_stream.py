"""Stream features, by hand."""

import numpy as np
import pytest

from models.config import ModelConfig
from models.memory.item_stream import ItemStream

HOUR = 3_600_000
START = 1_700_000_000_000


def test_features_are_named_finite_and_as_defined():
    config = ModelConfig()
    stream = ItemStream(config.half_lives_h, 4)
    stream.update(np.array([1, 1]), np.ones(2), np.array([0.0, 1.0]), np.array([START, START]))
    features = stream.features(START + HOUR, np.array([1, 2]))
    assert features.shape == (2, len(config.stream_features))
    assert np.isfinite(features).all()
    named = dict(zip(config.stream_features, features[0], strict=True))
    assert named["log_count_1h"] == pytest.approx(np.log(1.02), rel=1e-5)
    assert named["log_count_ever"] == pytest.approx(np.log(2.02), rel=1e-5)
    assert named["age"] == pytest.approx(np.log(2) / 4, rel=1e-5)
    assert named["recency"] == pytest.approx(np.log(2) / 4, rel=1e-5)
    assert named["dislikes"] == pytest.approx(np.log(5 * 1.5 / 5.5), rel=1e-5)
    unseen = dict(zip(config.stream_features, features[1], strict=True))
    assert unseen["log_count_ever"] == pytest.approx(np.log(0.02), rel=1e-5)
    assert unseen["age"] == 0
    assert unseen["dislikes"] == pytest.approx(0, abs=1e-6)


def test_decay_alone_lowers_all_counts_alike():
    stream = ItemStream((1.0,), 3)
    rows, n = np.array([1, 2, 2, 2]), 4
    stream.update(rows, np.full(n, 1e6), np.zeros(n), np.full(n, START))
    early, late = (stream.features(START + t * HOUR, np.array([1, 2]))[:, 0] for t in (0, 3))
    assert (early - late).tolist() == pytest.approx([3 * np.log(2)] * 2, rel=1e-5)
