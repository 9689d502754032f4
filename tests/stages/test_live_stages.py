"""The live stages' DoFns: transcripts of events, watermarks and what must come out.

Beam's in-process runners do not play them exactly: one refuses a TestStream, the other
lets the watermark pass timers that wait. So a small runner (`beam_stage`) does what Beam
promises.
"""

from collections import defaultdict
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from beam_stage import Stage

from pipelines.config import FeatureConfig, WindowSpec
from pipelines.features.rows import FeatureRows
from pipelines.live import stateful_stages
from pipelines.live.state.start_state import StartState
from pipelines.live.stateful_stages import _by_id, _Dedupe, _Featurize
from pipelines.schema import EVENTS

END_S = 10**9


def config(window: str, shards: int) -> FeatureConfig:
    return FeatureConfig(
        window=WindowSpec.parse(window),
        shards=shards,
        allowed_lateness="20s",
        dedupe_horizon="60s",
    )


CONFIG = config("fixed:10s", 2)
# With one shard, every event moves the frontier that others are late against.
SLIDING = config("sliding:10s/5s", 1)
SESSION = config("session:10s", 1)


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


def outcome(
    transcript: list[Any],
    rows: list,
    dead: list[str] | None = None,
    *,
    config: FeatureConfig = CONFIG,
    forget: bool = False,
) -> None:
    """Play bundles (tuples) and watermarks (seconds): exactly these rows and letters come of it.

    With `forget`, every step is done by a worker that has just started.
    """
    first, second = Stage(_Dedupe(StartState(config))), Stage(_Featurize(StartState(config)))
    made, letters = [], []
    for step in [*transcript, END_S]:
        if forget:
            stateful_stages._mirrors.clear()
        if isinstance(step, tuple):
            for keyed in _by_id(events(*step), config.shards):
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


# -- sliding windows of 10 s every 5 s: each event is in two ---------------------------------


def sliding(transcript: list[Any], rows: list, dead: list[str] | None = None) -> None:
    outcome(transcript, rows, dead, config=SLIDING)
    outcome(transcript, rows, dead, config=SLIDING, forget=True)


def test_sliding_windows_are_told_as_each_of_them_ends() -> None:
    sliding(
        [("a@103", "a2@108"), 105, 110, 115],
        [("a", 105, 1, 0), ("a", 110, 2, 0), ("a", 115, 1, 0)],
    )


def test_sliding_out_of_order_within_the_watermark_is_no_difference() -> None:
    sliding(
        [("a2@108",), ("a3@104", "a@103"), 105, ("a4@106",), 110],
        [("a", 105, 2, 0), ("a", 110, 4, 0), ("a", 115, 2, 0)],
    )


def test_sliding_repeats_count_once_in_each_window() -> None:
    sliding(
        [("a@103", "a@103"), ("a@103",), 105, ("a@103",), ("a@108",), 110],
        [("a", 105, 1, 0), ("a", 110, 1, 0)],
    )


def test_sliding_a_late_event_revises_windows_that_were_told_and_counts_in_open_ones() -> None:
    sliding([("a@103",), 105, ("a2@104",)], [("a", 105, 1, 0), ("a", 105, 1, 1), ("a", 110, 2, 0)])


def test_sliding_a_window_that_can_no_longer_be_revised_is_left_out() -> None:
    # At 130, [95, 105) is gone since 125, [100, 110) may yet be revised.
    sliding(
        [("a@103",), ("a2@124",), 130, ("a3@104",), ("a4@92",)],
        [("a", 105, 1, 0), ("a", 110, 1, 0), ("a", 125, 1, 0), ("a", 130, 1, 0), ("a", 110, 1, 1)],
        ["too_late"],
    )


def test_sliding_an_idle_stretch_is_passed_over_and_the_end_tells_the_rest() -> None:
    sliding(
        [("a@103",), 3_600, ("b@3603",)],
        [("a", 105, 1, 0), ("a", 110, 1, 0), ("b", 3605, 1, 0), ("b", 3610, 1, 0)],
    )


# -- sessions that end after 10 s of silence -----------------------------------------------


def session(transcript: list[Any], rows: list, dead: list[str] | None = None) -> None:
    outcome(transcript, rows, dead, config=SESSION)
    outcome(transcript, rows, dead, config=SESSION, forget=True)


def test_a_session_is_told_when_its_gap_has_passed() -> None:
    session(
        [("a@100",), 105, ("a2@109.5", "b@101"), 110, ("a3@119.5",), 119],
        [("b", 111, 1, 0), ("a", 119, 2, 0), ("a", 129, 1, 0)],
    )


def test_a_session_out_of_order_within_the_watermark_is_no_difference() -> None:
    session([("a@107",), ("a2@100",), 106, ("a3@116",), 110, 126], [("a", 126, 3, 0)])


def test_a_session_holds_an_id_once() -> None:
    session([("a@100", "a@100"), 101, ("a@104",), 120, ("a@105",)], [("a", 110, 1, 0)])


def test_what_comes_after_a_session_was_told_makes_a_session_of_its_own() -> None:
    # [100, 110) is told; 104 would have been part of it, and its own end is still to come.
    session([("a@100",), 111, ("a2@104",)], [("a", 110, 1, 0), ("a", 114, 1, 0)])


def test_a_late_session_is_a_revision() -> None:
    session(
        [("a@100", "b@105"), 120, ("a2@104", "a3@102"), 121, ("a4@104",)],
        [("a", 110, 1, 0), ("b", 115, 1, 0), ("a", 114, 2, 1), ("a", 114, 1, 2)],
    )


def test_what_bridges_a_told_session_and_an_open_one_joins_the_open_one() -> None:
    session(
        [("a@100",), 110, ("a3@115",), 116, ("a2@108",)],
        [("a", 110, 1, 0), ("a", 125, 2, 0)],
    )


def test_a_session_that_would_have_ended_long_ago_is_a_dead_letter() -> None:
    session(
        # b has shown that 130.5 is past: a session of [100, 110) could be revised up to 130.
        [("a@95",), ("b@130",), 141, ("a2@100",), ("a3@101",)],
        [("a", 105, 1, 0), ("b", 140, 1, 0), ("a", 111, 1, 1)],
        ["too_late"],
    )


def test_an_idle_stretch_ends_sessions_and_the_end_of_the_stream_tells_the_rest() -> None:
    session([("a@100",), 3_600, ("b@3601", "b2@3605")], [("a", 110, 1, 0), ("b", 3615, 2, 0)])


# -- bundling ----------------------------------------------------------------------------------


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


@pytest.mark.parametrize("window", ["fixed:10s", "sliding:30s/10s", "session:5s"])
def test_state_levels_off_on_a_stream_with_ever_new_users_items_and_requests(
    window: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.live.state import journal

    monkeypatch.setattr(journal, "_SLACK", 0)
    config = FeatureConfig(
        window=WindowSpec.parse(window),
        shards=1,
        retention="200s",
        dedupe_horizon="100s",
        allowed_lateness="10s",
    )
    first, second = Stage(_Dedupe(StartState(config))), Stage(_Featurize(StartState(config)))
    weights = []
    for tick in range(1, 76):
        begin = tick * 10_000 - 10_000
        rows = [
            {
                "event_id": f"e{tick}-{i}",
                "user_id": f"u{tick}-{i}",
                "item_id": f"i{tick}-{i}",
                "event_type": "click",
                "event_time": begin + i * 200,
                "context": [("request", f"a request that comes once only: {tick}-{i}")],
            }
            for i in range(20)
        ]
        first.take((0, pa.RecordBatch.from_pylist(rows, schema=EVENTS)))
        for keyed in first.advance(tick * 10_000 + 9):
            second.take(keyed)
        second.advance(tick * 10_000 + 9)
        cells = [*first.cells.values(), *second.cells.values()]
        weights.append(sum(len(value) for cell in cells for value in cell.values))
    assert max(weights[50:]) <= 1.05 * max(weights[25:50])
    first.advance(END_S * 1_000)
    second.advance(END_S * 1_000)
    assert not any(cell.timers for cell in cells)
