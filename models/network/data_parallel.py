"""A step's rows shared among several devices, with the gradients that one would find.

A row competes with the step's shared draw of negatives, which every device gets whole:
no device sees fewer of them, as `tfrs.tasks.Retrieval` under `MirroredStrategy` does. So
the loss of a step is a sum over rows, and its gradients are the sum of the devices'. Tables
and optimizers stay on the first device: mirrored tables would cost every device a copy of
what exists, and could not grow. No GPU has confirmed this: it was tested on logical CPUs.
"""

from collections.abc import Callable
from typing import Any

from models.errors import JobError
from models.network.tensorflow_runtime import Tensor, tensorflow

tf: Any = tensorflow()

__all__ = ["COMPUTED", "compute_devices", "over_devices"]

_ROWS = (
    *("types", "ages", "dwells", "clock", "alike"),
    *("weights", "stats", "targets", "present", "masked"),
)
_WHOLE = ("correction", "base")
_ITEMS = ("features", "item_text", "item_likeness")
COMPUTED = (*_ROWS, *_ITEMS, *_WHOLE)
"""What `Recommender.gradients` reads beside the leaves."""

Inputs = dict[str, Any]
Gradients = tuple[Tensor, dict[str, Tensor], list[Tensor]]


def compute_devices(count: int) -> list[str]:
    """Names of `count` devices: GPUs where there are any, else logical CPUs.

    Raises:
        JobError: there are fewer.
    """
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if count > len(found):
        raise JobError(
            f"model.devices is {count}, TensorFlow finds {len(found)} "
            f"{found[0].device_type if found else 'device'}(s) here; lower it, or run the "
            "worker where there are more"
        )
    return [device.name for device in found[:count]]


def over_devices(
    compute: Callable[[dict[str, Tensor], Inputs], Gradients],
    devices: list[str],
    leaves: dict[str, Tensor],
    given: Inputs,
) -> Gradients:
    """`compute` on equal parts of the rows, one for each device; what it returns, summed.

    Args:
        compute: `Recommender.gradients`.
        devices: their number divides the rows.
        leaves: `Recommender.leaves` of the whole step.
        given: `COMPUTED`, of the whole step.
    """
    if len(devices) == 1:
        return compute(leaves, given)
    rows = given["weights"].shape[0]
    results = []
    for place, device in enumerate(devices):
        with tf.device(device):
            results.append(compute(*_part(leaves, given, place, rows // len(devices), rows)))
    losses, leaf, dense = zip(*results, strict=True)
    return tf.add_n(losses), _joined(leaf), [tf.add_n(moved) for moved in zip(*dense, strict=True)]


def _part(
    leaves: dict[str, Tensor], given: Inputs, place: int, size: int, rows: int
) -> tuple[dict[str, Tensor], Inputs]:
    """Rows `place * size` … of a step; of items their own, then all negatives."""
    mine = slice(place * size, (place + 1) * size)

    def items(value: Tensor) -> Tensor:
        return tf.concat([value[mine], value[rows:]], 0)

    part = {name: items(v) if name == "item" else v[mine] for name, v in leaves.items()}
    told = given | {name: given[name][mine] for name in _ROWS}
    return part, told | {name: items(given[name]) for name in _ITEMS}


def _joined(parts: tuple[dict[str, Tensor], ...]) -> dict[str, Tensor]:
    """Gradients by the leaves: rows one after the other, negatives summed."""
    size = parts[0]["user"].shape[0]
    out = {name: tf.concat([part[name] for part in parts], 0) for name in parts[0]}
    own = [part["item"][:size] for part in parts]
    return out | {"item": tf.concat([*own, tf.add_n([part["item"][size:] for part in parts])], 0)}
