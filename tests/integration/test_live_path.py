"""The live path on a real Kafka and a real Flink: windows, savepoints, errors that end a job."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.store.store import Store
from tests.integration import live_job, stream
from tests.integration.chaos import wait_for
from tests.integration.live_job import finish, settings, start

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

FLINK = "--runner=FlinkRunner"


@pytest.fixture
def cluster(
    services: Callable, local_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Kafka, Flink and the job server; jobs find them by themselves."""
    monkeypatch.setenv("PYTHONPATH", str(stream.REPOSITORY))  # workers import the tests' trainers
    monkeypatch.setenv("RILLET_LOCAL", str(local_directory))
    return services("kafka", "flink", "beam")


@pytest.mark.parametrize("window", ["sliding:20s/10s", "session:6s"])
def test_other_windows_give_the_batches_of_a_bounded_run(
    cluster: dict[str, str], tmp_path: Path, window: str
) -> None:
    name = stream.topic(cluster["kafka"], 2)
    stream.produce(cluster["kafka"], name, stream.payloads(12_000), 2)
    uri, job = f"kafka://{cluster['kafka']}/{name}?until=now&batch=1000", settings(window=window)
    bounded, streamed = tmp_path / "bounded", tmp_path / "streamed"
    wanted = finish(uri, bounded, log=tmp_path / "bounded.log", job=job)
    told = finish(
        f"{uri}&stay=0&readers=2",
        streamed,
        FLINK,
        "--parallelism=2",
        log=tmp_path / "streamed.log",
        job=job,
    )
    assert stream.lineage(streamed) == stream.lineage(bounded)
    assert told["rows"] == wanted["rows"]
    assert told["dead"] == {}


def test_a_session_that_is_open_goes_through_a_savepoint_to_another_parallelism(
    cluster: dict[str, str], rillet: Callable, tmp_path: Path
) -> None:
    name, messages = stream.topic(cluster["kafka"], 2), stream.payloads(16_000, seed=5)
    topic, job = f"kafka://{cluster['kafka']}/{name}", settings(window="session:6s")
    stream.produce(cluster["kafka"], name, messages[:8_000], 2)
    # Half of the events lies in the topic for a while: that must not count as idle.
    slow, store = f"{topic}?batch=1000&stay=0&readers=2&idle=1h", tmp_path / "store"
    first = start(slow, store, FLINK, log=tmp_path / "first.log", job=job)
    wait_for(lambda: len(Store(store).versions()) >= 2, lambda: first.poll() is None, 200)
    stopped = rillet("local", "savepoint", "--json")
    assert stopped.status == 0, stopped.stderr
    stream.finish(first, tmp_path / "first.log", 120)
    made = Store(store).last_batch()

    stream.produce(cluster["kafka"], name, messages[8_000:], 2)
    finish(f"{topic}?until=now", tmp_path / "calm", log=tmp_path / "calm.log", job=job)
    wanted, _ = stream.lineage(tmp_path / "calm")
    enough = len(wanted) - 2  # the last sessions are open: no end has been declared
    assert 2 <= made < enough
    path = f"--savepoint_path={json.loads(stopped.stdout)['savepoint']}"
    log = tmp_path / "second.log"
    second = start(slow, store, FLINK, "--parallelism=2", path, log=log, job=job)
    wait_for(lambda: len(Store(store).versions()) >= enough, lambda: second.poll() is None, 200)
    assert second.poll() is None, log.read_text()
    assert rillet("local", "savepoint").status == 0
    stream.finish(second, log, 120)
    got = [Store(store).read_batch(n)[1] for n in range(1, enough + 1)]
    assert got == wanted[:enough]


def test_what_a_worker_refuses_ends_the_job_with_its_line(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    name = stream.topic(cluster["kafka"], 1)
    stream.produce(cluster["kafka"], name, stream.payloads(4_000), 1)
    job = start(
        f"kafka://{cluster['kafka']}/{name}",
        tmp_path / "store",
        FLINK,
        log=tmp_path / "log",
        trainer=f"{live_job.__name__}:Refusing",
    )
    try:
        assert job.wait(200) == 2
    finally:
        job.kill()
        job.wait()
    said = (tmp_path / "log").read_text().splitlines()
    assert said[-1] == "rillet: the trainer wants 9 wheels, there are 4: give it 9"
