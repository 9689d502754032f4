"""How a micro-batch is cut into steps, and that a wide step teaches what narrow ones do."""

from feedback import event, rows

from models.config import ModelConfig
from models.learn import _spans
from models.trainer import Trainer

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


def test_every_row_is_used_whatever_the_size():
    script = [event(n, f"u{n}", f"i{n % 3}", n) for n in range(17)]
    for wide, steps in ((12, 3), (0, 5)):
        trainer = Trainer(SMALL.model_copy(update={"wide_rows": wide}), None, None)
        trainer.step(1, rows([event(99, "z", "i0", -100), event(98, "z", "i1", -90)]))
        assert trainer.step(2, rows(script)).metrics["steps"] == steps
