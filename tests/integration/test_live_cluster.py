"""The live job on a real Kafka and a real Flink: as bounded, whatever is killed."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import pyarrow.parquet as pq
import pytest

from models.store.store import Store
from pipelines.local import process, stop_with_savepoint
from pipelines.publish import catch_up_sinks
from tests.integration import stream
from tests.integration.chaos import VICTIMS, ordeal, wait_for

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture
def cluster(
    services: Callable, local_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """Kafka, Flink and the job server; jobs find them by themselves."""
    monkeypatch.setenv("PYTHONPATH", str(stream.REPOSITORY))  # workers import the tests' trainer
    monkeypatch.setenv("RILLET_LOCAL", str(local_directory))
    return services("kafka", "flink", "beam", "redis")


@pytest.mark.timeout(900)
def test_killed_at_random_it_ends_as_if_undisturbed(
    cluster: dict[str, str], local_directory: Path, tmp_path: Path
) -> None:
    kills = ordeal(
        local_directory,
        cluster["kafka"],
        f"{cluster['redis']}?prefix=chaos",
        tmp_path,
        events=60_000,
        victims=list(VICTIMS),
        seed=int(os.environ.get("RILLET_CHAOS_SEED", "1")),
    )
    assert len(kills) >= 3


@pytest.mark.timeout(600)
def test_neither_bad_events_nor_a_poisoned_batch_nor_a_sink_that_is_away_stop_the_stream(
    cluster: dict[str, str], services: Callable, local_directory: Path, tmp_path: Path
) -> None:
    name = stream.topic(cluster["kafka"], 1)
    messages = stream.payloads(4_000)
    event = json.loads(messages[0])
    ancient = {**event, "event_id": "ancient", "event_time": stream.START_MS - 86_400_000}
    later = stream.START_MS + 3_600_000
    tail = [{**event, "event_id": f"t{i}", "event_time": later + i * 1_000} for i in range(600)]
    tail[100] |= {"item_id": "poison"}
    tail[300] |= {"item_id": "crash"}
    messages = [*messages[:2_000], b"{nonsense", *messages[2_000:]]
    messages += [json.dumps(row).encode() for row in tail]
    messages += [json.dumps(ancient).encode()]
    stream.produce(cluster["kafka"], name, messages, 1)
    uri = f"kafka://{cluster['kafka']}/{name}?until=now&batch=1000&stay=0"
    store, log = tmp_path / "store", tmp_path / "log"
    sink = f"{cluster['redis']}?prefix=away"
    options = ["--runner=FlinkRunner", f"--sink={sink}", "--flush-s=3"]
    job = stream.launch(uri, store, *options, log=log)
    wait_for((store / "meta.json").exists, lambda: job.poll() is None, 200)
    assert process.kill(local_directory, "redis")
    told = stream.finish(job, log, 300)
    (state,) = told["sinks"].values()
    assert state == {"version": 0, "behind": told["served"]}
    assert "versions behind: the next rillet run with it catches it up" in log.read_text()
    assert told["dead"] == {"bad_json": 1, "too_late": 1}
    letters = pq.read_table(store / "dead_letters").to_pylist()
    assert sorted(letter["reason"] for letter in letters) == ["bad_json", "too_late"]
    (bad,) = [letter for letter in letters if letter["reason"] == "bad_json"]
    assert bad["payload"] == b"{nonsense"
    assert bad["source"] == f"{name}/0"
    assert told["read"] == len(messages)
    stream.lineage(store)
    versions = [Store(store).manifest(n) for n in Store(store).versions()]
    refused = [manifest for manifest in versions if not manifest.gate.served]
    # A loss that is no number, a step that raised: refused, and the next one is served again.
    assert len(refused) == 2
    assert versions[-1].gate.served
    services("redis")
    catch_up_sinks(Store(store), [sink], 60.0)
    stream.assert_served(sink, store)


@pytest.mark.timeout(900)
def test_stopped_with_a_savepoint_it_goes_on_with_another_parallelism(
    cluster: dict[str, str], tmp_path: Path
) -> None:
    name, messages = stream.topic(cluster["kafka"], 2), stream.payloads(20_000, seed=3)
    topic, flink = f"kafka://{cluster['kafka']}/{name}", "--runner=FlinkRunner"
    stream.produce(cluster["kafka"], name, messages[:10_000], 2)
    slow, store = f"{topic}?batch=2000&stay=0&readers=2&idle=1h", tmp_path / "store"
    first = stream.launch(slow, store, flink, log=tmp_path / "first.log")
    wait_for(lambda: len(Store(store).versions()) >= 2, lambda: first.poll() is None, 200)
    stopped = stop_with_savepoint(cluster["flink"])
    stream.finish(first, tmp_path / "first.log", 120)
    told = (Path(urlparse(stopped.savepoint).path) / "_metadata").read_bytes()
    # However often the source was read, what it left to do has one state: Flink forgets none.
    names = set(re.findall(rb"sdf_checkpoint:\d*:\d+", told))
    assert names
    assert names <= {b"sdf_checkpoint::0", b"sdf_checkpoint::1"}
    made = Store(store).last_batch()

    stream.produce(cluster["kafka"], name, messages[10_000:], 2)
    calm, log = tmp_path / "calm", tmp_path / "calm.log"
    stream.finish(stream.launch(f"{topic}?until=now", calm, log=log), log, 300)
    wanted, _ = stream.lineage(calm)
    # The events of the last windows still wait: no end of the stream has been declared.
    enough = len(wanted) - 2
    assert 2 <= made < enough
    options = [flink, "--parallelism=2", f"--savepoint_path={stopped.savepoint}"]
    second = stream.launch(slow, store, *options, log=tmp_path / "second.log")
    wait_for(lambda: len(Store(store).versions()) >= enough, lambda: second.poll() is None, 200)
    assert second.poll() is None, (tmp_path / "second.log").read_text()
    stop_with_savepoint(cluster["flink"])
    stream.finish(second, tmp_path / "second.log", 120)
    got = [Store(store).read_batch(n)[1] for n in range(1, enough + 1)]
    assert got == wanted[:enough]
