"""Followers send on what is on record, whatever their sink does, and stop nobody."""

import logging
import pickle
import sys
import threading
from pathlib import Path

import pytest
from branches import Branches

from pipelines import publish
from pipelines.errors import RequestError
from pipelines.publish import SinkError, SinkState, open_sink
from pipelines.publish.sink_threads import Follower, StartFollowers
from pipelines.publish.sink_uri import Address

FOREVER_S = 60.0
"""A limit that only a broken follower reaches."""


class Memory:
    """A sink that keeps the last version, and fails as often as it is told to."""

    shown = "memory://here"

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.calls, self.closed = failures, 0, threading.Event()
        self.last_failure = threading.Event()  # until it is set, the last one takes its time
        self.last_failure.set()
        self.got: list[int] = []
        self.mark = None

    def held(self) -> SinkState:
        self.calls += 1
        if self.calls == self.failures:
            self.last_failure.wait(FOREVER_S)
        if self.calls <= self.failures:
            raise SinkError("memory://here: nobody listens")
        return SinkState(self.mark)

    def publish(self, shipment) -> int:
        self.mark = shipment.mark
        self.got.append(shipment.mark.version)
        return shipment.newest_event_ms + 250

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def branches(tmp_path: Path) -> Branches:
    made = Branches(tmp_path)
    made.advance({("item", "a"): [1.0, 2.0]})
    return made


def follow(branches: Branches, sink: Memory) -> Follower:
    return Follower(branches.store, sink, longest_s=0.01)


def test_it_sends_on_what_is_new_and_says_how_old_it_was(branches: Branches) -> None:
    sink = Memory()
    follower = follow(branches, sink)
    assert follower.finish(FOREVER_S)
    branches.advance({("item", "b"): [1.0, 2.0]})
    assert follower.behind() in (0, 1)  # it may have looked already
    assert follower.finish(FOREVER_S)
    assert follower.version == 2
    assert follower.told() == ({"sink_failures": 0, "sink_versions": 2}, [250, 250])
    assert follower.told() == ({"sink_failures": 0, "sink_versions": 0}, [])
    follower.close()
    assert sink.closed.is_set()
    assert sink.got == [1, 2]


def test_a_sink_that_was_away_is_caught_up_and_both_are_said_once(
    branches: Branches, caplog: pytest.LogCaptureFixture
) -> None:
    sink = Memory(failures=7)
    sink.last_failure.clear()
    with caplog.at_level(logging.INFO, "rillet"):
        follower = follow(branches, sink)
        for n in range(3):
            branches.advance({("item", "b"): [float(n), 2.0]})
            follower.wake()  # whoever trains waits for nothing
        sink.last_failure.set()
        assert follower.finish(FOREVER_S)
        follower.close()
    assert follower.version == 4
    counted, _ = follower.told()
    assert counted["sink_failures"] == 7
    away, back = (record.getMessage() for record in caplog.records)
    assert away == (
        "sink memory://here: nobody listens; the job goes on, its versions wait in the store"
    )
    assert back.startswith("sink memory://here is back after")
    assert back.endswith("at version 4")


def test_an_error_that_nobody_thought_of_is_tried_again_as_well(branches: Branches) -> None:
    sink = Memory()
    real, tries = sink.publish, []

    def publish_once_broken(shipment) -> int:
        tries.append(shipment.mark.version)
        if len(tries) == 1:
            raise ZeroDivisionError
        return real(shipment)

    sink.publish = publish_once_broken
    follower = follow(branches, sink)
    assert follower.finish(FOREVER_S)
    follower.close()
    assert tries == [1, 1]
    assert follower.told()[0] == {"sink_failures": 1, "sink_versions": 1}


def test_a_sink_that_stays_away_holds_nobody_up(branches: Branches) -> None:
    sink = Memory(failures=10**9)
    follower = follow(branches, sink)
    assert not follower.finish(0.0)
    assert follower.behind() == 1
    follower.close()
    assert sink.closed.is_set()


def test_a_sink_that_takes_nothing_new_is_told_by_what_it_serves(branches: Branches) -> None:
    sink = Memory()
    first = follow(branches, sink)
    assert first.finish(FOREVER_S)
    first.close()
    branches.advance({("item", "b"): [1.0, 2.0]})
    failed = threading.Event()

    def refuse(shipment) -> int:
        failed.set()
        raise SinkError("memory://here: a view depends on the table")

    sink.publish = refuse
    again = follow(branches, sink)
    assert failed.wait(FOREVER_S)
    assert (again.version, again.behind()) == (1, 1)
    again.close()


def test_a_flush_says_which_sink_is_behind(
    branches: Branches, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sinks = {"up": Memory(), "away": Memory(failures=10**9)}
    sinks["away"].shown = "memory://away"
    monkeypatch.setattr("pipelines.publish.sink_threads.open_sink", sinks.__getitem__)
    follower = StartFollowers(branches.store, ["up"])()
    follower.finish(FOREVER_S)
    follower.close()
    with caplog.at_level(logging.WARNING, "rillet"):
        told = publish.catch_up_sinks(branches.store, ["up", "away", "away"], 0.1)
    assert told["memory://away"] == {"version": 0, "behind": 1}
    assert told["memory://here"] == {"version": 1, "behind": 0}
    assert "sink memory://away is 1 versions behind: the next rillet run" in caplog.text


def test_what_travels_to_the_worker_hides_its_addresses(branches: Branches) -> None:
    made = StartFollowers(branches.store, ["redis://:hunter2@localhost:6379/0"])
    assert "hunter2" not in repr(made)
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("redis://:hunter2@localhost:6379/0", "redis://localhost:6379/0"),
        ("postgresql://me:hunter2@[::1]:5432/db?prefix=x", "postgresql://[::1]:5432/db?prefix=x"),
        ("postgresql://me@db/db?password=hunter2", "postgresql://db/db"),
        ("rediss://me:hunter%322@cache/1", "rediss://cache/1"),
    ],
)
def test_passwords_are_never_shown(uri: str, shown: str) -> None:
    address = Address.parse(uri, "")
    assert address.shown == shown
    assert "hunter" not in repr(address)
    said = address.explain(ValueError(f"cannot\nconnect to {uri}"))
    assert "hunter2" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("elastic://host:1", "--sink elastic://…: no such kind of sink"),
        ("localhost:6379", "--sink 'localhost:6379': no such kind of sink"),
        ("redis:me:hunter2@db", "--sink …: no such kind of sink"),
        ("redis://me:hun@ter2@db:1/0", "write @ as %40"),
        ("redis://me:1/hunter2@db:1/0", "write @ as %40"),
        ("postgresql://me:1#hunter2@db:1/d", "write @ as %40"),
        ("redis://db:1/0?prefx=a", "there is no option prefx: did you mean prefix?"),
        ("postgresql://db:1/d?prefx=a", "there is no option prefx: did you mean prefix?"),
        ("redis://db:1/0?whatever=a", "there is no option whatever: leave it out"),
        ("redis://:secret@:6379", "names no host and port: write redis://"),
        ("postgresql://me:secret@db:port/x", "names no host and port: write postgresql://"),
        ("redis://db:1/0?prefix=Not+me", "prefix 'Not me' is no name"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line(uri: str, said: str) -> None:
    with pytest.raises(RequestError) as raised:
        open_sink(uri)
    assert said in str(raised.value)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("uri", "package", "extra"),
    [("redis://h:1", "redis", "redis"), ("postgresql://h:1/d", "psycopg", "postgres")],
)
def test_a_missing_client_names_the_extra(
    uri: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"pipelines.publish.embeddings_to_{extra}", raising=False)
    with pytest.raises(RequestError, match=rf"pip install 'rillet\[{extra}\]'"):
        open_sink(uri)
