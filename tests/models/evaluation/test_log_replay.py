"""`rillet evaluate` on a small log: the same figures as a trainer's own predictions give."""

import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from feedback import batches, event
from logged import logged
from manifests import manifest
from scripted_log import SMALL, items, script

from models.errors import RequestError, StoreError
from models.evaluation.from_manifests import recorded_metrics
from models.evaluation.log_replay import ARMS, Request, replay
from models.evaluation.report import evaluation_report
from models.feature_batch import read_batch
from models.network.weights import weights_by_name
from models.store.manifest import Verdict
from models.store.store import Store
from models.store.training_log import TrainingLog
from models.training.trainer import Trainer
from pipelines.cli import cli
from pipelines.cli.evaluation_tables import show_evaluation

K = 5


@pytest.fixture(scope="module")
def cut():
    return batches(script())


@pytest.fixture(scope="module")
def store(tmp_path_factory, cut):
    return logged(tmp_path_factory.mktemp("log"), cut, SMALL, items())


@pytest.fixture(scope="module")
def run(store):
    return replay(Request(store=store, config=SMALL, k=K, epochs=1))


@pytest.fixture(scope="module")
def told(run):
    return evaluation_report(run)


@pytest.fixture(scope="module")
def predicted(cut):
    """What a trainer of its own predicted for the last half: (batch, rows of PREDICTIONS)."""
    trainer = Trainer(SMALL, items(), None)
    results = [trainer.step(n, part, predictions=True) for n, part in enumerate(cut, 1)]
    half = round(0.5 * len(cut))
    return [
        (read_batch(part), result.predictions.to_pylist())
        for part, result in list(zip(cut, results, strict=True))[half:]
    ]


def test_live_is_what_the_trainer_does(told, predicted):
    ranks = [r["rank"] or math.inf for _, rows in predicted for r in rows]
    live = told["ranking"]["live"]
    assert told["what"]["questions"] == len(ranks) > 100
    mean = lambda gain: sum(gain(r) for r in ranks) / len(ranks)  # noqa: E731
    assert live[f"recall@{K}"]["value"] == pytest.approx(mean(lambda r: r <= K), abs=2e-3)
    gain = mean(lambda r: 1 / math.log2(1 + r) if r <= K else 0)
    assert live[f"ndcg@{K}"]["value"] == pytest.approx(gain, abs=2e-3)
    assert live[f"mrr@{K}"]["value"] == pytest.approx(
        mean(lambda r: 1 / r if r <= K else 0), abs=2e-3
    )


def test_requests_are_users_within_a_batch(told, predicted):
    hits, precision, f1 = [], [], []
    for _, rows in predicted:
        for user in {r["user_id"] for r in rows}:
            mine = [(r["rank"] or math.inf) <= K for r in rows if r["user_id"] == user]
            hits.append(any(mine))
            precision.append(sum(mine) / K)
            f1.append(2 * sum(mine) / (K + len(mine)))
    live = told["ranking"]["live"]
    assert told["what"]["requests"] == len(hits)
    assert live[f"hit_rate@{K}"]["value"] == pytest.approx(np.mean(hits), abs=2e-3)
    assert live[f"precision@{K}"]["value"] == pytest.approx(np.mean(precision), abs=2e-3)
    assert live[f"f1@{K}"]["value"] == pytest.approx(np.mean(f1), abs=2e-3)


def test_coverage_is_of_what_was_listed(told, predicted):
    listed = {item for _, rows in predicted for r in rows for item in r["top20"][:K]}
    assert told["lists"]["live"][f"listed@{K}"] == len(listed)
    varied = told["lists"]["live"][f"category_diversity@{K}"]
    assert 0 < varied["low"] < varied["value"] < varied["high"] < 1


def test_coverage_is_of_ids_where_rows_are_recycled(tmp_path, cut):
    tight = SMALL.model_copy(update={"item_limit": 20})
    store = logged(tmp_path, cut, tight)
    told = evaluation_report(replay(Request(store=store, config=tight, k=K, arms=(), epochs=1)))
    trainer, listed, offered = Trainer(tight, None, None), set(), set()
    for number, part in enumerate(cut, 1):
        names, known = trainer.state.item_ids.names, np.flatnonzero(trainer.state.items.known)
        before = {names[row] for row in known.tolist()}
        rows = trainer.step(number, part, predictions=True).predictions.to_pylist()
        if number > round(0.5 * len(cut)):
            offered |= before
            listed |= {item for r in rows for item in r["top20"][:K]}
    assert len(offered) > 20 > len(before)
    assert told["lists"]["live"][f"listed@{K}"] == len(listed)
    assert told["lists"]["live"][f"coverage@{K}"]["value"] == len(listed) / len(offered)


def test_slices_part_the_rows(told):
    rows = {name: found["questions"] for name, found in told["slices"].items()}
    for one, other in (("new_users", "old_users"), ("new_items", "old_items")):
        assert rows[one] + rows[other] == told["what"]["questions"]
    assert rows["head_items"] + rows["tail_items"] == told["what"]["questions"]
    total = sum(
        found[f"recall@{K}"]["live"]["value"] * found["questions"]
        for name, found in told["slices"].items()
        if name in ("new_items", "old_items") and found["questions"]
    )
    whole = told["ranking"]["live"][f"recall@{K}"]["value"] * told["what"]["questions"]
    assert total == pytest.approx(whole, abs=0.01)


def test_blocks_part_the_log(told, cut):
    rows = [block["questions"] for block in told["blocks"]]
    assert sum(rows) == sum(read_batch(part).wanted.sum() for part in cut)
    assert len(rows) == 5
    assert max(rows) < 2 * min(rows)


def test_quick_speaks_of_the_same_part_and_the_same_blocks(told, run, store, tmp_path):
    rows = run.contestants["live"].ranks.rows[:, 0].astype(int).tolist()
    shutil.copytree(store.root, tmp_path / "store")
    ran = Store(tmp_path / "store")
    figures = [{"evaluated": n, "recall@20": 0.5} if n else {"evaluated": 0} for n in rows]
    ran.put_manifests([manifest(n, metrics=one) for n, one in enumerate(figures, 1)])
    quick = recorded_metrics(ran, run.request.last, run.request.blocks)
    for name in ("first_judged", "last_judged", "questions"):
        assert quick["what"][name] == told["what"][name]
    assert [b["questions"] for b in quick["blocks"]] == [b["questions"] for b in told["blocks"]]


def test_a_log_of_impressions_has_tables_without_figures(tmp_path):
    shown = [event(i, f"u{i % 3}", f"i{i % 7}", 40.0 * i, "impression") for i in range(60)]
    store = logged(tmp_path, batches(shown), SMALL)
    found = evaluation_report(replay(Request(store=store, config=SMALL, k=K, arms=())))
    assert found["blocks"] == []
    assert "half_life_h" not in found["baselines"]["transitions"][f"recall@{K}"]
    text = show_evaluation(found)
    assert "block of time" not in text
    assert not any(arm in text for arm in ("1 h", "24 h", "no decay"))


def test_every_model_is_judged_on_the_same_questions(told):
    assert list(told["ranking"]) == ["live", *ARMS]
    assert set(told["against"]) == {"popularity", "transitions", *ARMS}
    assert {"like", "rating", "purchase"} <= set(told["heads"]["live"])
    rows = {name: found["like"]["rows"] for name, found in told["heads"].items()}
    assert len(set(rows.values())) == 1


def test_slices_part_the_heads_rows(told):
    like = told["heads"]["live"]["like"]
    rows = {name: found["rows"] for name, found in like["slices"].items()}
    for one, other in (("new_users", "old_users"), ("new_items", "old_items")):
        if one in rows and other in rows:
            assert rows[one] + rows[other] == like["rows"]
    assert rows


def test_a_figure_against_itself_in_other_words(told):
    live, other = (told["ranking"][n][f"recall@{K}"]["value"] for n in ("live", "stale"))
    beside = told["against"]["stale"][f"recall@{K}"]
    assert beside["ratio"]["value"] == pytest.approx(live / other, abs=1e-4)
    assert beside["difference"]["value"] == pytest.approx(live - other, abs=1e-5)


def test_the_stale_one_learns_nothing_and_counts(run):
    state = {name: one.trainer for name, one in run.contestants.items()}
    weights = {
        name: {n: v for n, v in weights_by_name(trainer.model).items() if "user" not in n}
        for name, trainer in state.items()
    }
    tables = ("item/rows", "word/rows", "dense/0")
    for table in tables:
        size = min(len(weights[name][table]) for name in state)
        assert np.array_equal(weights["stale"][table][:size], weights["frozen"][table][:size])
        assert not np.array_equal(weights["stale"][table][:size], weights["live"][table][:size])
    live, stale, frozen = (state[n].state for n in ("live", "stale", "frozen"))
    assert np.array_equal(live.stream.counts.sums, stale.stream.counts.sums)
    assert not np.array_equal(live.stream.counts.sums, frozen.stream.counts.sums)
    assert stale.items.known.sum() == live.items.known.sum() > frozen.items.known.sum()


def test_retrained_once_is_the_live_model(told):
    assert told["ranking"]["retrained"] == told["ranking"]["live"]
    assert told["heads"]["retrained"] == told["heads"]["live"]
    assert told["against"]["retrained"][f"recall@{K}"]["difference"]["value"] == 0


def test_refused_batches_are_left_out(store):
    made = {n: manifest(n, gate=Verdict(served=n != 2)) for n in range(1, 4)}
    numbers, left_out = Request(store=store, config=SMALL, batches=4).numbers(
        TrainingLog(store, made)
    )
    assert (numbers, left_out) == ([1, 3, 4, 5], 1)


def test_too_little_to_evaluate(tmp_path, cut):
    store = logged(tmp_path, cut[:1], SMALL)
    with pytest.raises(RequestError, match=r"has 1 micro-batches to evaluate, at least 2") as no:
        replay(Request(store=store, config=SMALL))
    assert "--batches" not in str(no.value)  # with which 2 is the least


def test_a_damaged_catalogue_is_named(tmp_path, cut):
    store = logged(tmp_path, cut[:2], SMALL)
    store.catalogue_path("items").write_bytes(b"junk")
    with pytest.raises(StoreError, match=r"items\.parquet cannot be read"):
        replay(Request(store=store, config=SMALL))


def test_the_command_in_json(store):
    args = ["evaluate", "--store", str(store.root), "--batches", "6", "--compare", "retrained"]
    done = CliRunner().invoke(cli, [*args, "--json", "-k", "3"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])
    assert list(told["ranking"]) == ["live", "retrained"]
    assert told["what"]["batches"] == 6
    # Of two epochs: lists of three may be the same, what the heads say is not.
    assert told["heads"]["live"] != told["heads"]["retrained"]
    assert "recall@3" in told["ranking"]["live"]


def test_for_people_within_80_columns(told):
    shown = show_evaluation(told)
    for words in (f"recall@{K}", f"hit rate@{K}", "live over the others", "head like", "tail item"):
        assert words in shown
    assert "live's heads by slice" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "…" not in shown  # nothing is cut off
