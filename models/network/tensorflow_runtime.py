"""TensorFlow as Rillet needs it: Keras 2, one thread, deterministic.

`tensorflow()` and `recommenders()` are the only places that import either.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from models.errors import JobError

__all__ = ["Tensor", "recommenders", "tensorflow"]

Tensor = Any
"""A tf.Tensor: TensorFlow is loaded by a function, so its types have no name here."""

_KERAS = "TF_USE_LEGACY_KERAS"


def tensorflow() -> Any:
    """TensorFlow with Keras 2, one intra-op thread and deterministic kernels.

    Raises:
        JobError: TensorFlow was loaded before with Keras 3, or with other threads.
    """
    late = "tensorflow" in sys.modules and os.environ.get(_KERAS) != "1"
    os.environ.setdefault(_KERAS, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if late or os.environ[_KERAS] != "1":
        raise JobError(
            f"TensorFlow needs {_KERAS}=1 before it is first imported, "
            f"it is {os.environ[_KERAS]!r}{' and TensorFlow is loaded' if late else ''}; "
            f"set it in the environment of the worker"
        )
    with _quiet():
        import tensorflow as tf

        home = tf.keras.Model.__module__  # loads Keras
    if not home.startswith("tf_keras"):
        raise JobError(
            f"TensorFlow runs {home.split('.')[0]}, TFRS needs tf_keras (Keras 2); "
            f"install tf-keras and set {_KERAS}=1"
        )
    _settle(tf)
    return tf


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the C++ side prints before it reads its log level; a failure shows it."""
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _settle(tf: Any) -> None:
    threads = tf.config.threading
    if threads.get_intra_op_parallelism_threads() != 1:
        try:
            threads.set_intra_op_parallelism_threads(1)
            threads.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            raise JobError(
                "TensorFlow was started with several threads, replaying to the byte needs one; "
                "load models.training.trainer before anything else that runs TensorFlow"
            ) from None
    tf.config.experimental.enable_op_determinism()


def recommenders() -> Any:
    """tensorflow_recommenders, after TensorFlow was set up.

    Raises:
        JobError: it cannot be imported; scann beside TensorFlow is a known cause.
    """
    tensorflow()
    try:
        with _quiet():
            import tensorflow_recommenders as tfrs
    except Exception as error:  # any failure of a foreign import is the same news
        raise JobError(
            f"tensorflow_recommenders cannot be loaded: {error}; "
            f"install it, and remove scann from this environment"
        ) from error
    return tfrs
