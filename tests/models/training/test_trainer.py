"""The trainer as the job uses it: exclusion and ranks by brute force, bytes, memory, learning."""

import math
import re

import numpy as np
import pyarrow as pa
import pytest
from feedback import START, batches, event, rows
from small_trainer import SMALL, ids, items_table, script, users_table

from models.errors import StoreError
from models.feature_batch import read_batch
from models.network.numpy_heads import load_heads, score_heads
from models.network.weights import weights_by_name
from models.schema import EMBEDDINGS, EVENT_TYPES, PREDICTIONS
from models.training.trainer import Trainer


@pytest.fixture(scope="module")
def run():
    """A trainer that went through the script, with all that its steps returned."""
    trainer = Trainer(SMALL, items_table(), users_table())
    cut = batches(script())
    results = [trainer.step(k, part, predictions=True) for k, part in enumerate(cut, 1)]
    return trainer, cut, results


def test_every_wanted_row_is_predicted_once(run):
    _, cut, results = run
    for part, result in zip(cut, results, strict=True):
        assert result.predictions.schema == PREDICTIONS
        batch = read_batch(part)
        expected = [
            (batch.users[u], batch.items[i])
            for u, i, wanted in zip(batch.user, batch.item, batch.wanted, strict=True)
            if wanted
        ]
        found = result.predictions.select(["user_id", "item_id"]).to_pylist()
        assert [(row["user_id"], row["item_id"]) for row in found] == expected
        assert result.metrics["evaluated"] == len(expected)
        assert result.metrics["rows"] == part.num_rows


def test_what_the_user_had_is_left_out_and_the_true_item_never(run):
    _, cut, results = run
    events = sorted(script(), key=lambda e: (e["event_time"], e["event_id"]))
    known = {f"i{k}" for k in range(20)}  # the catalogue
    assert len(cut) == len(results) > 5
    for result in results:
        for row in result.predictions.to_pylist():
            anchor = int(row["anchor_time"].timestamp() * 1_000)
            had = {
                e["item_id"]
                for e in events
                if e["user_id"] == row["user_id"]
                and e["event_time"] < anchor
                and e["event_type"] != "impression"
            }
            candidates = (known - had) | {row["item_id"]}
            assert set(row["top20"]) == candidates  # 20 items at most: all of them are listed
            assert row["top20"].index(row["item_id"]) + 1 == row["rank"]


def test_figures_follow_from_the_ranks(run):
    *_, results = run
    for result in results:
        ranks = [r for r in result.predictions["rank"].to_pylist() if r is not None]
        ties = result.evaluation.ties.sum()
        if ties == 0 and result.metrics["evaluated"]:
            n = result.metrics["evaluated"]
            gain = sum(1 / math.log2(1 + r) for r in ranks if r <= 20)
            assert result.metrics["recall@20"] == pytest.approx(sum(r <= 20 for r in ranks) / n)
            assert result.metrics["ndcg@20"] == pytest.approx(gain / n)


def test_the_rank_is_that_of_the_published_vectors():
    """Before any training in a batch, scores are the inner products of what is served."""
    trainer = Trainer(SMALL, items_table(), None)
    cut = batches(script())
    for number, part in enumerate(cut[:-1], 1):
        trainer.step(number, part)
    step = trainer._preparer.prepare(trainer.state, len(cut), cut[-1])
    u, v = (
        trainer.model.users(step.inputs, trainer.state.contents()),
        trainer.item_vectors(np.arange(21), step.now),
    )
    scores = u @ v.T
    evaluation, predicted = trainer._predict(step, keep=True)
    excluded = set(zip(step.excluded.row.tolist(), step.excluded.item.tolist(), strict=True))
    for place, row in enumerate(evaluation.rows):
        own = scores[row, step.items[row]]
        others = [j for j in range(1, 21) if (row, j) not in excluded and j != step.items[row]]
        rank = 1 + sum(scores[row, j] > own for j in others)
        assert predicted["rank"][place].as_py() == rank


def test_an_unknown_item_has_no_rank():
    trainer = Trainer(SMALL, None, None)
    result = trainer.step(1, rows([event(0, "u", "new", 0)]), predictions=True)
    assert result.predictions["rank"].to_pylist() == [None]
    assert result.metrics["unknown"] == result.metrics["evaluated"] == 1
    assert result.metrics["recall@20"] == 0
    assert result.metrics["loss"] is not None
    again = trainer.step(2, rows([event(1, "v", "new", 700)]), predictions=True)
    assert again.predictions["rank"].to_pylist() == [1]


def test_nothing_to_predict_or_learn():
    trainer = Trainer(SMALL, None, None)
    shown = trainer.step(1, rows([event(0, "u", "i", 0, "impression")]), predictions=True)
    assert shown.metrics["evaluated"] == 0
    assert shown.metrics["recall@20"] is None
    assert shown.predictions.num_rows == 0
    empty = trainer.step(2, rows([]), predictions=True)
    assert empty.metrics["rows"] == 0
    assert empty.delta.num_rows == 0


def test_a_delta_holds_what_was_touched(run):
    trainer, cut, results = run
    for number, (part, result) in enumerate(zip(cut, results, strict=True), 1):
        delta = result.delta
        assert delta.schema.names == EMBEDDINGS.names
        assert delta.schema.field("embedding").type == pa.list_(pa.float32(), SMALL.vector_dim)
        assert set(part["user_id"].to_pylist()) == set(ids(delta, "user"))
        assert set(part["item_id"].to_pylist()) <= set(ids(delta, "item"))
        assert set(delta["version"].to_pylist()) == {number}
        newest = max(part["anchor_time"].to_pylist())
        assert max(delta["updated_at"].to_pylist()) == newest
        assert not any(delta["deleted"].to_pylist())
        assert np.isfinite(delta["embedding"].flatten().to_numpy()).all()
    snapshot = trainer.snapshot(len(cut))
    assert sorted(ids(snapshot, "item")) == sorted(f"i{k}" for k in range(20))
    assert sorted(ids(snapshot, "user")) == [f"u{k}" for k in range(9)]
    # A vector of the last delta is the same in the snapshot.
    served = {(r["entity"], r["id"]): r["embedding"] for r in snapshot.to_pylist()}
    for row in results[-1].delta.to_pylist():
        assert served[row["entity"], row["id"]] == pytest.approx(row["embedding"], abs=1e-5)


def test_the_same_batches_give_the_same_bytes(run):
    _, cut, results = run
    again = Trainer(SMALL, items_table(), users_table())
    for number, part in enumerate(cut, 1):
        result = again.step(number, part)
        assert result.delta.equals(results[number - 1].delta)
        assert result.metrics == results[number - 1].metrics
    other = Trainer(SMALL.model_copy(update={"seed": 1}), items_table(), users_table())
    assert not other.step(1, cut[0]).delta.equals(results[0].delta)


def test_saved_and_restored_in_between_gives_the_same_bytes(run, tmp_path):
    trainer, cut, results = run
    moved = Trainer(SMALL, items_table(), users_table())
    for number, part in enumerate(cut, 1):
        result = moved.step(number, part, predictions=True)
        assert result.delta.equals(results[number - 1].delta)
        assert result.predictions.equals(results[number - 1].predictions)
        assert result.metrics == results[number - 1].metrics
        if number % 3 == 0:
            moved.save(tmp_path / str(number))
            moved = Trainer.restore(tmp_path / str(number), SMALL, items_table(), users_table())
    assert moved.number == len(cut)
    assert moved.snapshot(1).equals(trainer.snapshot(1))
    for one, two in zip((trainer, moved), ("a", "b"), strict=True):
        one.save(tmp_path / two)
    for name in ("weights.npz", "state.npz"):
        with np.load(tmp_path / "a" / name) as left, np.load(tmp_path / "b" / name) as right:
            assert left.files == right.files
            assert all(left[k].tobytes() == right[k].tobytes() for k in left.files)


def test_a_damaged_checkpoint_is_refused(run, tmp_path):
    with pytest.raises(StoreError, match="cannot be restored"):
        Trainer.restore(tmp_path, SMALL, None, None)
    run[0].save(tmp_path)
    with pytest.raises(StoreError, match="use the job file it was made with"):
        Trainer.restore(tmp_path, SMALL.model_copy(update={"dim": 4}), None, None)
    (tmp_path / "weights.npz").write_bytes(b"PK")
    with pytest.raises(StoreError, match="cannot be restored"):
        Trainer.restore(tmp_path, SMALL, None, None)


def test_a_poisoned_batch_is_skipped_and_counted():
    trainer = Trainer(SMALL.model_copy(update={"confidence_power": 1.0}), None, None)
    cut = batches(script(120))
    for number, part in enumerate(cut[:2], 1):
        trainer.step(number, part)
    before = {name: value.tobytes() for name, value in weights_by_name(trainer.model).items()}
    column = cut[2].schema.get_field_index("confidence")
    poison = pa.array(np.full(cut[2].num_rows, np.nan))
    result = trainer.step(3, cut[2].set_column(column, cut[2].schema.field(column), poison))
    assert result.metrics["skipped_steps"] == result.metrics["steps"] > 0
    assert result.metrics["loss"] is None
    tables = {name: value.tobytes() for name, value in weights_by_name(trainer.model).items()}
    assert tables == before
    assert np.isfinite(result.delta["embedding"].flatten().to_numpy()).all()
    assert trainer.step(4, cut[3]).metrics["skipped_steps"] == 0


def test_the_serving_folder_scores_as_the_model_does(run, tmp_path):
    import json

    import pyarrow.parquet as pq

    trainer, *_ = run
    trainer.serving(tmp_path, 7)
    about = json.loads((tmp_path / "serving.json").read_text())
    items = pq.read_table(tmp_path / "items.parquet")
    users = pq.read_table(tmp_path / "users.parquet").to_pylist()
    assert items["item_id"].to_pylist() == [f"i{k}" for k in range(20)]
    assert len(about["stats"]) == items["stats"].type.list_size == len(about["user_default"])
    heads = load_heads(tmp_path)
    u = np.ones((2, about["vector_dim"]), np.float32)
    stats = np.stack(items["stats"].to_pylist()[:2]).astype(np.float32)
    out = score_heads(heads, u, u, stats, stats)
    assert out.shape == (2, 5)
    assert ((out[:, :3] > 0) & (out[:, :3] < 1)).all()
    assert (out[:, 3] >= 0).all()
    events = script()
    for user in users:
        mine = [e for e in events if e["user_id"] == user["user_id"]]
        had = {e["item_id"] for e in mine if e["event_type"] != "impression"}
        assert {items["item_id"][i].as_py() for i in user["seen"]} == had
        assert len(user["recent_items"]) == len(user["recent_types"]) <= SMALL.history
        assert user["recent_times"] == sorted(user["recent_times"])
    keys = pq.read_table(tmp_path / "popularity.parquet").to_pylist()
    assert keys[0]["key"] == ""
    assert {"user:country=de", "platform:web", "context:hour=1"} <= {row["key"] for row in keys}
    for row in keys:
        assert row["scores"] == sorted(row["scores"], reverse=True)


def test_what_is_remembered_of_a_user_is_what_their_next_row_begins_with():
    """A view and a like of one item are one past event, also across micro-batches."""
    kinds = [("a", "view"), ("b", "view"), ("b", "like"), ("c", "view"), ("b", "view")]
    script = [event(n, "u", item, 700 * n, kind) for n, (item, kind) in enumerate(kinds)]
    trainer = Trainer(SMALL, None, None)
    for number, part in enumerate(batches(script), 1):
        trainer.step(number, part)
    state = trainer.state
    user, items = state.user_ids.lookup(["u"])[0], state.item_ids.lookup(["a", "b", "c"])
    a, b, c = items.tolist()
    assert state.profiles.past[user].tolist() == [a, b, c, b]
    types = ["view", "like", "view", "view"]
    assert state.profiles.types[user].tolist() == [EVENT_TYPES.index(t) + 1 for t in types]
    assert state.profiles.times[user].tolist() == [START + 700_000 * n for n in (0, 2, 3, 4)]


def test_a_checkpoint_of_another_version_is_refused_with_the_way_out(tmp_path):
    trainer = Trainer(SMALL, None, None)
    trainer.step(1, batches(script())[0])
    trainer.save(tmp_path)
    path = tmp_path / "trainer.json"
    path.write_text(re.sub(r'"format": \d+', '"format": 1', path.read_text()))
    with pytest.raises(StoreError, match=r"has format 1, .* make a new store from the same events"):
        Trainer.restore(tmp_path, SMALL, None, None)


def planted(n: int, seed: int = 0) -> list[dict]:
    """Two tastes: a user likes one half of the items, popular or not, alike."""
    rng = np.random.default_rng(seed)
    events, had = [], set()
    while len(events) < n:
        user = int(rng.integers(60))
        item = int(rng.integers(100)) * 2 + user % 2
        if (user, item) not in had:
            had.add((user, item))
            events.append(event(len(events), f"u{user}", f"i{item}", 15.0 * len(events)))
    return events


@pytest.mark.slow
def test_it_learns_what_popularity_cannot_know():
    trainer = Trainer(SMALL.model_copy(update={"negatives": 128}), None, None)
    model, popular, ideal, known = 0.0, 0.0, 0.0, 0
    for number, part in enumerate(batches(planted(3_000)), 1):
        had = len(trainer.state.seen) / 60  # of the 100 items of a user's taste, on average
        metrics = trainer.step(number, part).metrics
        if number > 40 and metrics["evaluated"]:
            n = metrics["evaluated"]
            model += metrics["recall@20"] * n
            popular += metrics["baselines"]["popularity"]["recall@20"] * n
            ideal += 20 / (100 - had) * n  # who knows the taste and nothing else
            known += n
    # What was had is left out. Popularity draws from 200 - had items, taste from 100 - had.
    assert model > 1.5 * popular
    assert model / known == pytest.approx(ideal / known, rel=0.15)
