"""TensorFlow is refused at the door when it is not what Rillet needs."""

import sys
import types

import pytest

from models.errors import JobError
from models.network.tensorflow_runtime import tensorflow


def test_keras_3_is_refused(monkeypatch):
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "0")
    with pytest.raises(JobError, match=r"needs TF_USE_LEGACY_KERAS=1 .* it is '0'"):
        tensorflow()


def test_a_tensorflow_that_was_loaded_too_early_is_refused(monkeypatch):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", types.ModuleType("tensorflow"))
    with pytest.raises(JobError, match="TensorFlow is loaded; set it in the environment"):
        tensorflow()


def test_threads_that_cannot_be_changed_any_more_are_refused(monkeypatch):
    tf = tensorflow()

    def refuse(_: int) -> None:
        raise RuntimeError("already initialised")

    threading = tf.config.threading
    monkeypatch.setattr(threading, "get_intra_op_parallelism_threads", lambda: 4)
    monkeypatch.setattr(threading, "set_intra_op_parallelism_threads", refuse)
    with pytest.raises(JobError, match="several threads, replaying to the byte needs one"):
        tensorflow()
