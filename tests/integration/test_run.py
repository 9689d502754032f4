"""The whole loop on a small log: the same versions whatever way the events come."""

import json
import os
import random
import shutil
import signal
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from leftovers import contents
from loop import HERE, JOB, command, events, run, write

from models.store.manifest import utc_ms
from models.store.store import Store
from pipelines.config import load_job
from pipelines.errors import JobError, RilletError, SourceError, StoreError
from pipelines.job import RunRequest, run_job
from pipelines.schema import EVENTS

KILLER = str(HERE / "killer.py")
NOW = 1_800_000_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("log")
    write(made / "events.jsonl", events(), "{broken\n")
    (made / "job.toml").write_text(JOB)
    return made


def request(folder: Path, store: Path, *sources: Path, shards: int = 3, **changes) -> RunRequest:
    config = load_job(folder / "job.toml", {"features": {"shards": shards}})
    given = {
        "events": tuple(map(str, sources or [folder / "events.jsonl"])),
        "items": None,
        "users": None,
        "store": store,
        "config": config,
        "predictions": None,
        "beam_args": (),
        "now_ms": NOW,
        "trainer": "fake_trainer:FakeTrainer",
    }
    return RunRequest(**(given | changes))


def versions(store: Path) -> dict[str, object]:
    """What two stores must share: batches, manifests, embeddings, checkpoints."""
    return {
        name: value
        for name, value in contents(store).items()
        if not name.startswith(f"{store.name}/dead_letters")
    }


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory) -> tuple[dict, dict[str, object]]:
    store = tmp_path_factory.mktemp("plain") / "store"
    summary = run_job(request(folder, store))
    return summary, versions(store)


def test_the_summary_says_what_happened(plain):
    summary, left = plain
    assert summary["read"] == 421 == summary["valid"] + summary["duplicates"] + 1
    assert summary["dead"] == {"bad_json": 1}
    assert summary["versions"] == summary["served"] == 17
    manifest = left[f"store/versions/{17:06d}.json"]
    assert manifest["digest"] == summary["digest"]
    assert summary["rows"] == sum(
        value["rows"] for name, value in left.items() if name.startswith("store/versions")
    )
    newest = max(event["event_time"] for event in events())
    assert datetime.fromisoformat(summary["max_event_time"]) == utc_ms(newest)


def shuffled(folder: Path, out: Path) -> list[Path]:
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    random.Random(1).shuffle(lines)
    (out / "a.jsonl").write_text("".join(lines))
    return [out / "a.jsonl"]


def repeated(folder: Path, out: Path) -> list[Path]:
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (out / "a.jsonl").write_text("".join(lines + lines[50:150]))
    return [out / "a.jsonl"]


def split(folder: Path, out: Path) -> list[Path]:
    lines = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    for part in range(3):
        (out / f"part-{part}.jsonl").write_text("".join(lines[part::3]))
    return [out / "part-*.jsonl"]


def as_parquet(folder: Path, out: Path) -> list[Path]:
    rows = [{**dict.fromkeys(EVENTS.names), **event} for event in events()]
    table = pa.Table.from_pylist(rows, schema=EVENTS)
    pq.write_table(table, out / "a.parquet", row_group_size=100)
    return [out / "a.parquet"]


@pytest.mark.parametrize("way", [shuffled, repeated, split, as_parquet])
@pytest.mark.parametrize("shards", [1, 7])
def test_whatever_way_the_events_come(folder, plain, tmp_path, way, shards):
    summary, left = plain
    store = tmp_path / "store"
    told = run_job(request(folder, store, *way(folder, tmp_path), shards=shards))
    assert told["digest"] == summary["digest"]
    assert told["duplicates"] == summary["duplicates"] + (100 if way is repeated else 0)
    assert versions(store) == left


def test_several_workers_make_the_same_versions(folder, plain, tmp_path, monkeypatch):
    _, left = plain
    monkeypatch.setenv("PYTHONPATH", command()[1]["PYTHONPATH"])
    workers = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
    run_job(request(folder, tmp_path / "store", beam_args=workers))
    assert versions(tmp_path / "store") == left


# -- at the door -----------------------------------------------------------------


def refused(asked: RunRequest) -> RilletError:
    with pytest.raises(RilletError) as caught:
        run_job(asked)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_missing_source_leaves_no_store(folder, tmp_path):
    error = refused(request(folder, tmp_path / "store", tmp_path / "nothing.jsonl"))
    assert isinstance(error, SourceError)
    assert not (tmp_path / "store").exists()


def test_a_missing_catalogue_leaves_no_store(folder, tmp_path):
    refused(request(folder, tmp_path / "store", items=str(tmp_path / "items.parquet")))
    assert not (tmp_path / "store").exists()


def test_a_store_in_use_is_left_alone(folder, tmp_path):
    store = Store(tmp_path / "store")
    with store.lock():
        error = refused(request(folder, store.root))
    assert isinstance(error, StoreError)
    assert f"in use by run with pid {os.getpid()}" in str(error)


def test_a_foreign_folder_is_left_alone(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    assert "not a Rillet store" in str(refused(request(folder, tmp_path)))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_another_format_is_left_alone(folder, plain, tmp_path):
    store = Store(tmp_path / "store")
    store.create({})
    (store.root / "meta.json").write_text('{"format": 99}')
    assert "has format 99" in str(refused(request(folder, store.root)))


def test_another_configuration_is_refused_by_name(folder, tmp_path):
    store = tmp_path / "store"
    run_job(request(folder, store))
    before = versions(store)
    other = load_job(folder / "job.toml", {"batch": {"min_rows": 31}, "features": {"shards": 9}})
    error = refused(request(folder, store, config=other))
    assert "was made with batch.min_rows = 30, not 31" in str(error)
    assert versions(store) == before


def test_a_store_with_nothing_in_it_takes_another_configuration(folder, plain, tmp_path):
    summary, left = plain
    empty = write(tmp_path / "empty.jsonl", [], "{broken\n")
    other = load_job(folder / "job.toml", {"batch": {"min_rows": 31}})
    told = run_job(request(folder, tmp_path / "store", empty, config=other))
    assert told["versions"] == told["rows"] == 0
    assert told["served"] is told["digest"] is told["max_event_time"] is None
    assert run_job(request(folder, tmp_path / "store"))["digest"] == summary["digest"]
    assert versions(tmp_path / "store") == left


@pytest.mark.parametrize("name", ["store", "predictions"])
def test_a_folder_that_cannot_be_made_is_named(folder, tmp_path, name):
    (tmp_path / "file").write_text("")
    inside = {"store": tmp_path / "store", name: tmp_path / "file" / "folder"}
    error = refused(request(folder, inside.pop("store"), **inside))
    assert isinstance(error, StoreError)
    assert "file/folder cannot be written (Not a directory)" in str(error)


def test_a_failing_worker_is_one_line_and_what_was_made_stays(folder, tmp_path):
    rows = events()
    rows[300] = {**rows[300], "item_id": "crash"}
    write(tmp_path / "events.jsonl", rows)
    error = refused(request(folder, tmp_path / "store", tmp_path / "events.jsonl"))
    assert isinstance(error, JobError)
    assert "failed (RuntimeError: out of something): the versions before it stay" in str(error)
    store = Store.open(tmp_path / "store")
    assert store.current() == store.versions()[-1] > 5


# -- going on ----------------------------------------------------------------------

EVENTS_OF_A_RUN = events(800)
CUT = next(
    i
    for i in range(400, 800)
    if EVENTS_OF_A_RUN[i - 1]["event_time"] // 60_000 < EVENTS_OF_A_RUN[i]["event_time"] // 60_000
)
"""The first event of a window, in the middle."""


def rows_of(store: Path) -> list[str]:
    opened = Store.open(store)
    batches = [opened.read_batch(number)[0] for number in range(1, opened.last_batch() + 1)]
    return sorted(json.dumps(row, default=str) for b in batches for row in b.to_pylist())


@pytest.fixture(scope="module")
def halves(folder, tmp_path_factory):
    """Folder with the stores after one half and after both; the halves; the second's summary."""
    made = tmp_path_factory.mktemp("halves")
    one = write(made / "one.jsonl", EVENTS_OF_A_RUN[:CUT])
    two = write(made / "two.jsonl", EVENTS_OF_A_RUN[CUT:])
    run_job(request(folder, made / "first" / "store", one))
    shutil.copytree(made / "first" / "store", made / "then" / "store")
    summary = run_job(request(folder, made / "then" / "store", two))
    return made, one, two, summary


def test_newer_events_go_on_from_the_store(folder, halves, tmp_path):
    made, one, two, summary = halves
    assert summary["rows"] > 300
    assert summary["duplicates"] == 0
    run_job(request(folder, tmp_path / "store", one, two))
    assert rows_of(tmp_path / "store") == rows_of(made / "then" / "store")


def test_newer_events_may_come_with_the_old_ones(folder, halves, tmp_path):
    made, one, two, summary = halves
    shutil.copytree(made / "first" / "store", tmp_path / "store")
    told = run_job(request(folder, tmp_path / "store", one, two, shards=5))
    assert told["digest"] == summary["digest"]
    assert told["duplicates"] == CUT
    assert told["read"] == told["valid"] + told["duplicates"]
    assert versions(tmp_path / "store") == versions(made / "then" / "store")


def test_a_second_run_that_was_interrupted_goes_on(folder, halves, tmp_path):
    made, _, two, summary = halves
    shutil.copytree(made / "first" / "store", tmp_path / "store")
    args = ["--store", tmp_path / "store", "--events", two, "--config", folder / "job.toml"]
    fake = {"KILLER_TRAINER": "fake_trainer:FakeTrainer"}
    killed = run("run", *args, program=KILLER, KILLER_AT="70", **fake)
    assert killed.status == -signal.SIGKILL
    error = refused(request(folder, tmp_path / "store"))
    assert "goes on with the --events it began with" in str(error)
    assert run("run", *args, program=KILLER, **fake).summary["digest"] == summary["digest"]
    assert versions(tmp_path / "store") == versions(made / "then" / "store")


def test_late_events_revise_and_later_ones_are_dead(folder, tmp_path):
    minute, start = 60_000, 1_700_000_040_000
    assert start % minute == 0

    def event(number: int, at: int, **more) -> dict:
        known = {"event_id": f"n{number}", "user_id": "u", "item_id": "i", "event_type": "like"}
        return known | {"event_time": start + at} | more

    first = [event(1, 1_000), event(2, 150 * minute)]
    late = [event(3, 149 * minute), event(4, 150 * minute + 1), event(5, 10 * minute)]
    later = [event(6, 149 * minute + 1), event(7, 151 * minute)]
    store, seen = tmp_path / "store", []
    for number, part in enumerate((first, [*first, *late], [*late, *later])):
        source = write(tmp_path / f"{number}.jsonl", part)
        seen.append(run_job(request(folder, store, source)))
    assert [s["duplicates"] for s in seen] == [0, 2, 2]
    assert [s["dead"] for s in seen] == [{}, {"too_late": 1}, {"too_late": 1}]
    assert [s["valid"] for s in seen] == [2, 2, 2]
    opened = Store.open(store)
    rows = [r for n in opened.versions() for r in opened.read_batch(n)[0].to_pylist()]
    told = sorted(
        ((r["window_start"].timestamp() * 1_000 - start) // minute, r["revision"]) for r in rows
    )
    assert told == [(0, 0), (149, 1), (149, 2), (150, 0), (150, 1), (151, 0)]
    letters = pq.read_table(store / "dead_letters")
    assert len(letters) == 1, "the same letter is kept once"
    assert json.loads(letters["payload"][0].as_py())["event_id"] == "n5"


def test_another_catalogue_waits_until_an_interrupted_run_is_done(folder, plain, tmp_path):
    one, other = (
        write(tmp_path / f"{n}.jsonl", [{"item_id": "i1", "title": t}])
        for n, t in enumerate(("a", "b"))
    )
    rows = events()
    crash = [*rows[:300], {**rows[300], "item_id": "crash"}, *rows[301:]]
    source = write(tmp_path / "events.jsonl", crash)
    store = tmp_path / "store"
    refused(request(folder, store, source, items=str(one)))
    told = refused(request(folder, store, source, items=str(other)))
    assert "began with other items: give the same --items" in str(told)


def test_a_damaged_catalogue_is_named_and_mended(folder, tmp_path):
    given = str(write(tmp_path / "items.jsonl", [{"item_id": "i1", "title": "a"}]))
    store = Store(tmp_path / "store")
    run_job(request(folder, store.root, items=given))
    made, copy = versions(store.root), store.catalogue_path("items")
    copy.write_bytes(b"junk")
    told = refused(request(folder, store.root))
    assert isinstance(told, StoreError)
    assert f"{copy} cannot be read" in str(told)
    assert "give rillet run --items again" in str(told)
    shutil.rmtree(store.state_path(store.last_state()))  # as if killed before its end
    run_job(request(folder, store.root, items=given))
    assert versions(store.root) == made


# -- a full disk -------------------------------------------------------------------


def limited(folder: Path, store: Path, source: Path, limit: int):
    """A run in which no file can grow beyond `limit` bytes: what a full disk does, well placed."""
    args = ["--store", store, "--events", source, "--config", folder / "job.toml"]
    env = {"KILLER_TRAINER": "fake_trainer:FakeTrainer", "KILLER_FSIZE": str(limit)}
    return run("-q", "run", *args, program=KILLER, **env)


def test_a_full_disk_at_the_first_write_leaves_no_store(folder, tmp_path):
    done = limited(folder, tmp_path / "store", folder / "events.jsonl", 100)
    assert done.status == 1
    assert "no space left to write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "store").exists()


def test_a_full_disk_later_leaves_the_store_as_it_was(folder, halves, tmp_path):
    made, _, two, summary = halves
    store = tmp_path / "store"
    shutil.copytree(made / "first" / "store", store)
    before = versions(store)
    largest = max(len(v) for n, v in before.items() if n.startswith("store/batches"))
    done = limited(folder, store, two, largest // 2)
    assert done.status == 1
    assert f"cannot be written to {store}/state" in done.stderr
    assert "make room there" in done.stderr
    assert "Traceback" not in done.stderr
    assert versions(store) == before
    told = run_job(request(folder, store, two))
    assert told["digest"] == summary["digest"]
    assert versions(store) == versions(made / "then" / "store")
