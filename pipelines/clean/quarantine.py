"""Quarantine of bots and floods: feedback about feedback, where `[clean]` asks for it.

::

    [clean]
    max_events = 300          # of a user within `per`, impressions left out
    per = "60s"
    max_dwell = "2h"          # a given dwell above it
    min_click_dwell = "300ms" # a click with a given dwell below it

What is quarantined is a function of the events' content alone: `per` cuts event time
at fixed instants, and within a piece all of a user's events share one fate. So no order
of arrival changes it, and a stream, which settles a piece as a whole, decides as a
bounded run does. Every quarantined event becomes a dead letter and is counted under
its rule; its event_id counts as seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipelines.arrow.columns import Ints, as_int64, encode_column
from pipelines.clean.too_late import payloads
from pipelines.config import CleanConfig, WindowSpec
from pipelines.features.event_order import user_order
from pipelines.schema import DEAD_LETTERS

__all__ = ["RULES", "SetApart", "Suspicion", "by_rule", "quarantined"]

RULES = ("rate", "dwell", "click")
"""Why an event is quarantined; of several rules the first one counts."""

_NONE = -1
_NO_LETTERS = pa.RecordBatch.from_pylist([], schema=DEAD_LETTERS)


@dataclass(frozen=True)
class SetApart:
    """Events told apart.

    Attributes:
        events: EVENTS that count.
        letters: DEAD_LETTERS of those that are quarantined.
        by_rule: how many each rule caught; only those that caught any.
        repeats: events left out, for they came with the same id, user and instant before.
    """

    events: pa.RecordBatch
    letters: pa.RecordBatch
    by_rule: dict[str, int]
    repeats: int


@dataclass(frozen=True)
class Suspicion:
    """The rules of a job, and how its windows cut event time."""

    rules: CleanConfig
    window: WindowSpec

    @property
    def on(self) -> bool:
        """Whether any rule is given: without one nothing is looked at."""
        return self.rules.on

    def set_apart(self, events: pa.RecordBatch) -> SetApart:
        """EVENTS `[n]` of any order, with all those of a piece of time and a user → told apart."""
        if not self.on:
            return SetApart(events, _NO_LETTERS, {}, 0)
        user, _ = encode_column(events.column("user_id"), ordered=True)
        kept = user_order(events, user)
        repeats = events.num_rows - len(kept)
        if repeats:  # one message that came twice is no haste
            events, user = events.take(pa.array(kept)), user[kept]
        sent = self._sent(events, user)
        rule = self._judge(events, sent)
        caught = np.flatnonzero(rule != _NONE)
        by_rule = {name: int((rule == n).sum()) for n, name in enumerate(RULES)}
        return SetApart(
            events.filter(pa.array(rule == _NONE)) if len(caught) else events,
            self._letters(events.take(pa.array(caught)), rule[caught], sent[caught]),
            {name: number for name, number in by_rule.items() if number},
            repeats,
        )

    def _sent(self, events: pa.RecordBatch, user: npt.NDArray[np.int32]) -> Ints:
        """`[n]` how many events the user sent in the same piece of time, impressions left out."""
        if not (self.rules.max_events and events.num_rows):
            return np.zeros(events.num_rows, np.int64)
        piece = self._piece(as_int64(events.column("event_time")))
        piece -= piece.min()
        key = user.astype(np.int64) * (int(piece.max()) + 1) + piece
        _, which = np.unique(key, return_inverse=True)
        acts = _words(events.column("event_type")) != "impression"
        return np.bincount(which, weights=acts, minlength=1)[which].astype(np.int64)

    def _piece(self, times: Ints) -> Ints:
        """`[n]` ms → the number of the piece of `per` that each falls in."""
        return np.asarray((times - self.window.tick_offset_ms) // self.rules.per)

    def _judge(self, events: pa.RecordBatch, sent: Ints) -> Ints:
        """`[n]` the place in RULES of what catches each event, or _NONE."""
        rules, rule = self.rules, np.full(events.num_rows, _NONE)
        dwell = as_int64(events.column("dwell_ms"), _NONE)
        if rules.min_click_dwell:
            clicks = _words(events.column("event_type")) == "click"
            rule[clicks & (dwell != _NONE) & (dwell < rules.min_click_dwell)] = 2
        if rules.max_dwell:
            rule[dwell > rules.max_dwell] = 1
        if rules.max_events:
            rule[sent > rules.max_events] = 0
        return rule

    def _letters(self, events: pa.RecordBatch, rule: Ints, sent: Ints) -> pa.RecordBatch:
        """Quarantined EVENTS `[n]` → DEAD_LETTERS `[n]`, the same in any run."""
        times, count = as_int64(events.column("event_time")), events.num_rows
        dwell = as_int64(events.column("dwell_ms"), _NONE)
        asked = self.rules
        say = (
            lambda n: (
                f"rate: the user sent {sent[n]} events within {asked.per} ms, "
                f"clean.max_events allows {asked.max_events}"
            ),
            lambda n: f"dwell_ms: got {dwell[n]}, clean.max_dwell allows {asked.max_dwell}",
            lambda n: (
                f"click: got a dwell_ms of {dwell[n]}, "
                f"clean.min_click_dwell asks for {asked.min_click_dwell}"
            ),
        )
        seen = (times - self.window.tick_offset_ms) // self.window.tick_ms + 1
        seen = seen * self.window.tick_ms + self.window.tick_offset_ms  # when it was settled
        columns = [
            pa.array(payloads(events), pa.binary()),
            pa.array(["quarantined"] * count, pa.string()),
            pa.array([say[which](n) for n, which in enumerate(rule.tolist())], pa.string()),
            pa.array(["stream"] * count, pa.string()),
            pa.array(times),
            pa.array(seen).cast(DEAD_LETTERS.field("seen_at").type),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=DEAD_LETTERS)


def quarantined(by_rule: dict[str, int]) -> dict[str, int]:
    """How many events each rule caught, under the names that the job counts them by.

    >>> quarantined({"rate": 3})
    {'quarantined_rate': 3}
    """
    return {f"quarantined_{rule}": number for rule, number in by_rule.items()}


def by_rule(counted: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """What a summary says of the job's counters; nothing where nothing was caught.

    >>> by_rule({"read": 9, "quarantined_rate": 3}), by_rule({"read": 9})
    ({'quarantined': {'rate': 3}}, {})
    """
    found = {rule: counted.get(f"quarantined_{rule}", 0) for rule in RULES}
    caught = {rule: number for rule, number in found.items() if number}
    return {"quarantined": caught} if caught else {}


def _words(column: pa.Array) -> npt.NDArray[np.object_]:
    """`[n]` the texts of a column, encoded as a dictionary or not."""
    return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False))
