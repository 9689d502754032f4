"""A simulation that is played: an even rate, times by the clock, order and repeats as simulated."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import JobError, RequestError
from pipelines.simulate import Clock, Playback, SimulationSpec, simulate
from pipelines.simulate.pace import Pace, slices

START_MS = 1_800_000_000_000
SPEC = {"events": 3_000, "users": 60, "items": 80, "oversize": 0}


class FakeClock:
    """Time that passes by waiting alone."""

    def __init__(self) -> None:
        self.now = float(START_MS)

    def clock(self) -> Clock:
        return Clock(lambda: int(self.now), self.sleep)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds * 1_000


class Heard:
    """An outlet that remembers what was sent when."""

    def __init__(self, clock: FakeClock, stop_after: int | None = None) -> None:
        self.clock, self.stop_after = clock, stop_after
        self.sent: list[tuple[float, bytes, str]] = []
        self.closed = False

    def send(self, lines: pa.Array, users: pa.Array) -> None:
        if self.stop_after is not None and len(self.sent) >= self.stop_after:
            raise KeyboardInterrupt
        for line, user in zip(lines.to_pylist(), users.to_pylist(), strict=True):
            self.sent.append((self.clock.now, line, user))

    def close(self) -> None:
        self.closed = True


def play(out: Path, **knobs: Any) -> tuple[Heard, dict[str, Any]]:
    clock = FakeClock()
    outlet = Heard(clock, knobs.pop("stop_after", None))
    spec = SimulationSpec.of(**{**SPEC, **knobs})
    told = simulate(out, spec, Playback(rate=100, outlet=outlet, clock=clock.clock()))
    return outlet, told


def time_ms(event: dict[str, Any]) -> int:
    return round(datetime.fromisoformat(event["event_time"]).timestamp() * 1_000)


def test_what_is_sent_is_what_the_file_holds(tmp_path: Path) -> None:
    outlet, told = play(tmp_path)
    assert b"".join(line for _, line, _ in outlet.sent) == (tmp_path / "events.jsonl").read_bytes()
    assert len(outlet.sent) == told["lines"]
    assert outlet.closed
    bad = set(pq.read_table(tmp_path / "truth/malformed.parquet")["line"].to_pylist())
    assert bad
    for number, (_, line, user) in enumerate(outlet.sent):
        if number not in bad:
            assert json.loads(line)["user_id"] == user


def test_lines_leave_at_the_rate_and_events_take_their_time_from_the_clock(tmp_path: Path) -> None:
    outlet, told = play(tmp_path, late=0, duplicates=0, malformed=0)
    n = told["lines"]
    for number, (at, line, _) in enumerate(outlet.sent):
        due = START_MS + 10 * number  # 100 a second
        assert due - 1 <= at <= due + 21  # sent together in slices of 20 ms
        # Events of one simulated instant share the time of the first or last of them.
        assert abs(time_ms(json.loads(line)) - due) <= 200
    assert told["max_event_time_ms"] <= START_MS + 10 * n


def test_repeats_keep_their_time_and_late_lines_lie_behind(tmp_path: Path) -> None:
    outlet, told = play(tmp_path, late=0.2, duplicates=0.2, malformed=0)
    seen: dict[str, int] = {}
    newest, behind, repeats = 0, 0, 0
    for at, line, _ in outlet.sent:
        event = json.loads(line)
        repeats += event["event_id"] in seen
        assert seen.setdefault(event["event_id"], time_ms(event)) == time_ms(event)
        assert time_ms(event) <= at
        behind += time_ms(event) < newest
        newest = max(newest, time_ms(event))
    assert repeats == told["duplicates"] > 0
    assert behind > 300


def test_ids_are_new_each_time_and_the_world_is_the_same(tmp_path: Path) -> None:
    first, _ = play(tmp_path / "a", malformed=0)
    spec = SimulationSpec.of(**{**SPEC, "malformed": 0})
    simulate(tmp_path / "b", spec)
    played = [json.loads(line) for _, line, _ in first.sent]
    written = [json.loads(line) for line in (tmp_path / "b/events.jsonl").read_bytes().splitlines()]
    assert not {e["event_id"] for e in played} & {e["event_id"] for e in written}
    assert [(e["user_id"], e["item_id"]) for e in played] == [
        (e["user_id"], e["item_id"]) for e in written
    ]


def test_items_appear_where_an_even_course_would_put_them(tmp_path: Path) -> None:
    _, told = play(tmp_path / "a")
    simulate(tmp_path / "b", SimulationSpec.of(**SPEC))
    played, written = (
        pq.read_table(tmp_path / name / "items.parquet")["published_at"].cast(pa.int64()).to_numpy()
        for name in "ab"
    )
    end = START_MS + 10 * told["events"]
    simulated = SimulationSpec.of(**SPEC)
    whole = simulated.days * 86_400_000
    share = (written - simulated.start_ms) / whole
    assert np.abs((played - START_MS) / (end - START_MS) - share).max() < 0.001


def test_stopped_early_it_ends_in_good_order(tmp_path: Path) -> None:
    outlet, told = play(tmp_path, stop_after=500)
    assert outlet.closed
    lines = (tmp_path / "events.jsonl").read_bytes().splitlines()
    assert len(lines) == len(outlet.sent) == told["lines"]
    assert 500 <= len(lines) < 600
    assert json.loads((tmp_path / "truth.json").read_text())["summary"]["lines"] == len(lines)


def test_a_line_that_cannot_be_sent_ends_it(tmp_path: Path) -> None:
    class Gone(Heard):
        def send(self, lines: pa.Array, users: pa.Array) -> None:
            raise JobError("no broker")

    clock = FakeClock()
    with pytest.raises(JobError, match="no broker"):
        simulate(
            tmp_path,
            SimulationSpec.of(**SPEC),
            Playback(rate=1, outlet=Gone(clock), clock=clock.clock()),
        )
    assert not (tmp_path / "events.jsonl").exists()


def test_parquet_is_no_message(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="lines of JSON, not parquet; leave --format out"):
        play(tmp_path, format="parquet")


def test_the_course_of_time_does_not_depend_on_how_it_is_cut() -> None:
    arrival = np.sort(np.random.default_rng(1).integers(0, 10**6, 1_000))
    whole, cut = Pace(50, START_MS, 10**5), Pace(50, START_MS, 10**5)
    due = whole.due(arrival)
    assert np.allclose(np.concatenate([cut.due(part) for part in np.split(arrival, 10)]), due)
    recent = arrival[arrival > arrival.max() - 10**5]
    assert (cut.by_clock(recent) == whole.by_clock(recent)).all()
    assert len(cut._due) < 300  # the past is let go


def test_what_is_overdue_goes_at_once() -> None:
    clock = FakeClock()
    due = np.array([START_MS - 10.0, START_MS - 5.0, START_MS + 100.0])
    assert list(slices(due, clock.clock())) == [(0, 2), (2, 3)]
    assert clock.now >= START_MS + 100
