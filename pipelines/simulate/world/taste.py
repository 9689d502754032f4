"""What people like, and how that drifts.

The log-odds of user u for topic k at time t, before context and fashion, are

    logit = scale · (√d · demographics[u, k] + √(1 − d) · own[u, k, t])
    own   = √.6 · c[u, category(k), t] + √.4 · s[u, k, t]

with d = `demographic_share`. Every c and s is an Ornstein–Uhlenbeck process with
mean 0 and variance 1: after Δ days x ← a·x + √(1 − a²)·ξ, a = exp(−drift · Δ).
That step is exact for any Δ, so a user's taste is only moved when they come back.
"""

import numpy as np
from numpy.typing import NDArray

from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.entities import DAY_MS, DAYPARTS, DEVICES, TOPICS, Population
from pipelines.simulate.world.words import CATEGORIES, STYLES

__all__ = ["Fashion", "Tastes", "ou_step"]


def ou_step(
    x: NDArray[np.float32], decay: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """`[n, m]` float32 of unit variance, moved on; `decay` is `[n]` in [0, 1].

    Decay 1 keeps x, 0 draws it anew; the variance stays 1 in between.
    """
    noise = rng.standard_normal(x.shape, dtype=np.float32)
    kept = decay[:, None]
    return kept * x + np.sqrt(1 - kept * kept) * noise


class Tastes:
    """The tastes of all users, moved on as they come back."""

    def __init__(self, spec: SimulationSpec, people: Population, rng: np.random.Generator) -> None:
        """Draw everyone's first taste, as of the start."""
        self._spec, self._mean, self._rng = spec, people.mean, rng
        width = len(CATEGORIES) + TOPICS
        self._x = rng.standard_normal((spec.users, width), dtype=np.float32)
        self._at = np.full(spec.users, spec.start_ms, dtype=np.int64)
        self._shock = spec.start_ms + spec.shock * spec.days * DAY_MS
        self._by_device = rng.normal(0, 0.35, (len(DEVICES), TOPICS)).astype(np.float32)
        self._by_daypart = rng.normal(0, 0.45, (DAYPARTS, TOPICS)).astype(np.float32)

    def decay(self, then: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.float32]:
        """How much is left of a taste between two times (ms): in [0, 1]."""
        left = np.exp(-self._spec.drift * (now - then) / DAY_MS)
        shocked = (then < self._shock) & (self._shock <= now) & (self._spec.shock > 0)
        return np.where(shocked, 0.0, left).astype(np.float32)

    def at(self, users: NDArray[np.int64], now: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-odds `[n, TOPICS]` of distinct users at their times, before context."""
        self._x[users] = x = ou_step(self._x[users], self.decay(self._at[users], now), self._rng)
        self._at[users] = now
        d, c = self._spec.demographic_share, len(CATEGORIES)
        own = np.sqrt(0.6) * np.repeat(x[:, :c], len(STYLES), axis=1) + np.sqrt(0.4) * x[:, c:]
        logits = np.sqrt(d) * self._mean[users] + np.sqrt(1 - d) * own
        return (self._spec.taste_scale * logits).astype(np.float32)

    def context(self, device: NDArray[np.int64], daypart: NDArray[np.int64]) -> NDArray[np.float32]:
        """What the moment adds to the log-odds: `[n, TOPICS]`."""
        return self._by_device[device] + self._by_daypart[daypart]


class Fashion:
    """What everybody likes more just now: one log-odds per topic, drifting as tastes do."""

    def __init__(self, spec: SimulationSpec, tastes: Tastes, rng: np.random.Generator) -> None:
        """Draw the first fashion, as of the start."""
        self._scale, self._tastes, self._rng = np.float32(spec.trend), tastes, rng
        self._x = rng.standard_normal((1, TOPICS), dtype=np.float32)
        self._at = np.array([spec.start_ms])

    def at(self, now: int) -> NDArray[np.float32]:
        """Log-odds `[TOPICS]` at a time (ms) no earlier than the last one asked for."""
        times = np.array([now])
        self._x = ou_step(self._x, self._tastes.decay(self._at, times), self._rng)
        self._at = times
        return self._scale * self._x[0]
