"""`rillet evaluate` without a replay: what manifests say, and mistakes in one line."""

import json

import pytest
from click.testing import CliRunner
from manifests import manifest

from models.errors import RequestError
from models.evaluation.from_manifests import recorded_metrics
from models.store.manifest import Verdict
from models.store.store import Store
from pipelines.cli import cli
from pipelines.cli.evaluation_tables import show_evaluation


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "store")
    made.create({})
    arm = {"recall@20": 0.25, "ndcg@20": 0.1}
    told = [
        manifest(
            n,
            metrics={
                "evaluated": 10 * n,
                "recall@20": 0.5 if n % 2 else 0.1,
                "ndcg@20": 0.2,
                "mrr@20": 0.1,
                "baselines": {"popularity": arm, "transitions": arm},
            },
            gate=Verdict(served=n != 7, reasons=[] if n != 7 else ["x"]),
        )
        for n in range(1, 21)
    ]
    told.append(manifest(21, metrics={"evaluated": 0, "recall@20": None}))
    made.put_manifests(told)
    return made


def test_means_are_weighted_by_rows(store):
    told = recorded_metrics(store, last=0.5)
    rows = {n: 10 * n for n in range(12, 21)}  # of the 20 that were not refused the last ten
    recall = sum(r * (0.5 if n % 2 else 0.1) for n, r in rows.items()) / sum(rows.values())
    assert told["what"]["questions"] == sum(rows.values())
    assert told["what"]["refused"] == 1
    assert told["ranking"]["live"]["recall@20"]["value"] == pytest.approx(recall, abs=1e-6)
    beside = told["against"]["popularity"]["recall@20"]
    assert beside["ratio"]["value"] == pytest.approx(recall / 0.25, abs=1e-5)
    assert beside["difference"]["value"] == pytest.approx(recall - 0.25, abs=1e-6)
    assert beside["difference"]["low"] < recall - 0.25 < beside["difference"]["high"]
    assert "mrr@20" not in told["against"]["popularity"]  # not on record for baselines
    assert sum(block["questions"] for block in told["blocks"]) == sum(10 * n for n in range(1, 21))


def test_the_last_part_is_of_all_micro_batches_with_or_without_questions(tmp_path):
    made = Store(tmp_path / "store")
    made.create({})
    made.put_manifests(
        [
            manifest(n, metrics={"evaluated": 10, "recall@20": 0.5} if n <= 6 else {"evaluated": 0})
            for n in range(1, 11)
        ]
    )
    told = recorded_metrics(made, last=0.5)
    assert (told["what"]["first_judged"], told["what"]["last_judged"]) == (6, 10)
    assert told["what"]["questions"] == 10
    nothing = recorded_metrics(made, last=0.2)
    assert nothing["what"]["questions"] == 0
    assert nothing["ranking"]["live"]["recall@20"]["value"] is None
    assert "micro-batches 9 to 10, 0 predicted rows" in " ".join(show_evaluation(nothing).split())


def test_blocks_have_equal_numbers_of_questions(store):
    rows = [block["questions"] for block in recorded_metrics(store, blocks=5)["blocks"]]
    assert len(rows) == 5
    fair, largest = sum(10 * n for n in range(1, 21)) / 5, 200
    assert all(abs(n - fair) <= largest for n in rows)


@pytest.mark.parametrize(
    "option", [("-k", "20"), ("--batches", "9"), ("--compare", "none"), ("--epochs", "2")]
)
def test_quick_takes_no_option_of_the_replay(rillet, option):
    done = rillet("evaluate", "--store", "x", "--quick", *option)
    assert done.status == 2
    (line,) = done.stderr.strip().splitlines()
    assert f"{option[0]} needs the replay" in line
    assert "leave out" in line


def test_quick_needs_no_tensorflow(store, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow", None)  # an import would raise
    args = ["evaluate", "--store", str(store.root), "--quick"]
    shown = CliRunner().invoke(cli, args)
    assert shown.exit_code == 0, shown.output
    assert "live over the others" in shown.stdout
    told = json.loads(CliRunner().invoke(cli, [*args, "--json"]).stdout)
    assert set(told["ranking"]) == {"live", "popularity", "transitions"}


def test_no_version_no_figures(tmp_path):
    empty = Store(tmp_path / "empty")
    empty.create({})
    with pytest.raises(RequestError, match="no version with predictions to evaluate"):
        recorded_metrics(empty)


def test_versions_without_a_question_are_said_to_have_none(tmp_path):
    made = Store(tmp_path / "made")
    made.create({})
    made.put_manifests([manifest(n, metrics={"evaluated": 0}) for n in (1, 2)])
    with pytest.raises(RequestError, match=r"its 2 are of impressions and dislikes alone"):
        recorded_metrics(made)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--store", "nowhere"], ["nowhere", "rillet run"]),
        (["--store", "nowhere", "--quick"], ["nowhere", "rillet run"]),
        (["--store", "x", "--last", "1.5"], ["--last", "1.5"]),
        (["--store", "x", "--last", "nan"], ["--last", "nan is not a finite number"]),
        (["--store", "x", "-k", "0"], ["-k", "0"]),
        (["--store", "x", "--compare", "worse"], ["'worse'", "stale"]),
        ([], ["--store"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(rillet, args, words):
    done = rillet("evaluate", *args)
    assert done.status == 2
    assert done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    for word in words:
        assert word in line


def test_an_empty_store_is_one_line_and_status_2(rillet, tmp_path):
    Store(tmp_path / "made").create({"model": {}, "features": {}})
    done = rillet("evaluate", "--store", "made", "--quick")
    assert done.status == 2
    assert "no version with predictions" in done.stderr
    assert Store(tmp_path / "made").last_batch() == 0
