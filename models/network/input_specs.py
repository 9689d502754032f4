"""Shapes of what crosses into TensorFlow: one trace each, so every one that varies is open."""

from dataclasses import dataclass
from typing import Any

from models.config import ModelConfig
from models.network.packed_inputs import INTS, PAST, ROW_FLOATS
from models.network.tensorflow_runtime import Tensor, tensorflow
from models.schema import HEADS

tf: Any = tensorflow()

__all__ = ["CLOCK", "Signatures"]

CLOCK = 3
"""Numbers of the moment: sine and cosine of the hour, ln of the time since the last event."""

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Signatures:
    """Of a model's traced functions.

    Attributes:
        config: shape of the model.
        stats: columns of running statistics per side that the heads read.
        text_width: of the items' fixed text vectors; 0 for none.
    """

    config: ModelConfig
    stats: int
    text_width: int

    def vectors(self) -> Any:
        """Served vectors."""
        return _floats(None, self.config.vector_dim)

    def features(self) -> Any:
        """Stream features of items."""
        return _floats(None, len(self.config.stream_features))

    def items(self) -> Inputs:
        """What `item_vectors` reads of `models.training.prepare_batch.item_inputs`."""
        return {
            "rows": tf.TensorSpec([None], tf.int32),
            "words": tf.TensorSpec([2, None], tf.int32),
            "scale": _floats(None),
            "text": _floats(None, self.text_width),
        }

    def users(self) -> Inputs:
        """See `models.network.packed_inputs.pack_users`."""
        return {
            "ints": tf.TensorSpec([None, 1 + len(PAST) * self.config.history], tf.int32),
            "past": tf.TensorSpec([None], tf.int32),
            "past/words": tf.TensorSpec([2, None], tf.int32),
            "past/scale": _floats(None),
            "past/text": _floats(None, self.text_width),
            "past/likeness": _floats(None, self.config.fixed),
            "past/own": _floats(None),
            "clock": _floats(None, CLOCK),
            "tokens": tf.TensorSpec([2, None], tf.int32),
            "scale": _floats(None),
        }

    def step(self, rows: int, negatives: int) -> Inputs:
        """See `packed_inputs.pack_step`; the rows' own items come first, then the negatives."""
        return {
            "ints": tf.TensorSpec([None], tf.int32),
            "sizes": tf.TensorSpec([len(INTS)], tf.int32),
            "row_floats": _floats(rows, sum(self._row_widths())),
            "features": _floats(rows + negatives, len(self.config.stream_features)),
            "word_scale": _floats(None),
            "item_text": _floats(rows + negatives, self.text_width),
            "past_text": _floats(None, self.text_width),
            "item_likeness": _floats(rows + negatives, self.config.fixed),
            "past_likeness": _floats(None, self.config.fixed),
            "past_own": _floats(None),
            "token_scale": _floats(2 * rows),
            "correction": _floats(negatives),
            "masked": tf.TensorSpec([rows, negatives], tf.bool),
            "base": _floats(len(HEADS)),
        }

    def blank(self, rows: int, negatives: int) -> Inputs:
        """A packed step of nothing but padding."""
        past = rows * self.config.history
        sizes = [rows, *([past] * len(PAST)), rows + negatives]
        sizes += [0] * (len(INTS) - len(sizes))
        made = {
            name: tf.zeros([d or 0 for d in spec.shape], spec.dtype)
            for name, spec in self.step(rows, negatives).items()
        }
        return made | {
            "ints": tf.zeros([sum(sizes)], tf.int32),
            "sizes": tf.constant(sizes, tf.int32),
            "word_scale": tf.zeros([rows + negatives]),
        }

    def unpacked(self, packed: Inputs, rows: int) -> dict[str, Tensor]:
        """The arrays of a packed step apart again, by name."""
        ints = tf.split(packed["ints"], packed["sizes"], num=len(INTS))
        floats = tf.split(packed["row_floats"], self._row_widths(), axis=1)
        given = dict(zip(INTS, ints, strict=True)) | dict(zip(ROW_FLOATS, floats, strict=True))
        shape = [rows, self.config.history]
        given |= {name: tf.reshape(given[name], shape) for name in PAST}
        given["rows"] = tf.reshape(given["rows"], [rows])
        rest = set(packed) - {"ints", "sizes", "row_floats"}
        return given | {name: packed[name] for name in rest}

    def _row_widths(self) -> list[int]:
        return [CLOCK, 2, 2 * self.stats, len(HEADS), len(HEADS)]


def _floats(*shape: int | None) -> Any:
    return tf.TensorSpec(shape, tf.float32)
