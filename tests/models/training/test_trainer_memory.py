"""What a trainer remembers is bounded, expires, and follows the catalogue."""

import datetime

import numpy as np
import pyarrow as pa
from feedback import START, batches, event, rows
from small_trainer import SMALL, ids, script

from models.schema import ITEMS
from models.training.trainer import Trainer


def test_ids_expire_leave_tombstones_and_their_rows_are_clean():
    trainer = Trainer(SMALL.model_copy(update={"expiry_days": 1}), None, None)
    day = 86_400.0
    for number, part in enumerate(batches(script(40)), 1):
        trainer.step(number, part)
    last = trainer.step(90, rows([event(0, "z", "new", 3 * day)]))
    gone = [r for r in last.delta.to_pylist() if r["deleted"]]
    assert {r["id"] for r in gone if r["entity"] == "user"} >= {"u1", "u2"}
    assert set(ids(trainer.snapshot(1), "item")) == {"new"}
    row = trainer.state.item_ids.lookup(["new"])[0]
    others = np.setdiff1d(np.arange(trainer.state.item_ids.capacity), [row])
    assert not trainer.model.tables["item"].weights.numpy()[others].any()
    assert len(trainer.state.seen) == 1
    assert not trainer.state.items.known[others].any()
    again = trainer.step(91, rows([event(1, "u1", "i1", 3 * day + 700)]), predictions=True)
    assert again.predictions["rank"].to_pylist() == [None]


def test_memory_is_bounded_on_a_stream_of_new_ids():
    config = SMALL.model_copy(update={"user_limit": 32, "item_limit": 32, "seen_per_user": 8})
    trainer = Trainer(config, None, None)
    events = [event(i, f"u{i}", f"i{i}", 20.0 * i) for i in range(300)]
    for number, part in enumerate(batches(events), 1):
        result = trainer.step(number, part)
        assert len(trainer.state.item_ids) <= 32
        assert trainer.state.item_ids.capacity <= 33
        assert np.isfinite(result.delta["embedding"].flatten().to_numpy()).all()
    assert trainer.model.tables["user"].weights.numpy().shape == (33, 8)
    assert len(trainer.state.seen) <= 32
    # Row 0, where the others went, is what a stranger is taken for: nobody in particular.
    assert not trainer.state.user_stats.n[0].any()
    assert trainer.state.user_stats.total[0].sum() > 32


def test_new_values_of_the_context_are_counted_when_there_is_no_room():
    trainer = Trainer(SMALL.model_copy(update={"key_limit": 16}), None, None)
    events = [
        event(i, f"u{i % 5}", f"i{i % 7}", 20.0 * i, context=[("city", f"c{i // 3}")])
        for i in range(120)
    ]
    for number, part in enumerate(batches(events), 1):
        trainer.step(number, part)
    held, counts = trainer.state.key_ids, trainer.state.key_counts
    assert len(held) <= 16
    newest = int(held.lookup(["context:city=c39"])[0])
    assert newest > 0
    assert len(counts.of(newest)[0]) > 0


def test_items_appear_when_they_are_published():
    late = datetime.datetime.fromtimestamp((START + 3_600_000) / 1_000, datetime.UTC)
    listed = [{"item_id": "old"}, {"item_id": "late", "published_at": late}]
    trainer = Trainer(SMALL, pa.Table.from_pylist(listed, ITEMS), None)
    first = trainer.step(
        1, rows([event(0, "u", "x", 0), event(1, "w", "late", 1)]), predictions=True
    )
    assert first.predictions["rank"].to_pylist() == [None, None]
    assert set(first.predictions["top20"][0].as_py()) == {"old"}
    second = trainer.step(2, rows([event(2, "v", "x", 7_200)]), predictions=True)
    assert set(second.predictions["top20"][0].as_py()) == {"old", "late", "x"}
    # Nobody has touched it, but it can be recommended: sinks have to have it.
    assert {"late", "x"} <= set(second.delta["id"].to_pylist())


def test_silent_items_of_a_catalogue_expire_as_long_after_they_appeared():
    day = 86_400
    old = datetime.datetime.fromtimestamp(START / 1_000 - 400 * day, datetime.UTC)
    listed = [{"item_id": "old", "published_at": old}, {"item_id": "undated"}]
    config = SMALL.model_copy(update={"expiry_days": 30})
    trainer = Trainer(config, pa.Table.from_pylist(listed, ITEMS), None)
    first = trainer.step(1, rows([event(0, "u", "x", 0)]))
    assert not any(first.delta["deleted"].to_pylist())
    trainer.step(2, rows([event(1, "u", "x", 29 * day)]))
    assert {"old", "undated"} <= set(trainer.state.item_ids.names)
    third = trainer.step(3, rows([event(2, "u", "x", 32 * day)])).delta.to_pylist()
    assert {row["id"] for row in third if row["deleted"]} == {"old", "undated"}


def test_another_catalogue_is_read_anew(tmp_path):
    trainer = Trainer(SMALL, pa.Table.from_pylist([{"item_id": "a"}], ITEMS), None)
    trainer.step(1, rows([event(0, "u", "x", 0)]))
    trainer.save(tmp_path)
    listed = [{"item_id": "a", "title": "A title"}, {"item_id": "b"}]
    moved = Trainer.restore(tmp_path, SMALL, pa.Table.from_pylist(listed, ITEMS), None)
    second = moved.step(2, rows([event(1, "v", "x", 700)]), predictions=True)
    assert set(second.predictions["top20"][0].as_py()) == {"a", "b", "x"}
    # What they are like is told along other directions now: none keeps a vector of before.
    assert set(second.delta["id"].to_pylist()) == {"a", "b", "x", "u", "v"}
    third = moved.step(3, rows([event(2, "v", "x", 1_400)]))
    assert set(third.delta["id"].to_pylist()) == {"x", "v"}
    assert moved.state.items.words[moved.state.item_ids.lookup(["a"])[0]].any()
