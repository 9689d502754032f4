"""A text model that exists already (a Transformer, BERT), frozen, from a local path.

It takes strings: a model that reads token ids has to have its tokenizer inside. Its
vectors are computed once for each item and cached with what is known of it; the model
learns how to project them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import RequestError
from models.network.tensorflow_runtime import tensorflow

tf: Any = tensorflow()

__all__ = ["SavedText"]

_CHUNK = 64
"""Texts at once: what a Transformer holds in memory."""

_OUTPUTS = ("pooled_output", "sentence_embedding", "default", "output_0")
"""Which one is taken of several outputs: the vector of the whole text."""


class SavedText:
    """A `TextEncoder` around a SavedModel folder or a Keras file (`.keras`, `.h5`).

    Args:
        path: of the model; it maps strings `[n]` (or `[n, 1]`) to floats `[n, width]`.

    Raises:
        RequestError: it cannot be loaded, or its signature is another one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._call = _loaded(path)
        probe = self._run(["probe", "another"])
        if probe.ndim != 2 or len(probe) != 2 or probe.shape[1] < 1:
            raise self._wrong(f"its output is of shape {list(probe.shape)} for 2 texts")
        self.width = int(probe.shape[1])

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """None: nothing is learned word by word."""
        return [[] for _ in texts]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length, `[n, width]` float32; zeros for an empty text."""
        parts = [self._run(texts[i : i + _CHUNK]) for i in range(0, len(texts), _CHUNK)]
        out = np.concatenate([np.zeros((0, self.width), np.float32), *parts])
        out[[not text for text in texts]] = 0.0
        if not np.isfinite(out).all():
            raise self._wrong("it gives numbers that are not finite")
        length = np.linalg.norm(out, axis=1, keepdims=True)
        return np.asarray(out / np.maximum(length, 1e-12), np.float32)

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        given = tf.constant(list(texts), tf.string)
        try:
            try:
                found = self._call(given)
            except (ValueError, TypeError, tf.errors.InvalidArgumentError):
                found = self._call(given[:, None])  # Keras' way to take one text a row
            return np.asarray(_whole_text(found), np.float32)
        except Exception as error:  # whatever a foreign model raises is the same news
            told = str(error).split("\n", 1)[0][:200]
            raise self._wrong(f"strings [n] cannot be put through it ({told})") from error

    def _wrong(self, what: str) -> RequestError:
        return RequestError(
            f"model.text_model {str(self._path)!r}: {what}; expected strings [n] → floats "
            "[n, width]: export it with its tokenizer inside and one pooled output"
        )


def _loaded(path: Path) -> Callable[[Any], Any]:
    """The model as a function of a string tensor."""
    try:
        if path.is_dir() and (path / "saved_model.pb").exists():
            return _callable(tf.saved_model.load(str(path)))
        return _keras(path)
    except RequestError:
        raise
    except Exception as error:  # see `_run`
        told = str(error).strip().split("\n", 1)[0][:200]
        raise RequestError(
            f"model.text_model {str(path)!r} cannot be loaded ({told}); expected a SavedModel "
            "folder, or a .keras or .h5 file of Keras 2: save it again with tf_keras"
        ) from error


def _keras(path: Path) -> Callable[[Any], Any]:
    model = tf.keras.models.load_model(str(path), compile=False)
    return lambda texts: model(texts, training=False)


def _callable(model: Any) -> Callable[[Any], Any]:
    """The serving signature, else the object itself."""
    serving = getattr(model, "signatures", {}).get("serving_default")
    if serving is None:
        if not callable(model):
            raise ValueError("it has neither a signature 'serving_default' nor a call")
        called: Callable[[Any], Any] = model
        return called
    (name, *more) = serving.structured_input_signature[1]
    if more:
        raise ValueError(f"its signature takes {[name, *more]}, not one input")
    return lambda texts: (serving(**{name: texts}), model)[0]


def _whole_text(found: Any) -> Any:
    if not isinstance(found, dict):
        return found
    names = [name for name in _OUTPUTS if name in found] or list(found)[: len(found) == 1]
    if not names:
        raise ValueError(f"of its outputs {sorted(found)} none is one of {list(_OUTPUTS)}")
    return found[names[0]]
