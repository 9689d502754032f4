"""The live stages' DoFns: transcripts of events, watermarks and what must come out.

Beam's in-process runners do not play them exactly: one refuses a TestStream, the other
lets the watermark pass timers that wait. So a small runner here does what Beam promises:
timers fire in order once the watermark is there, and hold what follows until they have.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest

from pipelines.config import FeatureConfig, WindowSpec
from pipelines.live import stages
from pipelines.live.stages import _by_id, _Dedupe, _Featurize
from pipelines.rows import FeatureRows
from pipelines.schema import EVENTS

END_S = 10**9
CONFIG = FeatureConfig(
    window=WindowSpec.parse("fixed:10s"), shards=2, allowed_lateness="20s", dedupe_horizon="60s"
)


def events(*names: str) -> pa.RecordBatch:
    """`a@3` → a click of event id a on item i at 3 s; the user is the name's first letter."""
    rows = []
    for name in names:
        told, _, second = name.partition("@")
        rows.append(
            {
                "event_id": told,
                "user_id": told[0],
                "item_id": "i",
                "event_type": "click",
                "event_time": int(float(second) * 1_000),
                "dwell_ms": 1,
            }
        )
    return pa.RecordBatch.from_pylist(rows, schema=EVENTS)


def told(keyed: tuple[int, bytes]) -> list[tuple[str, int, int, int]]:
    """(user, window end in seconds, clicks, revision) of each row."""
    rows = FeatureRows.from_bytes(keyed[1]).materialise().to_pylist()
    return [
        (r["user_id"], int(r["window_end"].timestamp()), r["n_click"], r["revision"]) for r in rows
    ]


@dataclass
class Cell:
    """State of one key: a bag of bytes, a note, and timers by tag."""

    values: list[bytes] = field(default_factory=list)
    note: bytes | None = None
    timers: dict[str, int] = field(default_factory=dict)

    def read(self) -> list[bytes]:
        return list(reversed(self.values))  # a bag has no order

    def add(self, value: bytes) -> None:
        self.values.append(value)

    def clear(self) -> None:
        self.values.clear()

    def set(self, timestamp: Any, dynamic_timer_tag: str) -> None:
        self.timers[dynamic_timer_tag] = timestamp.micros // 1_000


class Note:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def read(self) -> bytes | None:
        return self.cell.note

    def write(self, value: bytes) -> None:
        self.cell.note = value


class Stage:
    """Runs a stateful DoFn: elements, then the timers that a watermark makes due."""

    def __init__(self, do_fn: Any) -> None:
        self.do_fn = do_fn
        self.cells: dict[int, Cell] = defaultdict(Cell)

    def take(self, element: tuple[int, Any]) -> None:
        cell = self.cells[element[0]]
        list(self.do_fn.process(element, cell, Note(cell), cell) or ())

    def advance(self, watermark_ms: int) -> list[Any]:
        out = []
        while True:
            due = [
                (when, tag, key)
                for key, cell in self.cells.items()
                for tag, when in cell.timers.items()
                if when <= watermark_ms
            ]
            if not due:
                return out
            _, tag, key = min(due)
            cell = self.cells[key]
            del cell.timers[tag]
            out += list(self.do_fn.fire(key, tag, cell, Note(cell)))


def outcome(
    transcript: list[Any], rows: list, dead: list[str] | None = None, *, forget: bool = False
) -> None:
    """Play bundles (tuples) and watermarks (seconds): exactly these rows and letters come of it.

    With `forget`, every step is done by a worker that has just started.
    """
    first, second = Stage(_Dedupe(CONFIG)), Stage(_Featurize(CONFIG))
    made, letters = [], []
    for step in [*transcript, END_S]:
        if forget:
            stages._mirrors.clear()
        if isinstance(step, tuple):
            for keyed in _by_id(events(*step), CONFIG.shards):
                first.take(keyed)
            continue
        for value in first.advance(step * 1_000 + 9):
            if isinstance(value, beam.pvalue.TaggedOutput):
                letters += value.value.column("reason").to_pylist()
            else:
                second.take(value)
        made += [row for keyed in second.advance(step * 1_000 + 9) for row in told(keyed)]
    assert sorted(made) == sorted(rows)
    assert letters == (dead or [])


def test_a_window_is_told_once_its_end_is_reached() -> None:
    outcome([("a@1", "b@2"), ("a2@9",), 10], [("a", 10, 2, 0), ("b", 10, 1, 0)])


def test_out_of_order_within_the_watermark_is_no_difference() -> None:
    outcome(
        [("a@15",), ("a2@3",), ("a3@12", "a4@1"), 10, 20],
        [("a", 10, 2, 0), ("a", 20, 2, 0)],
    )


def test_repeats_are_left_out_across_bundles_and_windows() -> None:
    outcome([("a@1", "a@1"), ("a@1",), 10, ("a@12",), 20, 30], [("a", 10, 1, 0)])


def test_an_id_counts_again_beyond_the_horizon() -> None:
    outcome([("a@1",), 10, ("a@62",), 70], [("a", 10, 1, 0), ("a", 70, 1, 0)])


def test_a_late_event_is_a_revision() -> None:
    outcome(
        [("a@1",), 10, ("a2@2",), ("a3@15",), 20, ("a4@3",)],
        [("a", 10, 1, 0), ("a", 10, 1, 1), ("a", 20, 1, 0), ("a", 10, 1, 2)],
    )


def test_what_comes_when_a_window_can_no_longer_be_revised_is_a_dead_letter() -> None:
    # The window [0, 10) may be revised up to 30 s; the shard has seen 40 s pass.
    outcome(
        [("a@1",), 10, ("a2@35",), 40, ("a@2",), ("a3@3",)],
        [("a", 10, 1, 0), ("a", 40, 1, 0)],
        ["too_late", "too_late"],
    )


def test_an_idle_stretch_is_passed_over() -> None:
    outcome([("a@1",), 10, 3_600, ("a2@3601",), 3_700], [("a", 10, 1, 0), ("a", 3610, 1, 0)])


def test_the_end_of_the_stream_tells_what_still_waits() -> None:
    outcome([("a@1",), ("b@55",)], [("a", 10, 1, 0), ("b", 60, 1, 0)])


TRANSCRIPT = [
    ("a@1", "b@4", "c@9"),
    ("a2@12", "b@4"),
    10,
    ("c2@19", "a3@11"),
    20,
    ("b2@31",),
    40,
]


@pytest.mark.parametrize("form", ["as written", "one by one", "reversed within bundles"])
def test_bundling_is_no_difference(form: str) -> None:
    steps: list[Any] = []
    for step in TRANSCRIPT:
        if not isinstance(step, tuple) or form == "as written":
            steps.append(step)
        elif form == "one by one":
            steps += [(name,) for name in step]
        else:
            steps.append(tuple(reversed(step)))
    expected: dict[tuple[str, int], int] = defaultdict(int)
    for name, second in [("a", 1), ("b", 4), ("c", 9), ("a", 12), ("c", 19), ("a", 11), ("b", 31)]:
        expected[name, second // 10 * 10 + 10] += 1
    outcome(
        steps,
        [(user, end, n, 0) for (user, end), n in expected.items()],
        forget=form == "one by one",
    )


def test_state_levels_off_on_a_stream_with_ever_new_users_and_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pipelines.live import journal

    monkeypatch.setattr(journal, "_SLACK", 0)
    config = FeatureConfig(
        window=WindowSpec.parse("fixed:10s"),
        shards=1,
        retention="200s",
        dedupe_horizon="100s",
        allowed_lateness="10s",
    )
    first, second = Stage(_Dedupe(config)), Stage(_Featurize(config))
    weights = []
    for tick in range(1, 121):
        begin = tick * 10_000 - 10_000
        rows = [
            {
                "event_id": f"e{tick}-{i}",
                "user_id": f"u{tick}-{i}",
                "item_id": f"i{tick}-{i}",
                "event_type": "click",
                "event_time": begin + i * 100,
            }
            for i in range(40)
        ]
        first.take((0, pa.RecordBatch.from_pylist(rows, schema=EVENTS)))
        for keyed in first.advance(tick * 10_000 + 9):
            second.take(keyed)
        second.advance(tick * 10_000 + 9)
        cells = [*first.cells.values(), *second.cells.values()]
        weights.append(sum(len(value) for cell in cells for value in cell.values))
    assert max(weights[80:]) <= 1.05 * max(weights[40:80])
    assert not any(cell.timers for cell in cells)
