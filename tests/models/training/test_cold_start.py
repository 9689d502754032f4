"""Who and what is new: served by content and attributes from the first event on."""

import numpy as np
import pyarrow as pa
import pytest
from feedback import event, rows

from models.config import ModelConfig
from models.network.text_encoder import hash_token
from models.schema import HEADS, ITEMS, USERS
from models.training.trainer import Trainer

SMALL = {
    "dim": 8,
    "history": 2,
    "step_rows": 8,
    "wide_rows": 0,
    "negatives": 32,
    "attributes": 2,
    "contexts": 0,
    "text_buckets": 256,
    "attribute_buckets": 256,
    "text_tokens": 4,
}
KINDS = ("war", "love")


def catalogue() -> tuple[pa.Table, pa.Table]:
    """Items and users of two kinds each; users 90 and 91, items 90 and 91 do nothing at first."""
    numbers = [*range(20), 90, 91]
    items = [{"item_id": f"i{k}", "categories": [KINDS[k % 2]]} for k in numbers]
    users = [{"user_id": f"u{k}", "attributes": [("taste", KINDS[k % 2])]} for k in numbers]
    return pa.Table.from_pylist(items, ITEMS), pa.Table.from_pylist(users, USERS)


def liked(first: int, n: int) -> list[dict]:
    """Users like items of their own kind."""
    rng = np.random.default_rng(first)
    users = rng.integers(0, 20, n)
    items = 2 * rng.integers(0, 10, n) + users % 2
    pairs = enumerate(zip(users.tolist(), items.tolist(), strict=True))
    return [event(first + k, f"u{u}", f"i{i}", float(first + k)) for k, (u, i) in pairs]


def trained(**more) -> Trainer:
    trainer = Trainer(ModelConfig(**SMALL | more), *catalogue())
    for number in range(1, 11):
        trainer.step(number, rows(liked(700 * number, 60)))
    return trainer


@pytest.fixture(scope="module")
def trainer() -> Trainer:
    return trained()


def vector(delta, entity: str, name: str) -> np.ndarray:
    (found,) = [r for r in delta.to_pylist() if r["entity"] == entity and r["id"] == name]
    return np.array(found["embedding"])


def test_an_item_without_an_event_stands_with_its_kind(trainer):
    """Its id has no vector: what tells it from its like is that nobody had it, not its u·v."""
    table, dim = trainer.snapshot(1), 8
    v = {f"i{k}": vector(table, "item", f"i{k}")[:dim] for k in (90, 91)}
    own = trainer.state.item_ids.lookup(["i90", "i91"])
    trained_rows = trainer.model.tables["item"].weights.numpy()[own]
    users = {k: vector(table, "user", f"u{k}")[:dim] for k in range(20)}
    right = sum(u @ v[f"i{90 + k % 2}"] > u @ v[f"i{91 - k % 2}"] for k, u in users.items())
    assert right >= 18
    content = np.array(list(v.values())) - trained_rows
    assert np.abs(content).max() > 1e-2


@pytest.mark.parametrize(("spread", "first"), [(0.1, True), (0.0, False)])
def test_items_that_share_words_are_near_before_anything_is_learned(spread, first):
    """Predicted from a past of one item, by a model that has not made a step."""
    titles = ["Harbour lights one", *(f"Tale{k} of{k}" for k in range(18)), "Harbour lights two"]
    items = [{"item_id": f"i{k:02d}", "title": title} for k, title in enumerate(titles)]
    wide = {"dim": 64, "text_buckets": 4_096, "text_spread": spread, "likeness_dim": 0}
    config = ModelConfig(**SMALL | wide)
    trainer = Trainer(config, pa.Table.from_pylist(items, ITEMS), None)
    had = [event(1, "u0", "i00", 1.0), event(2, "u0", "i19", 90.0)]
    after = rows(had).slice(1)
    told = trainer.step(1, after, predictions=True).predictions.to_pylist()
    assert [row["item_id"] for row in told] == ["i19"]
    assert (told[0]["top20"][0] == "i19") is first


def test_a_user_is_served_after_the_first_event_and_by_attributes(trainer):
    delta = trainer.step(11, rows([event(9_000, "u90", "i1", 9_000.0, "impression")])).delta
    dim = 8
    u = vector(delta, "user", "u90")[:dim]
    table = trainer.snapshot(1)
    v = [vector(table, "item", f"i{k}")[:dim] for k in range(20)]
    scores = np.array([u @ x for x in v])
    assert scores[::2].mean() > scores[1::2].mean()  # what its kind likes, though it liked nothing


def test_an_id_waits_for_its_sightings_while_content_serves():
    trainer = trained(item_sightings=3, user_sightings=2)
    table, find = trainer.model.tables["item"], trainer.state.item_ids
    moved = []
    for number in range(11, 16):
        told = [event(10_000 * number, f"u{number - 11}", "i90", 10_000.0 * number)]
        delta = trainer.step(number, rows(told)).delta
        assert np.abs(vector(delta, "item", "i90")[:8]).max() > 1e-2
        moved.append(bool(table.weights.numpy()[find.lookup(["i90"])[0]].any()))
    assert moved == [False, False, True, True, True]


def test_a_past_item_is_read_by_its_words_and_not_by_its_duration():
    listed = [
        {"item_id": "a", "title": "Tea", "duration_ms": 60_000},
        {"item_id": "b", "duration_ms": 60_000},
    ]
    trainer = Trainer(ModelConfig(**SMALL), pa.Table.from_pylist(listed, ITEMS), None)
    trainer.step(1, rows([event(0, "u", "a", 0)]))
    state = trainer.state
    both = state.item_ids.lookup(["a", "b"])
    word, duration = (hash_token(name, 256) for name in ("word:tea", "duration:16"))
    assert [row[row > 0].tolist() for row in state.items.words[both]] == [
        [duration, word],
        [duration],
    ]
    assert state.contents().of(both)["words"].tolist() == [[word], [0]]  # (row, owner)


def test_a_new_items_dwell_is_drawn_to_what_is_usual_for_its_length():
    """Long ones are watched for 100 s, short ones for 10; of each there is one nobody has seen."""
    lengths = {
        "a": 400_000,
        "b": 390_000,
        "new": 410_000,
        "c": 20_000,
        "d": 21_000,
        "brief": 19_500,
    }
    items = [{"item_id": name, "duration_ms": ms} for name, ms in lengths.items()]
    items.append({"item_id": "unknown"})
    trainer = Trainer(ModelConfig(**SMALL), pa.Table.from_pylist(items, ITEMS), None)
    seconds = {"a": 100, "b": 100, "c": 10, "d": 10}
    script = [
        event(n, f"u{n}", item, n, "view", dwell_ms=1_000 * seconds[item])
        for n, item in enumerate("abcd" * 5)
    ]
    trainer.step(1, rows(script))
    state, dwell = trainer.state, HEADS.index("dwell")
    long, brief, unknown = state.item_head_stats(
        state.item_ids.lookup(["new", "brief", "unknown"])
    )[:, dwell]
    mean, spread = (np.log(101) + np.log(11)) / 2, (np.log(101) - np.log(11)) / 2
    # Ten observations of its length against five that are drawn to the mean of all.
    usual = (10 * np.log(101) + 5 * mean) / 15
    assert long == pytest.approx((usual - mean) / spread, rel=1e-4)
    assert brief == pytest.approx(-long, rel=1e-4)
    assert unknown == pytest.approx(0.0, abs=1e-6)
    known = state.item_head_stats(state.item_ids.lookup(["a"]))[0, dwell]
    assert known == pytest.approx(((5 * np.log(101) + 5 * usual) / 10 - mean) / spread, rel=1e-4)


def test_how_long_a_user_stayed_is_known_of_their_past_from_the_next_micro_batch_on():
    trainer = Trainer(ModelConfig(**SMALL), None, None)
    script = [event(0, "u", "a", 0.0, "view", dwell_ms=7_000), event(1, "u", "b", 30.0, "like")]
    trainer.step(1, rows(script))
    later = rows([*script, event(2, "u", "c", 700.0, "like")]).slice(2)
    step = trainer._preparer.prepare(trainer.state, 2, later)
    assert step.inputs["dwells"].tolist() == [[4, 0]]  # log2(1 + 7) octaves, from 1; unknown


def test_a_late_row_tells_a_dwell_that_is_not_known_and_leaves_a_newer_one():
    trainer = Trainer(ModelConfig(**SMALL), None, None)
    now = [event(0, "u", "a", 4_000.0, "view", dwell_ms=255_000), event(1, "u", "b", 4_001.0)]
    late = [event(k, "u", item, 0.0, "view", dwell_ms=1_000) for k, item in enumerate("ab", 2)]
    trainer.step(1, rows(now))
    trainer.step(2, rows(late))
    items = trainer.state.item_ids.lookup(["a", "b"])
    user = np.repeat(trainer.state.user_ids.lookup(["u"]), 2)
    # 1 + log2(1 + 255) = 9; the late second, 1 + log2(1 + 1) = 2, of the other alone.
    assert trainer.state.seen.dwells(user, items).tolist() == [9, 2]


@pytest.mark.parametrize(("sightings", "moved"), [(1, True), (100, False)])
def test_a_past_item_has_a_vector_of_its_own_once_it_was_seen_often_enough(sightings, moved):
    trainer = Trainer(ModelConfig(**SMALL | {"item_sightings": sightings}), None, None)
    for turn in range(4):  # all items are zeros at first, of which a user learns nothing
        at = 10 * turn
        told = [event(at + k, f"u{turn}", i, 70.0 * (at + k)) for k, i in enumerate("abcde")]
        trainer.step(1 + turn, rows(told))
    state, history = trainer.state, trainer.model.tables["history"].weights.numpy()
    assert history[state.item_ids.lookup(["a", "b", "c"])].any() == moved
