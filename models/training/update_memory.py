"""What is kept of a micro-batch once it has been trained on."""

import numpy as np

from models.memory.state import State
from models.row_arrays import NEVER
from models.training.catalogue_features import Attributes
from models.training.prepare_batch import Prepared

__all__ = ["update_memory"]

_NOBODY = np.zeros(1, np.int32)  # row 0: ids that found no room


def update_memory(state: State, step: Prepared, attributes: Attributes, overlap: int) -> None:
    """Count a micro-batch: everything that the next one may know of it.

    Args:
        state: is changed.
        step: the micro-batch.
        attributes: of the users; popularity is also counted by their values.
        overlap: windows that an event falls in.
    """
    batch, wanted = step.batch, step.batch.wanted
    state.stream.update(step.items, wanted / overlap, batch.disliked / overlap, batch.anchor)
    dwelt = np.flatnonzero(batch.n_dwell > 0)
    dwelt = dwelt[np.argsort(batch.window_end[dwelt], kind="stable")]
    users, items = step.users[dwelt], step.items[dwelt]
    # A late row tells a dwell that none is known for, but not a newer one away.
    told = (batch.window_end[dwelt] >= state.window) | (state.seen.dwells(users, items) == 0)
    state.seen.add_dwells(users[told], items[told], batch.dwell_buckets[dwelt][told])
    state.window = max(state.window, int(batch.window_end.max(initial=state.window)))
    state.top_counts.touch(np.unique(step.items))
    weight = 1.0 / overlap
    observed = step.targets, step.present, weight
    state.user_stats.update(step.users, *observed)
    state.item_stats.update(step.items, *observed)
    state.length_stats.update(state.items.lengths[step.items], *observed)
    for stats in (state.user_stats, state.item_stats):
        stats.reset(_NOBODY)  # it is what strangers are taken for
    had = step.items[wanted]
    state.baselines.update(had, step.last[wanted], batch.anchor[wanted], weight)
    state.predecessors.add(had, step.inputs["past"][wanted], weight)
    _count_keys(state, step, attributes, weight)
    _profile(state, step)
    state.items.add_known(step.items[step.items > 0])
    state.now = max(state.now, int(batch.anchor.max(initial=state.now)))


def _count_keys(state: State, step: Prepared, attributes: Attributes, weight: float) -> None:
    """Popularity by attribute and context value, of wanted rows that count `weight` each."""
    batch = step.batch
    codes = attributes.codes(batch.users)[batch.user]
    row, column = np.nonzero(codes)
    names = [attributes.names[code] for code in (codes[row, column] - 1).tolist()]
    names += [batch.tokens[code] for code in batch.token.tolist()]
    row = np.concatenate([row, batch.token_row])
    kept = batch.wanted[row] & (step.items[row] > 0)
    if not kept.any():
        return
    distinct = list(dict.fromkeys(names))
    place = {name: i for i, name in enumerate(distinct)}
    code = np.array([place[name] for name in names], np.int64)
    counts = np.bincount(code, minlength=len(distinct))
    keys = state.key_ids.admit(distinct, np.full(len(distinct), step.now), counts)[code]
    kept &= keys > 0
    weights = np.full(int(kept.sum()), weight)
    state.key_counts.add(keys[kept], step.items[row[kept]], weights, step.now)


def _profile(state: State, step: Prepared) -> None:
    """Keep each user's newest row: its history, its own event, its context."""
    batch, profiles = step.batch, state.profiles
    order = np.argsort(batch.anchor, kind="stable")
    newest = dict(zip(step.users[order].tolist(), order.tolist(), strict=True))
    newest.pop(0, None)
    users = np.fromiter(newest.keys(), np.int64, len(newest))
    rows = np.fromiter(newest.values(), np.int64, len(newest))
    late = batch.anchor[rows] < profiles.last_event[users]
    users, rows = users[~late], rows[~late]
    past = step.inputs["past"][rows]
    types = step.inputs["types"][rows].astype(np.int8)
    times = _times(step, rows, types > 0)
    own = batch.touched[rows]
    mine = rows[own]
    kinds = (batch.strongest[mine] + 1).astype(np.int8)
    # What the next row's history ends with, but for type and time, which are the row's own:
    # once more the same item takes the newest place.
    same = (past[own][:, -1] == step.items[mine]) & (step.items[mine] > 0)
    repeats = (same & (types[own][:, -1] > 0))[:, None]
    for values, latest in ((past, step.items[mine]), (types, kinds), (times, batch.anchor[mine])):
        held = np.where(repeats, values[own], np.roll(values[own], -1, axis=1))
        held[:, -1] = latest
        values[own] = held
    profiles.past[users], profiles.types[users], profiles.times[users] = past, types, times
    profiles.context[users] = step.inputs["context"][rows]
    profiles.last_event[users] = batch.anchor[rows]


def _times(step: Prepared, rows: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Times `[n, history]` of the past events that `held` marks, epoch ms."""
    batch, length = step.batch, held.shape[1]
    times = np.full(held.shape, NEVER)
    if len(batch.history_age):
        end = np.searchsorted(batch.history_row, rows, side="right")
        at = np.where(held, end[:, None] + np.arange(-length, 0), 0)
        times = np.where(held, batch.anchor[rows][:, None] - batch.history_age[at], times)
    return times
