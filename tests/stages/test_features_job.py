"""`rillet features` as a function: any files, shards and workers give the oracle's rows."""

import gzip
import json
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from oracle import feature_rows, from_batch

from pipelines.bounded.features_job import run_features
from pipelines.config import FeatureConfig, JobConfig
from pipelines.errors import JobError, RequestError
from pipelines.schema import DEAD_LETTERS, EVENT_TYPES, EVENTS, FEATURES

NOW = 1_700_000_600_000
CONFIG = FeatureConfig(window="fixed:5s", history=3, retention="20s", shards=3)


def make_log(size: int, seed: int = 0) -> list[dict]:
    """Events of few users in few minutes; ids repeat, also with other users and instants."""
    draw = random.Random(seed)
    log = []
    for _ in range(size):
        user = draw.choice(["u1", "u2", "u3", "u4", "ünal"])
        log.append(
            {
                "event_id": f"e{draw.randrange(3 * size)}",
                "user_id": user,
                "item_id": f"i{draw.randrange(8)}",
                "event_type": draw.choice(EVENT_TYPES),
                "event_time": NOW - 600_000 + 250 * draw.randrange(size),
                "dwell_ms": draw.choice([None, None, 0, 1_500]),
                "value": draw.choice([None, 2.5, 0.1]),
                "session_id": draw.choice([None, f"{user}-1", f"{user}-2"]),
                "platform": draw.choice([None, "web", "app"]),
                "context": draw.choice([None, [], [("country", "NL"), ("device", "tv")]]),
            }
        )
    return log


def write_parquet(path: Path, log: list[dict]) -> str:
    pq.write_table(pa.Table.from_pylist(log, schema=EVENTS), path, row_group_size=50)
    return str(path)


def write_lines(path: Path, log: list[dict]) -> str:
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as file:
        for event in log:
            context = event["context"]
            time = datetime.fromtimestamp(event["event_time"] / 1000, UTC).isoformat()
            line = event | {
                "context": None if context is None else dict(context),
                "event_time": time if event["event_time"] % 500 else event["event_time"],
            }
            file.write(json.dumps(line) + "\n")
    return str(path)


def run(events: list[str], out: Path, config: FeatureConfig = CONFIG, args: tuple = ()) -> dict:
    return run_features(events, out, JobConfig(features=config), list(args), NOW)


def rows_in(out: Path) -> list[dict]:
    table = pq.read_table(out / "features")
    assert table.schema.remove_metadata().types == FEATURES.types
    assert table.schema.names == FEATURES.names
    return from_batch(table)


def test_any_files_and_shards_give_the_oracles_rows(tmp_path):
    log = make_log(400)
    want = feature_rows(log, CONFIG)
    again = log + random.Random(1).sample(log, 40)
    random.Random(2).shuffle(again)
    sources = {
        "parquet": [write_parquet(tmp_path / "a.parquet", log)],
        "lines": [write_lines(tmp_path / "a.jsonl", log)],
        "shuffled": [
            write_parquet(tmp_path / "b.parquet", again[:150]),
            write_lines(tmp_path / "b.jsonl.gz", again[150:200]),
            write_lines(tmp_path / "c.jsonl", again[200:]),
        ],
    }
    for shards, (name, events) in zip([1, 3, 8], sources.items(), strict=True):
        out = tmp_path / name
        summary = run(events, out, CONFIG.model_copy(update={"shards": shards}))
        got = rows_in(out)
        assert [row | {"confidence": 0} for row in got] == [
            row | {"confidence": 0} for row in want
        ], name
        assert [r["confidence"] for r in got] == pytest.approx([r["confidence"] for r in want])
        assert summary == json.loads((out / "summary.json").read_text())
        assert summary["rows"] == len(want)
        assert summary["read"] == summary["valid"] + summary["duplicates"]
        assert summary["read"] == (len(again) if name == "shuffled" else len(log))


def test_worker_processes_change_nothing(tmp_path):
    log = make_log(200)
    events = [write_parquet(tmp_path / f"{n}.parquet", log[n::4]) for n in range(4)]
    args = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
    run(events, tmp_path / "alone")
    summary = run(events, tmp_path / "many", args=args)
    assert rows_in(tmp_path / "many") == rows_in(tmp_path / "alone")
    assert summary == json.loads((tmp_path / "alone" / "summary.json").read_text())


def test_dead_letters_are_kept_and_counted(tmp_path):
    good = write_lines(tmp_path / "a.jsonl", make_log(20))
    bad = tmp_path / "b.jsonl"
    bad.write_text('not json\n{"event_id": "x"}\n')
    summary = run([good, str(bad)], tmp_path / "out")
    assert summary["dead"] == {"bad_json": 1, "missing_field": 1}
    assert summary["read"] == summary["valid"] + summary["duplicates"] + 2
    letters = pq.read_table(tmp_path / "out" / "dead_letters")
    assert letters.schema.remove_metadata().equals(DEAD_LETTERS)
    assert sorted(letters["payload"].to_pylist()) == [b"not json", b'{"event_id": "x"}']


def test_both_folders_have_a_file_when_there_is_nothing(tmp_path):
    (tmp_path / "a.jsonl").write_text("")
    summary = run([str(tmp_path / "a.jsonl")], tmp_path / "out")
    assert (summary["read"], summary["rows"], summary["dead"]) == (0, 0, {})
    assert rows_in(tmp_path / "out") == []
    assert pq.read_schema(tmp_path / "out/dead_letters/part-00000.parquet").names == (
        DEAD_LETTERS.names
    )


def test_a_rerun_replaces_its_own_files_and_a_failed_one_none(tmp_path):
    out = tmp_path / "out"
    first = write_parquet(tmp_path / "a.parquet", make_log(100))
    run([first], out, CONFIG.model_copy(update={"shards": 6}))
    (out / "notes.txt").write_text("mine")
    second = write_parquet(tmp_path / "b.parquet", make_log(50, seed=1))
    run([second], out, CONFIG.model_copy(update={"shards": 1}))
    rows = rows_in_parts(out)
    assert len(rows) == json.loads((out / "summary.json").read_text())["rows"]

    damaged = Path(first)
    content = bytearray(damaged.read_bytes())
    content[20:400] = b"\xff" * 380
    damaged.write_bytes(content)
    with pytest.raises((RequestError, JobError)) as caught:
        run([first], out)
    assert "\n" not in str(caught.value)
    assert rows_in_parts(out) == rows
    ours = {"features", "dead_letters", "summary.json"}
    assert {p.name for p in out.iterdir()} == ours | {"notes.txt"}
    assert (out / "notes.txt").read_text() == "mine"


def test_somebody_elses_file_among_the_rows_is_refused(tmp_path):
    out = tmp_path / "out"
    log = write_parquet(tmp_path / "a.parquet", make_log(20))
    run([log], out)
    (out / "features" / "mine.parquet").write_bytes(b"theirs")
    before = sorted(out.rglob("*"))
    with pytest.raises(RequestError, match=r"mine\.parquet was not written by rillet features"):
        run([log], out)
    assert sorted(out.rglob("*")) == before


def rows_in_parts(out: Path) -> list[dict]:
    files = sorted((out / "features").glob("*.parquet"))
    return from_batch(pa.concat_tables(pq.read_table(file) for file in files))


def test_a_missing_source_leaves_no_folder(tmp_path):
    with pytest.raises(RequestError, match=r"nowhere\.parquet"):
        run([str(tmp_path / "nowhere.parquet")], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    log = write_parquet(tmp_path / "a.parquet", make_log(2_000))
    command = f"{sys.executable} -m pipelines features --events {log} --out {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 8; {command}"],  # files of 8 KiB at most
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "make room" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
