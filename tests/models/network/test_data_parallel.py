"""Several devices, bfloat16 and XLA: on two logical CPUs, as no GPU is at hand."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from feedback import batches, event

from models.config import ModelConfig
from models.errors import JobError
from models.network.weights import weights_by_name
from models.training.trainer import Trainer

SMALL = {
    "dim": 8,
    "history": 4,
    "step_rows": 8,
    "wide_rows": 16,
    "negatives": 16,
    "attributes": 2,
    "contexts": 2,
    "text_buckets": 16,
    "attribute_buckets": 16,
    "text_tokens": 2,
}


def script(n: int = 400) -> list[dict]:
    """Users like one half of the items each."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 12, n), rng.integers(0, 15, n)
    return [
        event(i, f"u{u}", f"i{2 * k + u % 2}", 30.0 * i, "like" if i % 5 else "dislike")
        for i, (u, k) in enumerate(zip(users.tolist(), items.tolist(), strict=True))
    ]


def test_two_devices_find_the_gradients_of_one():
    """In a process of its own, as logical devices are made before TensorFlow starts."""
    child = Path(__file__).with_name("two_devices.py")
    done = subprocess.run(
        [sys.executable, child], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1].startswith("the same gradients on 2 devices")


def test_more_devices_than_there_are_is_said():
    with pytest.raises(JobError, match=r"model.devices is 64, TensorFlow finds \d+ CPU.*lower it"):
        Trainer(
            ModelConfig(**SMALL | {"devices": 64, "step_rows": 64, "wide_rows": 64}), None, None
        )


def test_rows_that_devices_cannot_share_are_refused():
    with pytest.raises(ValueError, match="step_rows 9 cannot be shared evenly by devices 2"):
        ModelConfig(step_rows=9, devices=2)


@pytest.mark.parametrize("how", [{"precision": "bfloat16"}, {"jit": True}])
def test_bfloat16_and_xla_train_alike(how):
    """The same stream, the same losses within the arithmetic's precision; served as float32."""
    plain, other = (Trainer(ModelConfig(**SMALL | more), None, None) for more in ({}, how))
    losses = []
    for number, rows in enumerate(batches(script(), minutes=20), 1):
        one, two = plain.step(number, rows), other.step(number, rows)
        assert two.metrics["skipped_steps"] == 0
        losses.append((one.metrics["loss"], two.metrics["loss"]))
        vectors = two.delta["embedding"].flatten().to_numpy()
        assert vectors.dtype == np.float32
        assert np.isfinite(vectors).all()
    first, second = np.array(losses).T
    assert second[:5] == pytest.approx(first[:5], rel=1e-3 if "jit" in how else 0.05)
    assert second.mean() == pytest.approx(first.mean(), rel=0.01 if "jit" in how else 0.05)
    assert second[-3:].mean() < second[:3].mean()  # it learns
    kinds = {value.dtype.name for value in weights_by_name(other.model).values()}
    assert kinds == {"float32"}  # weights, accumulators and moments
    if "jit" in how:
        assert other.model.traces() == plain.model.traces()
