"""Rows of the training log that are trained on once more: a fixed share, and after a drift.

What is replayed follows from the log and the settings alone: neither the cut of the
micro-batches nor their order changes, and a restart replays the same rows. Replayed rows
keep what they say of their own moment (history, context); counts and ids are those of
now, and everything that the user has had since is left out of the negatives.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from models.config import ModelConfig
from models.training.drift_detector import Detector

__all__ = ["Rehearsal", "Rows"]

SOURCES = 4
"""Micro-batches that are read from the log for a replay, at most."""

_STREAM = 2**40  # apart from the micro-batches' own draws

Log = Callable[[int], pa.RecordBatch]


@dataclass(frozen=True)
class Rows:
    """What is to be replayed, and what is reported of it."""

    batch: pa.RecordBatch | None
    number: int
    """Seeds the draws of the replayed rows' training."""
    figures: dict[str, Any]


class Rehearsal:
    """Decides what is replayed, and remembers what has to be known for it.

    Args:
        config: `replay`, `replay_batches`, `drift` and the seed.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._recent: deque[tuple[int, int]] = deque(maxlen=config.replay_batches)
        self._trained = self._extra = 0
        self._left = 0  # micro-batches for which the last drift still counts
        self._sum, self._rows = 0.0, 0  # of losses that wait to be enough
        drifting = config.drift.detector != "none"
        self._detector = Detector(config.drift) if drifting else None

    def next(self, number: int, rows: int, losses: np.ndarray, log: Log | None) -> Rows:
        """What to replay beside micro-batch `number`; call it once for each, in order.

        Args:
            number: of the micro-batch.
            rows: that it has.
            losses: `[predicted rows]` 1 − NDCG@20.
            log: reads a micro-batch.

        Returns:
            rows of earlier micro-batches, or none; `figures` is empty where neither replay
            nor drift is asked for, otherwise `replayed` rows and `drift`: `detected` in this
            micro-batch, `extra` rows for drifts so far, and the mean `loss` that the
            detector was given, None where it was given nothing.

        Raises:
            ValueError: there is something to replay and no log.
        """
        found, loss = self._watch(losses)
        if found:
            self._left = self._config.drift.batches
        self._trained += rows
        wanted, extra = int(self._config.replay * rows), self._due(rows)
        drawn = self._draw(number, wanted + extra, log) if wanted + extra else None
        size = drawn.num_rows if drawn is not None else 0
        self._extra += max(min(extra, size - wanted), 0)
        self._left = max(self._left - 1, 0)
        self._recent.append((number, rows))
        figures: dict[str, Any] = {}
        if self._config.replay or self._detector:
            figures["replayed"] = size
        if self._detector:
            figures["drift"] = {"detected": found, "loss": loss, "extra": self._extra}
        return Rows(drawn, _STREAM + number, figures)

    def _watch(self, losses: np.ndarray) -> tuple[bool, float | None]:
        """Feed the detector once enough rows are together."""
        if not self._detector or not len(losses):
            return False, None
        self._sum += float(losses.sum())
        self._rows += len(losses)
        if self._rows < self._config.drift.rows:
            return False, None
        loss, self._sum, self._rows = self._sum / self._rows, 0.0, 0
        return self._detector.update(loss), loss

    def _due(self, rows: int) -> int:
        """Extra rows after a drift, within the limit on their share of all rows trained."""
        if not self._left:
            return 0
        drift = self._config.drift
        allowed = int(drift.limit * self._trained) - self._extra
        return max(min(int(drift.replay * rows), allowed), 0)

    def _draw(self, number: int, size: int, log: Log | None) -> pa.RecordBatch | None:
        """Rows of a few recent micro-batches, without repetition, in the log's order."""
        held = [(n, rows) for n, rows in self._recent if rows]
        if not held:
            return None
        if log is None:
            raise ValueError("there is something to replay, but the trainer was given no log")
        key = [self._config.seed, _STREAM + number]
        rng = np.random.Generator(np.random.Philox(key=key))
        chosen = np.sort(rng.choice(len(held), min(SOURCES, len(held)), replace=False))
        rows = pa.concat_batches([log(held[place][0]) for place in chosen.tolist()])
        at = np.sort(rng.choice(rows.num_rows, min(size, rows.num_rows), replace=False))
        return rows.take(pa.array(at))

    # Checkpoints ----------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that it remembers, as JSON carries it exactly."""
        return {
            "recent": [list(pair) for pair in self._recent],
            "trained": self._trained,
            "extra": self._extra,
            "left": self._left,
            "waiting": [self._sum, self._rows],
            "losses": self._detector.losses if self._detector else [],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave; an empty one is a new beginning."""
        if not state:
            return
        self._recent.extend((int(n), int(rows)) for n, rows in state["recent"])
        self._trained, self._extra = int(state["trained"]), int(state["extra"])
        self._left = int(state["left"])
        self._sum, self._rows = float(state["waiting"][0]), int(state["waiting"][1])
        if self._detector:
            self._detector = Detector(self._config.drift, state["losses"])
