"""Redis, PostgreSQL, Kafka, the real ones: the newer wins, no reader sees half a version."""

import contextlib
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest
import redis
from branches import Branches, table
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.publish import Shipment, Sink, SinkError, SinkState, VersionMark, open_sink
from pipelines.publish.missing_rows import rows_missing_in

pytestmark = pytest.mark.integration

KINDS = ("redis", "postgres", "kafka")
IDS = tuple("abcde")
_numbers = itertools.count()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, services: Callable) -> Callable[[], str]:
    """Gives the URI of a place in a running database that nothing was put into yet."""
    address = services(*KINDS)[request.param]
    if request.param == "kafka":
        return lambda: f"kafka://{address}/t{next(_numbers)}"
    return lambda: f"{address}?prefix=t{next(_numbers)}"


@pytest.fixture
def sink(place: Callable[[], str]) -> Iterator[Sink]:
    opened = open_sink(place())
    yield opened
    opened.close()


def read(sink: Sink) -> tuple[int, dict]:
    """The served version and everything that a reader sees in it, vectors only."""
    version, items = sink.read("item", IDS)
    again, users = sink.read("user", IDS)
    assert again == version
    rows = pa.concat_tables([items, users]).to_pylist()
    assert not any(row["deleted"] for row in rows)
    assert all(row["version"] <= version for row in rows)
    return version, {(row["entity"], row["id"]): row["embedding"] for row in rows}


def ship(sink: Sink, branches: Branches) -> None:
    shipment = rows_missing_in(branches.store, sink.held())
    if shipment:
        sink.publish(shipment)


def test_a_new_sink_gets_everything_and_then_what_changed(sink: Sink, tmp_path: Path) -> None:
    assert sink.held() == SinkState()
    assert read(sink) == (0, {})
    branches = Branches(tmp_path)
    branches.advance({("item", "a"): [1.5, -2.25], ("user", "a"): [0.0, 2.0**-99]})
    ship(sink, branches)
    version, rows = sink.read("item", ["a", "nobody"])
    assert version == 1
    assert rows.to_pylist() == table({("item", "a"): [1.5, -2.25]}, 1).to_pylist()
    branches.advance({("item", "b"): [3.0, 4.0], ("user", "a"): None})
    second = rows_missing_in(branches.store, sink.held())
    assert second is not None
    assert not second.whole
    assert len(second.rows) == 2
    sink.publish(second)
    assert read(sink) == (2, branches.seen[2])


def test_a_republished_or_older_version_changes_nothing(sink: Sink, tmp_path: Path) -> None:
    branches = Branches(tmp_path)
    branches.advance({("item", "a"): [1.0, 1.0], ("item", "b"): [2.0, 2.0]})
    ship(sink, branches)
    branches.advance({("item", "a"): [5.0, 5.0]})
    ship(sink, branches)
    before = read(sink)
    assert rows_missing_in(branches.store, sink.held()) is None
    other = {("item", "a"): [9.0, 9.0], ("item", "c"): None}
    for version in (1, 2):
        rows = table(other, version)
        mark = VersionMark(version, "f" * 64)
        sink.publish(
            Shipment(mark=mark, newest_event_ms=0, rows=rows, whole=False, held=sink.held())
        )
        assert read(sink)[1][("item", "a")] == [5.0, 5.0]
    assert read(sink) == before
    assert sink.held().served == VersionMark(2, branches.store.manifest(2).digest)


def test_a_model_of_another_width_replaces_everything(sink: Sink, tmp_path: Path) -> None:
    branches = Branches(tmp_path)
    branches.advance({("item", "a"): [1.0, 1.0], ("user", "b"): [2.0, 2.0]})
    ship(sink, branches)
    branches.retrain({("item", "a"): [3.0, 3.0, 3.0]})
    ship(sink, branches)
    assert read(sink) == (2, branches.seen[2])


def test_whoever_was_overtaken_is_refused(place: Callable[[], str], tmp_path: Path) -> None:
    address = place()
    slow, quick, branches = open_sink(address), open_sink(address), Branches(tmp_path)
    branches.advance({("item", "a"): [1.0, 1.0]})
    late = rows_missing_in(branches.store, slow.held())
    branches.advance({("item", "a"): [2.0, 2.0]})
    ship(quick, branches)
    assert late is not None
    with pytest.raises(SinkError, match="another process publishes"):
        slow.publish(late)
    assert read(slow) == (2, branches.seen[2])
    slow.close()
    quick.close()


_row = st.tuples(st.sampled_from(["item", "user"]), st.sampled_from(IDS))
_vector = st.none() | st.lists(st.integers(-9, 9).map(float), min_size=2, max_size=2)
_changed = st.dictionaries(_row, _vector, min_size=1, max_size=4)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), _changed, st.booleans()),
        st.tuples(st.just("ship"), st.none() | st.integers(1, 12)),
        st.tuples(st.just("roll back"), st.integers(0, 3)),
    ),
    max_size=14,
)


class Killed(BaseException):
    """Stands for kill -9."""


def dies_after(sink: Sink, calls: int | None) -> None:
    """Let `sink` talk to its database so many times, then never again."""
    left = itertools.count(calls, -1) if calls else itertools.repeat(1)
    real = sink._connected if hasattr(sink, "_connected") else sink._transaction

    class Line:
        def __init__(self, to: object) -> None:
            self._to = to

        def __getattr__(self, name: str) -> object:
            if next(left) <= 0:
                raise Killed
            return getattr(self._to, name)

    @contextlib.contextmanager
    def tapped() -> Iterator[Line]:
        with real() as line:
            yield Line(line)

    setattr(sink, "_connected" if hasattr(sink, "_connected") else "_transaction", tapped)


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(steps=_steps)
@pytest.mark.parametrize("place", ["redis", "postgres"], indirect=True)
def test_a_reader_always_sees_one_whole_version(
    place: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    steps: list[tuple],
) -> None:
    """Whatever is published, rolled back or killed in the middle, in any order."""
    monkeypatch.setattr("pipelines.publish.embeddings_to_redis._CHUNK", 1)
    address = place()
    reader, branches = open_sink(address), Branches(tmp_path_factory.mktemp("branches"))
    served = 0
    for what, *how in [*steps, ("advance", {("item", "a"): [1.0, 2.0]}, False), ("ship", None)]:
        if what == "advance":
            branches.advance(how[0], snapshot=how[1])
        elif what == "roll back" and branches.seen:
            known = sorted(branches.seen)
            branches.roll_back(known[max(len(known) - 1 - how[0], 0)])
        elif what == "ship":
            writer = open_sink(address)
            dies_after(writer, how[0])
            with contextlib.suppress(Killed):
                ship(writer, branches)
            writer.close()
        version, rows = read(reader)
        assert version >= served
        assert rows == branches.seen.get(version, {})
        served = version
    assert served == branches.store.current()
    reader.close()


@pytest.mark.parametrize("calls", range(1, 9))
@pytest.mark.parametrize("place", ["redis"], indirect=True)
def test_what_a_dead_writer_left_of_an_abandoned_version_never_shows(
    place: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    monkeypatch.setattr("pipelines.publish.embeddings_to_redis._CHUNK", 1)
    address, branches = place(), Branches(tmp_path)
    sink = open_sink(address)
    branches.advance({("item", "a"): [1.0, 1.0], ("item", "b"): [1.0, 1.0]})
    ship(sink, branches)
    branches.advance({("item", "a"): [2.0, 2.0], ("item", "c"): [2.0, 2.0], ("user", "d"): None})
    dying = open_sink(address)
    dies_after(dying, calls)
    with contextlib.suppress(Killed):
        ship(dying, branches)
    branches.roll_back(1)
    branches.advance({("item", "b"): [3.0, 3.0]})
    ship(sink, branches)
    assert read(sink) == (3, branches.seen[3])
    sink.close()


@pytest.mark.parametrize("place", ["redis", "postgres"], indirect=True)
def test_what_is_gone_is_gone_for_good_after_the_next_whole_copy(
    place: Callable[[], str], tmp_path: Path
) -> None:
    address = place()
    sink, branches = open_sink(address), Branches(tmp_path)
    branches.advance({("item", one): [1.0, 1.0] for one in IDS})
    ship(sink, branches)
    branches.advance({("item", "a"): None, ("item", "b"): None})
    ship(sink, branches)
    assert rows_kept(address) == len(IDS)  # two of them tombstones
    branches.advance({("item", "e"): [2.0, 2.0]}, snapshot=True)
    ship(sink, branches)
    assert rows_kept(address) == len(IDS) - 2
    assert read(sink) == (3, branches.seen[3])
    sink.close()


def rows_kept(address: str) -> int:
    """Rows in the database, tombstones among them."""
    base, _, prefix = address.partition("?prefix=")
    if base.startswith("redis"):
        with redis.Redis.from_url(base) as line:
            return len(line.keys(f"{prefix}:item:*"))
    with psycopg.connect(base) as line:
        return line.execute(f"select count(*) from {prefix}_embeddings").fetchone()[0]


@pytest.mark.parametrize("place", ["kafka"], indirect=True)
def test_a_topic_tells_whole_versions_whoever_died_in_the_middle(
    place: Callable[[], str], tmp_path: Path
) -> None:
    address, branches = place(), Branches(tmp_path)
    reader = open_sink(address)
    served = 0
    for n in range(1, 9):
        changed = {("item", one): [float(n), 0.0] for one in IDS[n % 3 :]}
        branches.advance(changed | {("user", "a"): None}, snapshot=n % 4 == 0)
        if n == 5:
            branches.roll_back(3)
            branches.advance({("item", "e"): None})  # version 6, of another branch
        writer = open_sink(address)
        if n in {2, 4, 7}:  # rows are sent, the version is never told
            writer._clock = _die
            with contextlib.suppress(Killed):
                ship(writer, branches)
        else:
            ship(writer, branches)
            served = branches.store.current()
            writer.close()
        assert read(reader) == (served, branches.seen.get(served, {}))
    reader.close()


def _die() -> int:
    raise Killed


@pytest.mark.parametrize("place", ["redis", "postgres"], indirect=True)
def test_readers_meet_no_mixture_while_versions_are_published(
    place: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows of version k hold k: a reader that saw two numbers saw half a version."""
    monkeypatch.setattr("pipelines.publish.embeddings_to_redis._CHUNK", 3)
    address = place()
    writer, reader = open_sink(address), open_sink(address)
    branches, ids = Branches(tmp_path), [f"i{n}" for n in range(40)]
    mixed, looks, ended = [], itertools.count(), threading.Event()

    def look() -> None:
        while not ended.is_set():
            version, rows = reader.read("item", ids)
            told = {tuple(row["embedding"]) for row in rows.to_pylist()}
            next(looks)
            if version and told != {(float(version), 0.0)}:
                mixed.append((version, told))

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(1, 31):
        branches.advance({("item", one): [float(n), 0.0] for one in ids}, snapshot=n % 5 == 0)
        ship(writer, branches)
    ended.set()
    thread.join()
    assert not mixed
    assert next(looks) > 10
    reader.close()
    writer.close()


def test_redis_can_be_read_as_the_guide_says(services: Callable, tmp_path: Path) -> None:
    address = services("redis")["redis"]
    branches = Branches(tmp_path)
    branches.advance({("item", "a"): [1.0, 2.0]})
    sink = open_sink(f"{address}?prefix=guide")
    with redis.Redis.from_url(address) as line, line.pubsub() as news:
        news.subscribe("guide:served")
        news.get_message(timeout=5)
        ship(sink, branches)
        told = news.get_message(timeout=5, ignore_subscribe_messages=True)
        assert told["data"] == b"1"
        ask = line.pipeline(transaction=True).hgetall("guide:served").hgetall("guide:item:a")
        served, row = ask.execute()
    assert int(served[b"version"]) == 1
    assert int(served[b"newest_event_time"]) == 1_700_000_000_001
    assert int(served[b"published_at"]) > 1_700_000_000_001
    assert row[b"vector"] == bytes.fromhex("0000803f00000040")
    sink.close()


def test_postgres_finds_neighbours_with_pgvector_and_does_without(
    services: Callable, tmp_path: Path
) -> None:
    address = services("postgres")["postgres"]
    branches = Branches(tmp_path)
    branches.advance({("item", "a"): [1.0, 0.0], ("item", "b"): [0.0, 1.0]})
    sink = open_sink(f"{address}?prefix=near")
    ship(sink, branches)
    sink.close()
    with psycopg.connect(address, autocommit=True) as line:
        near = (
            "select id from near_embeddings where entity = 'item' and not deleted "
            "order by embedding <#> '[0.9,0.1]' limit 1"
        )
        assert line.execute(near).fetchone() == ("a",)
        line.execute("create schema bare")
    plain = open_sink(
        f"{address}?prefix=plain&options=-csearch_path%3Dbare"
    )  # no `vector` in sight
    ship(plain, branches)
    assert plain.read("item", ["b"])[1]["embedding"].to_pylist() == [[0.0, 1.0]]
    plain.close()
    with psycopg.connect(address) as line:
        kind = "select pg_typeof(embedding)::text from bare.plain_embeddings limit 1"
        assert line.execute(kind).fetchone() == ("real[]",)


def test_the_guides_example_reads_redis(services: Callable, tmp_path: Path) -> None:
    address = services("redis")["redis"]
    guide = (Path(__file__).parents[2] / "docs" / "sinks.md").read_text()
    code = guide.partition("```python\n")[2].partition("```")[0]
    names: dict = {}
    exec(compile(code, "docs/sinks.md", "exec"), names)
    branches = Branches(tmp_path)
    branches.advance({("item", "a"): [1.0, 2.0], ("item", "b"): [3.0, 4.0]})
    sink = open_sink(address)
    ship(sink, branches)
    branches.advance({("item", "a"): [5.0, 6.0], ("item", "b"): None})
    dies_after(sink, 4)  # the pieces are there, the version is not
    with contextlib.suppress(Killed):
        ship(sink, branches)
    with redis.Redis.from_url(address) as line:
        assert int(line.hget("rillet:item:a", "version")) == 2
        got = names["vectors"](line, ["a", "b", "c"])
        assert {name: vector.tolist() for name, vector in got.items()} == {
            "a": [1.0, 2.0],
            "b": [3.0, 4.0],
        }
        with contextlib.closing(open_sink(address)) as other:
            ship(other, branches)
        got = names["vectors"](line, ["a", "b", "c"])
    assert {name: vector.tolist() for name, vector in got.items()} == {"a": [5.0, 6.0]}
