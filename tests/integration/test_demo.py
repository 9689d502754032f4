"""The demo, small: the real job on a simulated stream, and what it shows."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from models.serve.recommend import recommend
from models.serve.served_version import Served
from pipelines.cli.demo_run import DemoSpec, load_snippet, run_demo
from pipelines.errors import RequestError

SMALL = DemoSpec(events=2_500, users=60, items=80)


def shown(out: Path, spec: DemoSpec = SMALL, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=100)
    run_demo(out, spec, console=console, **options)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("demo") / "out"
    return out, shown(out)


def test_it_shows_versions_people_and_embeddings(demo: tuple[Path, str]) -> None:
    out, text = demo
    truth = json.loads((out / "sim/truth.json").read_text())["summary"]
    dead = ", ".join(f"{n} {reason}" for reason, n in truth["malformed"].items())
    assert f"Simulated {truth['lines']:,} lines" in text
    assert "2,500 valid" in " ".join(text.split())
    assert f"{truth['duplicates']} duplicates" in " ".join(text.split())
    assert sum(truth["malformed"].values()) == sum(
        json.loads((out / "run.json").read_text())["dead"].values()
    ), dead
    assert text.count(" lately") == 3
    assert text.count("near your") == 3
    assert "does not know this user" in text
    assert "popul." in text
    assert str(out / "store" / "embeddings") in text


def test_the_three_lines_load_the_embeddings(demo: tuple[Path, str]) -> None:
    out, text = demo
    lines = load_snippet(out / "embeddings.parquet")
    assert lines in text
    assert len(lines.splitlines()) == 3
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["vectors"].shape[0] == len(names["ids"]) > 0
    assert np.isfinite(names["vectors"]).all()


def test_recommendations_are_new_to_the_user_and_out(demo: tuple[Path, str]) -> None:
    out, _ = demo
    served = Served.load(out / "store")
    newest = served.manifest.newest_event_time
    published = {
        row["item_id"]: row["published_at"]
        for row in pq.read_table(out / "sim/items.parquet").to_pylist()
    }
    ids = served.items["item_id"].to_pylist()
    for row in served.users.slice(0, 20).to_pylist():
        seen = {ids[i] for i in row["seen"]}
        answer = recommend(served, row["user_id"], 10)
        assert answer.source == "model"
        assert seen
        for item in answer.items:
            assert item.item_id not in seen
            assert published[item.item_id] <= newest
            assert item.heads is not None
            assert all(0 <= item.heads[name] <= 1 for name in ("click", "like", "purchase"))
        values = [item.value for item in answer.items if item.value is not None]
        assert values == sorted(values, reverse=True)


def test_a_second_call_shows_the_same_at_once(demo: tuple[Path, str]) -> None:
    out, text = demo

    def never(request: Any) -> dict[str, Any]:
        raise AssertionError("the job was run again")

    assert shown(out, run=never) == text


def test_other_settings_start_afresh(demo: tuple[Path, str], tmp_path: Path) -> None:
    def stop(request: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        shown(tmp_path / "out", run=stop)
    assert not (tmp_path / "out/run.json").exists()
    events = (tmp_path / "out/sim/events.jsonl").read_bytes()
    other = DemoSpec(events=2_500, users=60, items=80, seed=8)
    with pytest.raises(KeyboardInterrupt):
        shown(tmp_path / "out", other, run=stop)
    assert (tmp_path / "out/sim/events.jsonl").read_bytes() != events


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RequestError, match="empty or new folder"):
        shown(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
