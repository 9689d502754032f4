"""Positions in a partitioned log, and what they say of event time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.read.partition_progress import (
    Partition,
    Positions,
    PositionsCoder,
    PositionsTracker,
    watermark_ms,
)

NOW = 1_000_000
RULE = {"now_ms": NOW, "disorder_ms": 5_000, "idle_ms": 30_000}


def test_a_partition_moves_on_and_never_back() -> None:
    part = Partition(10, 20)
    assert part.read(15, 700) == Partition(15, 20, 700)
    assert part.read(15, 700).read(12, 600) == Partition(15, 20, 700)
    assert part.read(15, None) == Partition(15, 20)
    assert not part.done
    assert part.read(20, None).done
    assert not Partition(10**9).done


def test_done_is_when_every_partition_is_and_none_may_follow() -> None:
    ended = {0: Partition(3, 3), 1: Partition(5, 4)}
    assert Positions(ended).done
    assert not Positions(ended, endless=True).done
    assert not Positions(ended | {2: Partition(0, 1)}).done


partitions = st.builds(
    Partition,
    st.integers(0, 2**62),
    st.none() | st.integers(0, 2**62),
    st.none() | st.integers(-(2**50), 2**50),
)


@given(st.dictionaries(st.integers(0, 500), partitions), st.booleans(), st.integers(1, 9))
def test_positions_survive_their_coder(
    parts: dict[int, Partition], endless: bool, readers: int
) -> None:
    positions = Positions(parts, endless, readers)
    coder = PositionsCoder()
    assert coder.decode(coder.encode(positions)) == positions
    turned = Positions(dict(reversed(parts.items())), endless, readers)
    assert coder.encode(turned) == coder.encode(positions)


def test_a_checkpoint_keeps_what_is_read_and_hands_back_the_rest() -> None:
    tracker = PositionsTracker(Positions({0: Partition(0)}, endless=True))
    read = Positions({0: Partition(100, None, 7)}, endless=True)
    assert tracker.try_claim(read)
    done, left = tracker.try_split(0)
    assert left == read
    assert done.done
    assert tracker.current_restriction() == done
    assert tracker.check_done()
    assert not tracker.try_claim(read)  # it was stopped: nothing more may come out
    assert tracker.try_split(0) is None
    assert tracker.current_progress().fraction_completed == 1.0


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_a_log_has_no_middle_to_be_cut_in(fraction: float) -> None:
    tracker = PositionsTracker(Positions({0: Partition(0)}, endless=True))
    assert tracker.try_split(fraction) is None
    assert tracker.try_claim(Positions({0: Partition(1)}, endless=True))
    assert not tracker.is_bounded()


def test_leaving_early_is_an_error_that_shows_where() -> None:
    tracker = PositionsTracker(Positions({0: Partition(0, 10)}))
    with pytest.raises(ValueError, match="left before its end"):
        tracker.check_done()
    tracker.try_claim(Positions({0: Partition(10, 10)}))
    assert tracker.check_done()
    assert tracker.try_split(0) is None  # nothing is left to hand back


def test_the_slowest_partition_decides() -> None:
    parts = {0: Partition(1, None, 900_000), 1: Partition(1, None, 800_000)}
    assert watermark_ms(parts, (), **RULE) == 800_000 - 5_000


def test_a_partition_that_has_said_nothing_holds_until_it_is_idle() -> None:
    parts = {0: Partition(1, None, 990_000), 1: Partition(0)}
    assert watermark_ms(parts, (), **RULE) is None
    assert watermark_ms(parts, {1}, **RULE) == NOW - 5_000 - 30_000
    assert watermark_ms({}, (), **RULE) is None


def test_an_idle_partition_follows_the_clock_and_is_never_behind_its_own_events() -> None:
    old = {0: Partition(1, None, 100_000)}
    assert watermark_ms(old, {0}, **RULE) == NOW - 5_000 - 30_000
    fresh = {0: Partition(1, None, 999_000)}
    assert watermark_ms(fresh, {0}, **RULE) == 999_000 - 5_000


def test_a_partition_read_to_its_given_end_no_longer_counts() -> None:
    parts = {0: Partition(5, 5, 100), 1: Partition(1, 9, 50_000)}
    assert watermark_ms(parts, (), **RULE) == 45_000
    assert watermark_ms({0: parts[0]}, (), **RULE) is None
