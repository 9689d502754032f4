"""The folder source: which files are complete, and what a watcher makes of them."""

import json
import os
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import SourceError
from pipelines.read.growing_folder import (
    DirectorySource,
    FilesDone,
    FilesDoneCoder,
    FilesDoneTracker,
    _WatchDoFn,
    list_folder,
)

START_MS = 1_767_225_600_000
NOW_MS = START_MS + 3_600_000


def line(number: int) -> str:
    return json.dumps(
        {
            "event_id": f"e{number}",
            "user_id": "u",
            "item_id": "i",
            "event_type": "click",
            "event_time": START_MS + number * 1_000,
        }
    )


def put(path: Path, numbers: range, *, age_ms: int = 60_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line(n) + "\n" for n in numbers))
    when = (NOW_MS - age_ms) / 1_000
    os.utime(path, (when, when))
    return path


def names(source: DirectorySource, done: frozenset[int] = frozenset()) -> list[str]:
    return [Path(file.path).name for _, file in list_folder(source, NOW_MS, done).new]


def test_only_complete_files_are_seen_oldest_first(tmp_path: Path) -> None:
    put(tmp_path / "b.jsonl", range(1), age_ms=50_000)
    put(tmp_path / "sub" / "a.jsonl", range(1), age_ms=90_000)
    put(tmp_path / "fresh.jsonl", range(1), age_ms=500)
    put(tmp_path / ".hidden.jsonl", range(1))
    put(tmp_path / "_draft" / "c.jsonl", range(1))
    put(tmp_path / "c.jsonl.tmp", range(1))
    put(tmp_path / "notes.txt", range(1))
    half = put(tmp_path / "half.parquet", range(3))
    source = DirectorySource(str(tmp_path))
    assert names(source) == ["a.jsonl", "b.jsonl"]
    pq.write_table(pa.table({"x": [1]}), half)
    os.utime(half, (NOW_MS / 1_000 - 9, NOW_MS / 1_000 - 9))
    assert names(source) == ["a.jsonl", "b.jsonl", "half.parquet"]


def test_what_is_done_stays_done_until_it_is_written_anew_or_gone(tmp_path: Path) -> None:
    source = DirectorySource(str(tmp_path))
    first = put(tmp_path / "a.jsonl", range(1))
    done = list_folder(source, NOW_MS, frozenset()).marks
    assert names(source, done) == []
    put(first, range(2))
    assert names(source, done) == ["a.jsonl"]
    first.unlink()
    assert list_folder(source, NOW_MS, done).marks == frozenset()


@given(
    st.builds(
        FilesDone,
        st.frozensets(st.integers(0, 2**64 - 1), max_size=20),
        st.none() | st.integers(-(2**62), 2**62),
        st.booleans(),
    )
)
def test_the_restriction_survives_its_coder(done: FilesDone) -> None:
    assert FilesDoneCoder().decode(FilesDoneCoder().encode(done)) == done


def watch(source: DirectorySource, done: FilesDone, estimator: ManualWatermarkEstimator):
    """One call of the watcher → (ids, dead letters, what is left to do)."""
    do_fn = _WatchDoFn(source)
    do_fn.setup()
    tracker = ThreadsafeRestrictionTracker(FilesDoneTracker(done))
    ids, dead = [], []
    for out in do_fn.process(source.path, RestrictionTrackerView(tracker), estimator):
        if isinstance(out, TimestampedValue):
            ids += out.value.column("event_id").to_pylist()
        elif isinstance(out, beam.pvalue.TaggedOutput) and out.tag == "dead":
            dead += out.value.value.column("position").to_pylist()
    tracker.check_done()
    left, _ = tracker.deferred_status()
    return ids, dead, left


def test_files_are_read_once_as_they_come_and_the_watermark_follows(tmp_path: Path) -> None:
    source = DirectorySource(str(tmp_path), settle_ms=0, disorder_ms=2_000)
    estimator = ManualWatermarkEstimator(None)
    put(tmp_path / "a.jsonl", range(10))
    ids, dead, left = watch(source, FilesDone(), estimator)
    assert ids == [f"e{n}" for n in range(10)]
    assert dead == []
    assert estimator.current_watermark() == Timestamp(micros=(START_MS + 9_000 - 2_000) * 1_000)
    assert watch(source, left, estimator)[:2] == ([], [])
    with put(tmp_path / "b.jsonl", range(10, 12)).open("a") as file:
        file.write("nonsense\n")
    ids, dead, left = watch(source, left, estimator)
    assert ids == ["e10", "e11"]
    assert len(dead) == 1
    assert left.newest_ms == START_MS + 11_000


def test_a_damaged_file_is_passed_over_and_the_next_one_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = DirectorySource(str(tmp_path), settle_ms=0)
    (tmp_path / "a.jsonl.gz").write_bytes(b"\x1f\x8b nonsense")
    put(tmp_path / "b.jsonl", range(1))
    ids, _, left = watch(source, FilesDone(), ManualWatermarkEstimator(None))
    assert ids == ["e0"]
    assert "a.jsonl.gz is damaged gzip" in caplog.text
    assert len(left.marks) == 2


def test_a_watcher_that_is_stopped_hands_back_what_it_has_not_claimed(tmp_path: Path) -> None:
    source = DirectorySource(str(tmp_path), settle_ms=0)
    put(tmp_path / "a.jsonl", range(1), age_ms=2_000)
    put(tmp_path / "b.jsonl", range(1, 2), age_ms=1_000)
    do_fn = _WatchDoFn(source)
    do_fn.setup()
    tracker = ThreadsafeRestrictionTracker(FilesDoneTracker(FilesDone()))
    work = do_fn.process(
        source.path, RestrictionTrackerView(tracker), ManualWatermarkEstimator(None)
    )
    assert next(work).value.column("event_id").to_pylist() == ["e0"]
    _, left = tracker.try_split(0)
    rest = [out for out in work if isinstance(out, TimestampedValue)]
    assert rest == []  # the first file was finished, the second is not ours any more
    ids, _, _ = watch(source, left, ManualWatermarkEstimator(None))
    assert ids == ["e1"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("dir:/no/such/folder", "is no folder; make it first"),
        ("dir:", "is no folder"),
        ("dir:{0}?pause=1s", "has no option pause; choose from disorder"),
        ("dir:{0}?idle=soon", "idle=soon: 'soon' is not a duration"),
    ],
)
def test_what_is_wrong_is_said_with_the_cure(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=complaint):
        DirectorySource.parse(text.format(tmp_path))


def test_the_options_of_a_folder(tmp_path: Path) -> None:
    source = DirectorySource.parse(f"dir:{tmp_path}?disorder=1s&idle=1m&settle=0")
    assert (source.disorder_ms, source.idle_ms, source.settle_ms) == (1_000, 60_000, 0)
