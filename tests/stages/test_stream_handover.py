"""From runs on files to a stream and back: the same batches, or one line that says what to do."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import beam_stage
import pyarrow as pa
import pytest

from models.store.store import Store
from pipelines.bounded.between_runs import store_compatibility
from pipelines.bounded.between_runs.stream_handover import check_files, check_stream, mark_stream
from pipelines.config import JobConfig
from pipelines.errors import StoreError
from pipelines.job import RunRequest, run_job
from pipelines.live.state.micro_batches import LiveLog
from pipelines.live.state.start_state import StartState
from pipelines.live.state.timer_grid import TimerGrid
from pipelines.live.stateful_stages import _by_id, _Cut, _Dedupe, _Featurize
from pipelines.schema import EVENTS

START_S = 1_767_225_600
MIDDLE_S = START_S + 610
KINDS = ("impression", "view", "click", "purchase", "rating")


def config(window: str) -> JobConfig:
    return JobConfig.model_validate(
        {
            "features": {
                "window": window,
                "shards": 3,
                "history": 5,
                "dedupe_horizon": "1h",
                "allowed_lateness": "10m",
            },
            "batch": {"min_rows": 20, "max_rows": 30, "max_wait": "2m"},
        }
    )


def log(begin_s: int, end_s: int, seed: int) -> list[dict[str, Any]]:
    """Events of a few users, a second or so apart, in order."""
    dice, told, now = random.Random(seed), [], begin_s
    while now < end_s:
        kind = dice.choice(KINDS)
        told.append(
            {
                "event_id": f"e{seed}-{len(told)}",
                "user_id": f"u{dice.randrange(12)}",
                "item_id": f"i{dice.randrange(6)}",
                "event_type": kind,
                "event_time": now * 1_000 + dice.randrange(1_000),
                "value": 2.0 if kind in {"purchase", "rating"} else None,
            }
        )
        now += dice.randrange(3)
    return sorted(told, key=lambda event: event["event_time"])


def on_files(events: list[dict[str, Any]], store: Path, job: JobConfig) -> dict[str, Any]:
    """`rillet run` on a file."""
    path = store.parent / f"{len(events)}.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return run_job(
        RunRequest(
            events=(str(path),),
            items=None,
            users=None,
            store=store,
            config=job,
            predictions=None,
            beam_args=(),
            now_ms=(START_S + 86_400) * 1_000,
            trainer="tests.support.fake_trainer:FakeTrainer",
        )
    )


def as_stream(events: list[dict[str, Any]], store: Store, job: JobConfig) -> None:
    """The stages of the live job, on events in their order, one at a time."""
    features, state = job.features, store.state_path(store.last_state())
    stages = [
        beam_stage.Stage(_Dedupe(StartState(features, state))),
        beam_stage.Stage(_Featurize(StartState(features, state))),
        beam_stage.Stage(
            _Cut(
                LiveLog(store, job.batch, features.history),
                TimerGrid.of_rows(features.window),
                store.last_batch(),
                None,
            )
        ),
    ]
    for at in range(0, len(events), 40):
        some = events[at : at + 40]
        for keyed in _by_id(pa.RecordBatch.from_pylist(some, schema=EVENTS), features.shards):
            stages[0].take(keyed)
        beam_stage.advance(stages, some[-1]["event_time"] - 1_000)
    beam_stage.advance(stages, 2**55)


def hashes(store: Store) -> list[str]:
    return [store.read_batch(number)[1] for number in store.batches()]


@pytest.mark.parametrize("window", ["fixed:30s", "sliding:60s/20s", "session:20s"])
def test_a_stream_goes_on_from_a_file_as_a_second_file_would(tmp_path: Path, window: str) -> None:
    job, first, second = config(window), tmp_path / "first", tmp_path / "second"
    earlier = log(START_S, MIDDLE_S, 1)
    # The stream repeats some of the file, which ended in the middle of a window.
    later = earlier[-50:] + log(MIDDLE_S, MIDDLE_S + 400, 2)
    on_files(earlier, first, job)
    shutil.copytree(first, second)
    made = Store(first).last_batch()
    on_files(later, first, job)
    check_stream(Store(second), resumed=False, start_given=False)
    as_stream(later, Store(second), job)
    wanted = hashes(Store(first))
    assert len(wanted) > made + 3
    revisions = [
        n
        for number in range(made + 1, len(wanted) + 1)
        for n in Store(first).read_batch(number)[0].column("revision").to_pylist()
    ]
    assert max(revisions) == (not window.startswith("session"))  # its end moves with the gap
    assert hashes(Store(second)) == wanted


def test_a_file_after_a_stream_is_refused_with_what_to_do(tmp_path: Path) -> None:
    job, folder = config("fixed:30s"), tmp_path / "store"
    on_files(log(START_S, MIDDLE_S, 1), folder, job)
    store = Store(folder)
    mark_stream(store, "kafka://h:1/clicks?start=latest")
    check_files(store)  # nothing has come of it yet
    last = store.last_batch()
    as_stream(log(MIDDLE_S, MIDDLE_S + 200, 2), store, job)
    mark_stream(store, "kafka://h:1/clicks")  # launched again: its beginning stays
    with pytest.raises(StoreError, match=f"fed by kafka://h:1/clicks since micro-batch {last + 1}"):
        on_files(log(MIDDLE_S + 200, MIDDLE_S + 400, 3), folder, job)
    with pytest.raises(StoreError, match=r"--savepoint_path=.*\?start=latest"):
        check_stream(store, resumed=False, start_given=False)
    check_stream(store, resumed=True, start_given=False)
    check_stream(store, resumed=False, start_given=True)


def test_a_stream_after_an_interrupted_file_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    on_files(log(START_S, MIDDLE_S, 1), folder, config("fixed:30s"))
    store = Store(folder)
    check_stream(store, resumed=False, start_given=False)
    shutil.rmtree(store.state_path(store.last_state()))  # as if killed before its end
    with pytest.raises(StoreError, match="interrupted run on files: bring that to its end"):
        check_stream(store, resumed=False, start_given=True)


def test_a_stream_that_could_not_be_launched_leaves_no_store(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")

    def launch() -> None:
        with store_compatibility.hold_for_run(store, config("fixed:30s")):
            mark_stream(store, "kafka://h:1/clicks")
            raise OSError("no cluster")

    with pytest.raises(OSError, match="no cluster"):
        launch()
    assert store.is_new()


def test_a_damaged_mark_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    store.create({})
    mark_stream(store, "kafka://h:1/clicks")
    (store.root / "state" / "stream.json").write_text("{")
    with pytest.raises(StoreError, match=r"stream\.json cannot be read.*restore it"):
        check_files(store)
