"""Ids to rows: what a dict and a list would do, in every order of calls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.memory.id_map import IdMap


def admit(ids: IdMap, *names: str, time: int = 0, count: int = 1) -> list[int]:
    n = len(names)
    return ids.admit(list(names), np.full(n, time), np.full(n, count)).tolist()


def test_rows_start_at_one_and_unknown_is_zero():
    ids = IdMap(limit=10)
    assert admit(ids, "a", "b") == [1, 2]
    assert ids.lookup(["b", "?", "a"]).tolist() == [2, 0, 1]
    assert admit(ids, "b") == [2]
    assert ids.count[[1, 2]].tolist() == [1, 2]


def test_tables_double_up_to_the_limit():
    ids = IdMap(limit=10, start=2)
    sizes = []
    for i in range(12):
        admit(ids, f"id{i}")
        sizes.append(ids.capacity)
    assert sizes == [2, 4, 4, 8, 8, 8, 8, 11, 11, 11, 11, 11]
    assert len(ids) == 10
    assert ids.lookup(["id10", "id11"]).tolist() == [0, 0]


def test_an_id_that_found_no_room_was_seen_once_before():
    ids = IdMap(limit=1)
    assert admit(ids, "a") == [1]
    assert admit(ids, "b", count=3) == [0]
    assert admit(ids, "b") == [0]
    assert ids.forget("a") == 1
    assert admit(ids, "b", count=2) == [1]
    assert ids.count[1] == 1 + 2
    assert ids.forget("b") == 1
    assert admit(ids, "c", count=2) == [1]
    assert ids.count[1] == 2


def test_those_that_wait_are_bounded():
    ids = IdMap(limit=3)
    admit(ids, "x", "y", "z")
    admit(ids, "a", "b", "c", "d")  # a has waited longest and loses its place
    assert ids.to_table()["id"].to_pylist() == ["x", "y", "z", "b", "c", "d"]
    assert [ids.forget(name) for name in "xy"] == [1, 2]
    assert admit(ids, "a", "d") == [1, 2]
    assert ids.count[[1, 2]].tolist() == [1, 1 + 1]


def test_silent_ids_expire_and_the_lowest_row_is_used_first():
    ids = IdMap(limit=10)
    admit(ids, "a", time=5)
    admit(ids, "b", time=1)
    admit(ids, "c", time=2)
    assert ids.expire(before_ms=5) == [("b", 2), ("c", 3)]
    assert "b" not in ids
    assert admit(ids, "d", "e", "f") == [2, 3, 4]
    assert ids.names[:5] == [None, "a", "d", "e", "f"]


def test_room_is_made_by_letting_the_longest_silent_go():
    ids = IdMap(limit=16)
    for i in range(16):
        admit(ids, f"id{i}", time=100 - i)
    assert ids.make_room(share=0.25) == [("id12", 13), ("id13", 14), ("id14", 15), ("id15", 16)]
    assert ids.make_room(share=0.25) == []


def test_forgotten_on_request():
    ids = IdMap(limit=4)
    admit(ids, "a", "b")
    assert ids.forget("a") == 1
    assert ids.forget("a") == 0
    assert admit(ids, "c") == [1]


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"limit": 1, "start": 1}])
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 1"):
        IdMap(**wrong)


calls = st.lists(
    st.one_of(
        st.tuples(
            st.just("admit"), st.lists(st.sampled_from("abcdefgh"), unique=True), st.integers(0, 20)
        ),
        st.tuples(st.just("expire"), st.integers(0, 20)),
        st.tuples(st.just("room")),
        st.tuples(st.just("save")),
    ),
    max_size=30,
)


@given(calls, st.integers(1, 6))
def test_no_two_ids_ever_share_a_row(script, limit):
    ids = IdMap(limit=limit, start=2)
    held: dict[str, int] = {}
    for call, *args in script:
        if call == "admit":
            names, time = args
            rows = admit(ids, *names, time=time)
            for name, row in zip(names, rows, strict=True):
                assert row == held.get(name, row)
                if row:
                    held[name] = row
        elif call == "save":
            ids = IdMap.from_table(ids.to_table(), limit=limit)
        else:
            gone = ids.expire(args[0]) if call == "expire" else ids.make_room()
            for name, row in gone:
                assert held.pop(name) == row
        assert len(set(held.values())) == len(held) == len(ids) <= limit
        assert ids.lookup(list(held)).tolist() == list(held.values())
        assert 0 not in held.values()
        assert max(held.values(), default=0) < ids.top <= ids.capacity <= limit + 1
        assert ids.used().tolist() == sorted(held.values())


@given(calls)
def test_a_saved_map_goes_on_alike(script):
    one = IdMap(limit=4, start=2)
    two = IdMap(limit=4, start=2)
    for call, *args in script:
        two = IdMap.from_table(two.to_table(), limit=4)
        for ids in (one, two):
            if call == "admit":
                admit(ids, *args[0], time=args[1])
            elif call == "expire":
                ids.expire(args[0])
            elif call == "room":
                ids.make_room()
        assert one.to_table().equals(two.to_table(), check_metadata=True)
