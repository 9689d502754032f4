"""Run by test_data_parallel: one step's gradients on one device and on two logical ones."""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/support")]

from models.network.tensorflow_runtime import tensorflow  # noqa: E402

tf = tensorflow()
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from feedback import batches  # noqa: E402
from test_data_parallel import SMALL, script  # noqa: E402

from models.config import ModelConfig  # noqa: E402
from models.network.packed_inputs import pack_step  # noqa: E402
from models.network.weights import load_variables, weights_by_name  # noqa: E402
from models.training.negative_sampling import draw_negatives  # noqa: E402
from models.training.train_step import _inputs, _popular_rows, _weights  # noqa: E402
from models.training.trainer import Trainer  # noqa: E402


def gradients(trainer: Trainer, packed: dict) -> tuple:
    """Loss and gradients of one step, as the train step finds them."""
    from models.network.data_parallel import COMPUTED, over_devices

    model = trainer.model
    given = model.unpacked({k: tf.constant(v) for k, v in packed.items()})
    told = {name: given[name] for name in COMPUTED}
    return over_devices(model.gradients, model._devices, model.leaves(given), told)


def main() -> None:
    one = Trainer(ModelConfig(**SMALL), None, None)
    two = Trainer(ModelConfig(**SMALL, devices=2), None, None)
    assert len(two.model._devices) == 2
    cut = batches(script(), minutes=20)
    for number, rows in enumerate(cut[:-2], 1):
        one.step(number, rows)
        result = two.step(number, rows)  # the whole train step, traced over both devices
        assert result.metrics["skipped_steps"] == 0
    load_variables(two.model, weights_by_name(one.model))
    prepared = one._preparer.prepare(one.state, len(cut), cut[-2])
    one._grow()
    two.model.tables["item"].grow(one.state.item_ids.capacity)
    rng = np.random.default_rng(0)
    hot, known = _popular_rows(one.config, one.state, prepared), one.state.items.known_rows()
    negatives = draw_negatives(hot, known, one.config.negatives, rng)
    # 7 rows of 8: the second device also has padding, and other weights than the first.
    weights = _weights(one.config, prepared.batch)
    given = _inputs(one.config, one.state, prepared, np.arange(7), weights, negatives, 8)
    packed = pack_step(given)
    (loss, leaf, dense), (loss2, leaf2, dense2) = (gradients(t, packed) for t in (one, two))
    np.testing.assert_allclose(loss2.numpy(), loss.numpy(), rtol=1e-6)
    moved = 0
    for name, value in leaf.items():
        np.testing.assert_allclose(leaf2[name].numpy(), value.numpy(), rtol=1e-4, atol=1e-7)
        moved += int(np.abs(value.numpy()).max() > 1e-4)
    for a, b in zip(dense, dense2, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-4, atol=1e-6)
    negative = leaf["item"].numpy()[8:]
    assert np.abs(negative).max() > 1e-4  # all rows' negatives are the same, and they learn
    assert moved >= 3
    print(f"the same gradients on {len(two.model._devices)} devices")


if __name__ == "__main__":
    main()
