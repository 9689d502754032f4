"""`rillet run --sink`: what the sinks hold afterwards is what the store says."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from branches import Branches
from loop import JOB, events, run, write

from pipelines.config import load_job
from pipelines.errors import RequestError
from pipelines.job import RunRequest, run_job
from pipelines.local import process, up
from pipelines.publish import open_sink
from pipelines.publish.missing_rows import rows_missing_in
from pipelines.publish.sink_threads import Follower
from tests.integration import stream

pytestmark = pytest.mark.integration

_numbers = itertools.count()


@pytest.fixture
def sinks(services: Callable) -> list[str]:
    """One of each kind, with nothing in it."""
    found = services("redis", "postgres")
    return [f"{found[kind]}?prefix=r{next(_numbers)}" for kind in ("redis", "postgres")]


@pytest.fixture
def job(tmp_path: Path) -> Callable[..., RunRequest]:
    """Requests for a run with a trainer that only counts."""
    (tmp_path / "job.toml").write_text(JOB)
    write(tmp_path / "events.jsonl", events())

    def request(*sinks: str, **more) -> RunRequest:
        return RunRequest(
            events=(str(tmp_path / "events.jsonl"),),
            items=None,
            users=None,
            store=tmp_path / "store",
            config=load_job(tmp_path / "job.toml"),
            predictions=None,
            beam_args=(),
            now_ms=1_800_000_000_000,
            trainer="fake_trainer:FakeTrainer",
            sinks=sinks,
            **more,
        )

    return request


def test_both_sinks_end_equal_to_the_store(sinks: list[str], job: Callable) -> None:
    told = run_job(job(*sinks))
    assert told["served"] > 5
    current = {"version": told["served"], "behind": 0}
    assert list(told["sinks"].values()) == [current, current]
    for uri in sinks:
        stream.assert_served(uri, job().store)


def test_a_sink_that_is_behind_is_caught_up_by_the_next_run(
    sinks: list[str], job: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipelines.bounded.job.check_sinks", lambda *_: None
    )  # it went away just then
    away = "redis://:hunter2@127.0.0.1:9/0"
    told = run_job(job(away, flush_s=0.2))
    assert told["sinks"] == {"redis://127.0.0.1:9/0": {"version": 0, "behind": told["served"]}}
    again = run_job(job(*sinks))  # nothing to train on: the sinks are new to it
    assert again["rows"] == 0
    for uri in sinks:
        stream.assert_served(uri, job().store)


def test_a_sink_of_another_store_is_refused(
    sinks: list[str], job: Callable, tmp_path: Path
) -> None:
    other = Branches(tmp_path / "other")
    other.advance({("item", "a"): [1.0, 2.0]})
    for uri in sinks:
        sink = open_sink(uri)
        shipment = rows_missing_in(other.store, sink.held())
        assert shipment is not None
        sink.publish(shipment)
        sink.close()
        with pytest.raises(RequestError, match="holds version 1 of another store"):
            run_job(job(uri))
        assert not job().store.exists()


@pytest.mark.parametrize(
    ("uri", "events"),
    [
        ("redis://:hunter2@127.0.0.1:9/0", "events.jsonl"),
        ("postgresql://me:hunter2@127.0.0.1:9/d", "kafka://127.0.0.1:9/clicks"),
    ],
)
def test_a_sink_that_does_not_answer_is_refused_before_anything_is_written(
    uri: str, events: str, job: Callable, tmp_path: Path
) -> None:
    job()
    source = events if "://" in events else tmp_path / events
    flink = ["--runner=FlinkRunner", "--job_endpoint=127.0.0.1:9"] if "://" in events else []
    ended = run("run", "--events", source, "--store", tmp_path / "store", "--sink", uri, *flink)
    assert ended.status == 2
    assert ended.stderr.strip().count("\n") == 0
    assert f"--sink {uri.partition(':')[0]}://127.0.0.1:9/" in ended.stderr
    assert "start it or correct the address" in ended.stderr
    assert "hunter2" not in ended.stderr
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("kind", ["redis", "postgres"])
def test_a_sink_killed_while_it_takes_versions_in_ends_whole(
    kind: str, services: Callable, local_directory: Path, tmp_path: Path
) -> None:
    uri = f"{services(kind)[kind]}?prefix=k{next(_numbers)}"
    branches, ids = Branches(tmp_path), [f"i{n}" for n in range(300)]
    branches.advance({("item", one): [1.0, 1.0] for one in ids})
    follower = Follower(branches.store, open_sink(uri), longest_s=0.2)
    for n in range(2, 42):
        branches.advance({("item", one): [float(n), 0.0] for one in ids}, snapshot=n % 10 == 0)
        follower.wake()
        if n % 13 == 0:
            assert process.kill(local_directory, kind)
            up(local_directory, only=[kind], timeout_s=60)
            reader = open_sink(uri)
            version, rows = reader.read("item", ids)
            assert rows.to_pylist() == [] or {
                tuple(row["embedding"]) for row in rows.to_pylist()
            } == {tuple(branches.seen[version]["item", "i0"])}
            reader.close()
    assert follower.finish(60.0)
    counted, _ = follower.told()
    follower.close()
    assert counted["sink_versions"] > 1
    stream.assert_served(uri, branches.store.root)
