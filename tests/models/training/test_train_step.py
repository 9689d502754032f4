"""How a micro-batch is cut into steps, and that a wide step teaches what narrow ones do."""

import numpy as np
import pytest
from feedback import START, event, rows

from models.config import HeadWeights, ModelConfig
from models.feature_batch import read_batch
from models.schema import HEADS
from models.training.train_step import _spans, _weights
from models.training.trainer import Trainer

SMALL = ModelConfig(
    dim=8,
    history=4,
    step_rows=4,
    wide_rows=12,
    negatives=16,
    attributes=0,
    contexts=0,
    text_buckets=16,
    attribute_buckets=16,
    text_tokens=0,
)


def test_wide_steps_while_they_are_at_least_half_full():
    assert _spans(29, SMALL) == [(0, 12), (12, 12), (24, 4), (28, 4)]
    assert _spans(12, SMALL) == [(0, 12)]
    assert _spans(6, SMALL) == [(0, 12)]
    assert _spans(5, SMALL) == [(0, 4), (4, 4)]
    assert _spans(30, SMALL) == [(0, 12), (12, 12), (24, 12)]
    assert _spans(0, SMALL) == []
    assert _spans(9, SMALL.model_copy(update={"wide_rows": 0})) == [(0, 4), (4, 4), (8, 4)]


def test_an_event_weighs_the_same_in_a_wide_step():
    """After one wide step the accumulators hold gradients thrice a narrow step's mean."""
    first = [event(n, f"u{n}", "a" if n % 2 else "b", n) for n in range(12)]
    second = [event(100 + n, f"w{n}", "a", 700 + n) for n in range(12)]
    grown = {}
    for wide in (12, 0):
        config = SMALL.model_copy(update={"wide_rows": wide, "table_accumulator": 1e-12})
        trainer = Trainer(config, None, None)
        trainer.step(1, rows(first))
        trainer.step(2, rows(second))
        row = trainer.state.item_ids.lookup(["a"])[0]
        grown[wide] = trainer.model.tables["item"].slots.numpy()[row].sum()
    # Squares of one sum of three like gradients against the sum of their squares: about 3.
    assert 1.5 < grown[12] / grown[0] < 6


def test_a_head_without_weight_learns_nothing_and_nothing_else_changes():
    script = [event(n, f"u{n}", "ab"[n % 2], n, "click", dwell_ms=9_000) for n in range(12)]
    script += [event(20 + n, f"u{n}", "ab"[n % 3 % 2], 60 + n, "dislike") for n in range(12)]
    out, item, tower = {}, {}, {}
    for weight in (1.0, 0.0):
        config = SMALL.model_copy(update={"head_weights": HeadWeights(like=weight)})
        trainer = Trainer(config, None, None)
        trainer.step(1, rows(script))
        trainer.step(2, rows([event(100 + n, f"w{n}", "a", 700 + n, "dislike") for n in range(4)]))
        out[weight] = trainer.model.out.kernel.numpy()
        item[weight] = trainer.model.tables["item"].weights.numpy()
        tower[weight] = [v.numpy() for v in trainer.model.user_tower.trainable_variables]
    like, dwell = HEADS.index("like"), HEADS.index("dwell")
    assert out[1.0][:, like].any()
    assert not out[0.0][:, like].any()
    assert out[0.0][:, dwell].any()
    assert (item[0.0] == item[1.0]).all()
    for one, other in zip(tower[0.0], tower[1.0], strict=True):
        assert (one == other).all()


def test_a_step_that_is_mostly_padding_moves_the_dense_layers_a_part_of_the_way():
    seen = rows([event(n, f"z{n}", "ab"[n % 2], n - 600) for n in range(8)])
    moved = {}
    for step_rows in (4, 16):
        config = SMALL.model_copy(update={"step_rows": step_rows, "wide_rows": 0})
        trainer = Trainer(config, None, None)
        trainer.step(1, seen)
        before = [v.numpy() for v in trainer.model.trainable_variables]
        found = trainer.step(2, rows([event(100 + n, f"u{n}", "a", n) for n in range(4)]))
        assert found.metrics["steps"] == 1
        after = [v.numpy() for v in trainer.model.trainable_variables]
        moved[step_rows] = sum(np.abs(a - b).sum() for a, b in zip(after, before, strict=True))
    assert 0 < moved[16] < moved[4] / 2  # Adam's own step: a quarter


@pytest.mark.parametrize(
    ("kind", "more", "skipped"),
    [
        ("impression", {}, True),
        ("view", {"dwell_ms": 1_999}, True),
        ("view", {"dwell_ms": 2_000}, False),
        ("view", {}, False),
        ("like", {"dwell_ms": 10}, False),
        ("dislike", {}, False),
    ],
)
def test_what_is_a_skip(kind, more, skipped):
    batch = read_batch(rows([event(1, "u", "a", 0, kind, **more)]))
    assert batch.skipped(2.0).tolist() == [skipped]
    against = _weights(SMALL, batch)[0, 1]
    assert against == (SMALL.skip_weight if skipped else 0.5 if kind == "dislike" else 0.0)
    assert (_weights(SMALL, batch)[0, 0] > 0) == (not skipped and kind != "dislike")


def test_what_is_skipped_sinks():
    """Beside an item that is as popular, the one that was shown in vain scores less."""
    liked = [event(n, f"u{n}", "ab"[n % 2], n) for n in range(20)]
    shown = [event(100 + n, f"s{n}", "a", 700 + n, "impression") for n in range(40)]
    config = SMALL.model_copy(update={"skip_weight": 1.0})
    gap = {}
    for told in (False, True):
        trainer = Trainer(config, None, None)
        trainer.step(1, rows(liked))
        trainer.step(2, rows(shown if told else [event(300, "x", "c", 700)]))
        users = trainer.user_vectors(trainer.state.user_ids.lookup(["u0", "u1"]), START + 800_000)
        items = trainer.state.item_ids.lookup(["a", "b"])
        scores = users @ trainer.item_vectors(items, START + 800_000).T
        gap[told] = float((scores[:, 0] - scores[:, 1]).mean())
    assert gap[True] < gap[False]


def test_every_row_is_used_whatever_the_size():
    script = [event(n, f"u{n}", f"i{n % 3}", n) for n in range(17)]
    for wide, steps in ((12, 3), (0, 5)):
        trainer = Trainer(SMALL.model_copy(update={"wide_rows": wide}), None, None)
        trainer.step(1, rows([event(99, "z", "i0", -100), event(98, "z", "i1", -90)]))
        assert trainer.step(2, rows(script)).metrics["steps"] == steps
