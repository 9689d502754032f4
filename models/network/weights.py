"""A recommender's variables by name: what a checkpoint and the serving files hold of it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.network.recommender import Recommender

__all__ = ["head_weights", "load_variables", "variables_by_name", "weights_by_name"]

Arrays = dict[str, NDArray[Any]]


def variables_by_name(model: Recommender) -> dict[str, Any]:
    """Every variable by a stable name: weights, accumulators, moments."""
    named = {}
    for name, table in model.tables.items():
        named[f"{name}/rows"], named[f"{name}/adagrad"] = table.weights, table.slots
    for i, variable in enumerate(model.trainable_variables):
        named[f"dense/{i}"] = variable
        named[f"adam/first/{i}"] = model.adam.first[i]
        named[f"adam/second/{i}"] = model.adam.second[i]
    named["adam/power/0"], named["adam/power/1"] = model.adam.powers
    return named


def weights_by_name(model: Recommender) -> Arrays:
    """The values of `variables_by_name`; on a CPU they may be the variables' own memory."""
    return {name: variable.numpy() for name, variable in variables_by_name(model).items()}


def load_variables(model: Recommender, arrays: Arrays) -> None:
    """Put back what `weights_by_name` gave.

    Raises:
        ValueError: another shape or number of variables; the message names one.
    """
    variables = variables_by_name(model)
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


def head_weights(model: Recommender) -> dict[str, NDArray[np.float32]]:
    """Weights of the ranking heads by the names of `models.training.serving_files`."""
    w1, b1 = model.hidden.get_weights()
    w2, b2 = model.out.get_weights()
    return {"w1": w1, "b1": b1, "w2": w2, "b2": b2, "skip": model.skip.numpy()}
