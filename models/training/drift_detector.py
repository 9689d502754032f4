"""Has the stream turned? A change detector of river's on the prequential loss.

The loss of a predicted row is 1 − NDCG@20; the detector is given means over runs of
consecutive micro-batches, in the log's order, so that what it finds is a function of the
log. river is loaded when a detector is made, and only then.
"""

import importlib.util
from typing import Any

import numpy as np

from models.config import DriftConfig
from models.errors import RequestError

__all__ = ["KEPT", "Detector", "check_extra"]

KEPT = 4_096
"""Losses that are kept; with that many the older half is forgotten."""


def check_extra(config: DriftConfig) -> None:
    """Refuse a detector that is not installed; loads nothing.

    Raises:
        RequestError: names the extra.
    """
    if config.detector != "none" and importlib.util.find_spec("river") is None:
        raise RequestError(
            f"model.drift.detector = {config.detector!r} needs river, which is not installed: "
            "pip install 'rillet[drift]', or set it to 'none'"
        )


SPAN = 0.25
"""How far apart means over some hundred rows lie: adwin, which expects values within 1, is
given losses in units of it, or a rise of a tenth would take it over a hundred values."""


class Detector:
    """Finds rises of the mean of a series of losses.

    Its state is the losses since it was last made anew: a copy that is fed the same ones
    finds the same from then on (`losses`). It is made anew after every change it finds.

    Args:
        config: which detector, and how easily it gives alarm.
        losses: what an earlier one had kept.

    Raises:
        RequestError: river is not installed.
    """

    def __init__(self, config: DriftConfig, losses: list[float] | None = None) -> None:
        check_extra(config)
        self._config = config
        self._unit = SPAN if config.detector == "adwin" else 1.0
        self._begin(list(losses or ()))

    def _begin(self, losses: list[float]) -> None:
        self.losses = losses
        self._detector = _made(self._config)
        for loss in losses:
            self._detector.update(loss / self._unit)

    def update(self, loss: float) -> bool:
        """Take in the next loss; whether the mean has risen."""
        self._detector.update(loss / self._unit)
        self.losses.append(loss)
        if self._detector.drift_detected:
            risen = self._risen(loss)
            self._begin([])
            return risen
        if len(self.losses) >= KEPT:
            self._begin(self.losses[KEPT // 2 :])
        return False

    def _risen(self, loss: float) -> bool:
        """Whether what the detector takes for the present lies above the mean of all it had."""
        newest = getattr(self._detector, "estimation", loss / self._unit)
        return bool(newest * self._unit > np.mean(self.losses))


def _made(config: DriftConfig) -> Any:
    from river import drift

    if config.detector == "adwin":
        return drift.ADWIN(delta=config.confidence, clock=1)
    return drift.PageHinkley(threshold=config.threshold, delta=0.005, mode="up")
