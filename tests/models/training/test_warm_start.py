"""Begun anew with another's weights: an id has what was learned of it, at whatever row."""

import numpy as np
import pytest
from feedback import batches
from scripted_log import SMALL, script

from models.network.weights import load_variables, weights_by_name
from models.training.trainer import Trainer


class Still(Trainer):
    """One that counts, but does not learn."""

    def _learn(self, step, evaluation):
        return {}, np.zeros(0, np.int32)


@pytest.fixture(scope="module")
def cut():
    return batches(script(700))


def learned(config, cut):
    trainer = Trainer(config, None, None)
    for number, part in enumerate(cut, 1):
        trainer.step(number, part)
    return trainer


def rows_of(trainer):
    """Learned rows and accumulators by table and id."""
    maps = (("user", trainer.state.user_ids), ("item", trainer.state.item_ids))
    return {
        (name, ids.names[row]): np.concatenate([table[row], slots[row]])
        for entity, ids in maps
        for name in ([entity] if entity == "user" else ["item", "history"])
        for table, slots in [[v.numpy() for v in weights(trainer, name)]]
        for row in ids.used().tolist()
    }


def weights(trainer, name):
    table = trainer.model.tables[name]
    return table.weights, table.slots


def test_ids_whose_rows_were_recycled_begin_with_their_own_vectors(cut):
    tight = SMALL.model_copy(update={"item_limit": 12, "user_limit": 6})
    former = learned(tight, cut)
    heir = Still(tight, None, None)
    heir.adopt(former)
    known, fresh, moved = rows_of(former), {}, set()
    for number, part in enumerate(cut, 1):
        heir.step(number, part)
        for key, value in rows_of(heir).items():
            # Once: an id that went and comes back has forgotten, as in the live model.
            fresh.setdefault(key, value)
            if key[1] in former.state.item_ids:
                at = (former.state.item_ids, heir.state.item_ids)
                moved.add(len({ids.lookup([key[1]])[0] for ids in at}) > 1)
    assert True in moved  # or rows would do
    blank = Still(tight, None, None)
    blank.step(1, cut[0])
    nothing = next(iter(rows_of(blank).values()))
    assert all((value == known.get(key, nothing)).all() for key, value in fresh.items())
    assert sum(key in known for key in fresh) > 12


def test_where_none_was_recycled_it_is_the_former_model(cut):
    former = learned(SMALL, cut)
    heir, plain = Trainer(SMALL, None, None), Trainer(SMALL, None, None)
    heir.adopt(former)
    load_variables(plain.model, weights_by_name(former.model))
    for number, part in enumerate(cut, 1):
        heir.step(number, part)
        plain.step(number, part)
    mine, theirs = weights_by_name(heir.model), weights_by_name(plain.model)
    assert all((mine[name] == theirs[name]).all() for name in theirs)
