"""What goes wrong on the way: repeated, late and malformed lines.

Lines are sorted by *arrival*: an event's own time, later where it is late or a
repeat. `Faults` says which line is which; `malformed_line` breaks a record in a chosen
way. Every way has one reason among `pipelines.schema.DEAD_REASONS`.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from pipelines.schema import MAX_CONTEXT_ENTRIES, MAX_DWELL_MS, MAX_ID_BYTES
from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.behaviour import Columns, concat, take

__all__ = ["EVENT", "MALFORMED", "REPEAT", "WAYS", "Faults", "malformed_line"]

EVENT, REPEAT, MALFORMED = 0, 1, 2

Record = dict[str, Any]
_MIB = 1_048_576


def _with(**fields: Any) -> Callable[[Record], bytes]:
    """Replace fields, then write JSON (Infinity as a bare word)."""
    return lambda record: json.dumps({**record, **fields}).encode()


def _without(name: str) -> Callable[[Record], bytes]:
    return lambda record: json.dumps({k: v for k, v in record.items() if k != name}).encode()


def _whole(record: Record) -> bytes:
    return json.dumps(record).encode()


WAYS: tuple[tuple[str, str, Callable[[Record], bytes]], ...] = (
    ("bad_json", "cut off", lambda r: _whole(r)[: len(_whole(r)) // 2]),
    ("bad_json", "plain text", lambda r: b"GET /feedback HTTP/1.1"),
    ("bad_json", "not an object", lambda r: b'["' + r["event_id"].encode() + b'"]'),
    ("bad_json", "invalid UTF-8", lambda r: _whole(r).replace(b'"u', b'"\xff\xfe', 1)),
    ("bad_json", "nested bomb", lambda r: b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    ("missing_field", "no event_id", _without("event_id")),
    ("missing_field", "no user_id", _without("user_id")),
    ("missing_field", "no item_id", _without("item_id")),
    ("missing_field", "no event_type", _without("event_type")),
    ("missing_field", "no event_time", _without("event_time")),
    ("missing_field", "user_id null", _with(user_id=None)),
    ("bad_type", "user_id a number", _with(user_id=17)),
    ("bad_type", "item_id a list", _with(item_id=["i1"])),
    ("bad_type", "event_type a number", _with(event_type=3)),
    ("bad_type", "dwell_ms text", _with(dwell_ms="long")),
    ("bad_type", "context a list", _with(context=["DE"])),
    ("bad_value", "unknown event_type", _with(event_type="hover")),
    ("bad_value", "empty user_id", _with(user_id="")),
    ("bad_value", "over-long item_id", _with(item_id="i" * (MAX_ID_BYTES + 1))),
    ("bad_value", "NUL in user_id", _with(user_id="u\0 1")),
    ("bad_value", "negative dwell", _with(dwell_ms=-2)),  # -1 says unknown, as NaN does
    ("bad_value", "dwell of over a day", _with(dwell_ms=MAX_DWELL_MS + 1)),
    ("bad_value", "value -Infinity", _with(value=float("-inf"))),
    ("bad_value", "value Infinity", _with(value=float("inf"))),
    (
        "bad_value",
        "crowded context",
        _with(context={f"k{i}": "v" for i in range(MAX_CONTEXT_ENTRIES + 1)}),
    ),
    ("bad_time", "not a time", _with(event_time="yesterday")),
    ("bad_time", "no offset", _with(event_time="2025-01-06T12:00:00")),
    ("bad_time", "before 1990", _with(event_time="1970-01-01T00:00:00Z")),
    ("bad_time", "far ahead", _with(event_time="2999-01-01T00:00:00Z")),
    ("too_large", "over 1 MiB", _with(note="x" * _MIB)),
)
"""(reason, way, function from a good record to the bytes of a bad line)."""

_OVERSIZE = len(WAYS) - 1
_FIRST_OVERSIZE = 2  # ordinal of the first oversize line among the malformed


def malformed_line(record: Record, way: int) -> bytes:
    """The bytes of a line, without its end, that has `WAYS[way]` wrong with it."""
    return WAYS[way][2](record)


class Faults:
    """Decides which lines are repeated, late or malformed; keeps those yet to come.

    Its draws are its own: other rates leave the events as they are.
    """

    def __init__(self, spec: SimulationSpec, rng: np.random.Generator) -> None:
        """Nothing has arrived yet."""
        self._spec, self._rng = spec, rng
        self._waiting: list[Columns] = []
        self._spoilt = 0
        self.late = 0

    def lines(self, events: Columns, until: int | None) -> Columns:
        """Lines that arrive before `until` (ms; None: the rest), in order of arrival.

        Events' columns, and `arrival` (ms), `line` (EVENT, REPEAT or MALFORMED)
        and `way` (index into WAYS, −1 for good lines).
        """
        if len(events["time"]):
            self._waiting += [self._own(events), self._repeats(events), self._bad(events)]
        if not self._waiting:
            return {}
        waiting = concat(self._waiting)
        waiting = take(waiting, np.argsort(waiting["arrival"], kind="stable"))
        n = len(waiting["arrival"])
        ready = n if until is None else int(np.searchsorted(waiting["arrival"], until))
        self._waiting = [take(waiting, np.arange(ready, n))] if ready < n else []
        return take(waiting, np.arange(ready))

    def _behind(self, n: int) -> Any:
        """Delays in ms, at least 1 s, at most `late_max_s`."""
        delay = 1_000 + self._rng.exponential(60_000, n)
        return np.minimum(delay, self._spec.late_max_s * 1000).astype(np.int64)

    def _own(self, events: Columns) -> Columns:
        n = len(events["time"])
        late = self._rng.random(n) < self._spec.late
        self.late += int(late.sum())
        return self._mark(events, np.where(late, self._behind(n), 0), EVENT)

    def _repeats(self, events: Columns) -> Columns:
        again = take(events, self._rng.random(len(events["time"])) < self._spec.duplicates)
        return self._mark(again, self._behind(len(again["time"])), REPEAT)

    def _bad(self, events: Columns) -> Columns:
        rate = 0.0 if self._spec.format == "parquet" else self._spec.malformed
        bad = take(events, self._rng.random(len(events["time"])) < rate)
        n = len(bad["time"])
        way = self._rng.integers(0, _OVERSIZE, n)
        ordinal = self._spoilt + np.arange(n) - _FIRST_OVERSIZE
        self._spoilt += n
        way[(ordinal >= 0) & (ordinal < self._spec.oversize)] = _OVERSIZE
        return {**self._mark(bad, np.zeros(n, dtype=np.int64), MALFORMED), "way": way}

    def _mark(self, events: Columns, delay: Any, line: int) -> Columns:
        n = len(events["time"])
        return {
            **events,
            "arrival": events["time"] + delay,
            "line": np.full(n, line, dtype=np.int8),
            "way": np.full(n, -1, dtype=np.int64),
        }
