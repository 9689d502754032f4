"""From a micro-batch to what the model and the baselines are asked about it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.config import ModelConfig
from models.feature_batch import AGE_BUCKETS, Batch, head_targets, read_batch
from models.memory.item_table import ItemContents
from models.memory.online_baselines import Excluded
from models.memory.state import State
from models.network.text_encoder import TextEncoder, hash_token
from models.schema import EVENT_TYPES
from models.sparse_rows import distinct
from models.training.catalogue_features import Attributes, Catalogue, ragged_to_padded

__all__ = ["Inputs", "Prepared", "Preparer"]

Ints = NDArray[np.integer]
Inputs = dict[str, NDArray[Any]]
_DISLIKE = EVENT_TYPES.index("dislike")


@dataclass(frozen=True)
class Prepared:
    """A micro-batch with its ids as table rows, and what follows from them."""

    number: int
    batch: Batch
    users: Ints  # [n]; 0: no room for the id
    items: Ints  # [n]
    last: Ints  # [n] the user's newest past item that was no dislike; 0: none
    candidates: NDArray[np.bool_]  # [item rows] known before this batch; a view, until it is over
    excluded: Excluded  # what each row's user had already; rows ascend
    now: int  # as of which counts are read, epoch ms
    inputs: Inputs  # of the user tower, [n, …]
    targets: NDArray[np.float64]  # [n, heads]
    present: NDArray[np.bool_]  # [n, heads]


class Preparer:
    """Admits ids and looks up what is known of them.

    Args:
        config: lengths and limits.
        items: an `ITEMS` table, or None.
        users: a `USERS` table, or None.
        encoder: of the items' texts; hashed subwords where there is none.
    """

    def __init__(
        self,
        config: ModelConfig,
        items: pa.Table | None,
        users: pa.Table | None,
        encoder: TextEncoder | None = None,
    ) -> None:
        self._config = config
        self._catalogue = Catalogue(items, config, encoder)
        self.attributes = Attributes(users, config)
        self._tokens: dict[str, int] = {}

    def prepare(self, state: State, number: int, rows: pa.RecordBatch) -> Prepared:
        """Admit the ids of micro-batch `number` and look everything up.

        Ids get rows before they are predicted, but an item counts as a
        candidate only if it was known before; a new row is all zeros.
        """
        batch = read_batch(rows)
        self._read_again(state)
        newest = int(batch.anchor.max(initial=state.now))
        self._publish(state, newest)
        users, codes = self._admit_users(state, batch), self._admit_items(state, batch)
        touched = batch.touched
        state.seen.add(
            users[batch.user[touched]], codes[batch.item[touched]], batch.touched_at[touched]
        )
        now = max(state.now, int(batch.anchor.min(initial=newest)))
        return self._prepared(state, number, batch, (users, codes), now)

    def prepare_again(self, state: State, number: int, rows: pa.RecordBatch) -> Prepared:
        """Look up rows of earlier micro-batches once more; nothing is admitted or counted.

        Args:
            state: as of now; counts are read from it.
            number: seeds what is drawn for the rows.
            rows: schema `FEATURES`.
        """
        batch = read_batch(rows)
        ids = state.user_ids.lookup(batch.users), state.item_ids.lookup(batch.items)
        return self._prepared(state, number, batch, ids, state.now, until=state.now + 1)

    def _prepared(
        self,
        state: State,
        number: int,
        batch: Batch,
        ids: tuple[Ints, Ints],
        now: int,
        until: int | None = None,
    ) -> Prepared:
        """What is known of the rows, whose users and items have the table rows `ids`."""
        users, codes = ids[0][batch.user], ids[1]
        items, history = codes[batch.item], codes[batch.history_item]
        targets, present = head_targets(batch)
        return Prepared(
            number=number,
            batch=batch,
            users=users,
            items=items,
            last=_last_item(batch, history),
            candidates=state.items.known[: state.item_ids.top],
            excluded=_excluded(state, batch, users, items, history, until=until),
            now=now,
            inputs=self._inputs(state, batch, users, history),
            targets=targets,
            present=present,
        )

    # Ids ------------------------------------------------------------------

    def _read_again(self, state: State) -> None:
        """Tables that are other ones than before: what they say of known ids is taken anew.

        All is published anew then: what items are like is told along other directions, and
        vectors of then and now would not compare.
        """
        digests = (self._catalogue.digest, self.attributes.digest)
        if digests == state.catalogues:
            return
        state.catalogues, state.published_until = digests, None
        for ids, tell in (
            (state.item_ids, self._describe),
            (state.user_ids, self._attribute),
        ):
            rows = ids.used()
            state.republish |= len(rows) > 0
            tell(state, [ids.names[row] or "" for row in rows.tolist()], rows)

    def _publish(self, state: State, until_ms: int) -> None:
        """Catalogue items that have appeared by now become candidates."""
        first = state.published_until is None  # all of a version that is a whole copy
        names = self._catalogue.appeared(state.published_until, until_ms)
        state.published_until = until_ms
        names = [name for name in names if name not in state.item_ids]
        if names:
            ones = np.ones(len(names), np.int64)
            # Silent since they appeared, whenever they were made: else they expired at once.
            rows = state.item_ids.admit(names, until_ms * ones, ones)
            state.item_ids.count[rows] = 0  # to be in a catalogue is no sighting
            state.grow()
            self._describe(state, names, rows)
            state.items.add_known(rows[rows > 0])
            if not first:
                state.new_candidates = rows[rows > 0].tolist()

    def _describe(self, state: State, names: list[str], rows: Ints) -> None:
        """Give new item rows their words, what these are like, and their date of publication."""
        held = rows > 0
        words, published = self._catalogue.facts(names)
        state.items.words[rows[held]] = words[held]
        state.items.lengths[rows[held]] = self._catalogue.lengths(names)[held]
        told = [name for name, kept in zip(names, held.tolist(), strict=True) if kept]
        state.items.likeness[rows[held]] = self._catalogue.likeness(told)
        state.predecessors.name(rows[held], told)
        if state.items.texts.shape[1]:
            state.items.texts[rows[held]] = self._catalogue.vectors(told)
        dated = held & (published > 0)
        state.stream.first[rows[dated]] = published[dated]
        state.without_vector.extend(rows[held].tolist())

    def _admit_users(self, state: State, batch: Batch) -> Ints:
        ids = state.user_ids
        known = ids.lookup(batch.users) > 0
        newest = np.zeros(len(batch.users), np.int64)
        np.maximum.at(newest, batch.user, batch.anchor)
        rows = ids.admit(batch.users, newest, np.bincount(batch.user, minlength=len(batch.users)))
        state.grow()
        new = np.flatnonzero(~known & (rows > 0))
        self._attribute(state, [batch.users[i] for i in new.tolist()], rows[new])
        return rows

    def _attribute(self, state: State, names: list[str], rows: Ints) -> None:
        """Give user rows their attributes."""
        state.profiles.attributes[rows] = self.attributes.of(names)

    def _admit_items(self, state: State, batch: Batch) -> Ints:
        """Rows of `batch.items`; ids that only histories name are not admitted."""
        ids = state.item_ids
        rows = ids.lookup(batch.items)
        count = np.bincount(batch.item, minlength=len(batch.items))
        own = np.flatnonzero(count)
        newest = np.zeros(len(batch.items), np.int64)
        np.maximum.at(newest, batch.item, batch.anchor)
        fresh = own[rows[own] == 0]
        rows[own] = ids.admit([batch.items[i] for i in own.tolist()], newest[own], count[own])
        state.grow()
        self._describe(state, [batch.items[i] for i in fresh.tolist()], rows[fresh])
        return rows

    # The user tower's inputs ----------------------------------------------

    def _inputs(self, state: State, batch: Batch, users: Ints, history: Ints) -> Inputs:
        n, length = len(batch), self._config.history
        end = np.searchsorted(batch.history_row, np.arange(n), side="right")
        column = length - (end[batch.history_row] - np.arange(len(history)))
        kept = column >= 0
        at = (batch.history_row[kept], column[kept])
        past, types, ages, dwells = (np.zeros((n, length), np.int32) for _ in range(4))
        past[at], types[at] = history[kept], batch.history_type[kept] + 1
        ages[at] = _age_bucket(batch.history_age[kept])
        dwells[at] = state.seen.dwells(users[batch.history_row[kept]], history[kept])
        hashed = np.array([self._token(name) for name in batch.tokens], np.int32)
        context = ragged_to_padded(batch.token_row, hashed[batch.token], n, self._config.contexts)
        return {
            "rows": own_rows(state, self._config, users),
            "past": past,
            "types": types,
            "ages": ages,
            "dwells": dwells,
            "attributes": self.attributes.of(batch.users)[batch.user],
            "context": context,
            "clock": _clock(batch.anchor, batch.since_event),
        }

    def _token(self, name: str) -> int:
        row = self._tokens.get(name)
        if row is None:
            if len(self._tokens) > 100_000:  # a cache of a pure function: no state
                self._tokens.clear()
            row = self._tokens[name] = hash_token(name, self._config.attribute_buckets)
        return row


def own_rows(state: State, config: ModelConfig, users: Ints) -> Ints:
    """Rows of the user table: 0 for users who have not earned a vector of their own."""
    enough = state.user_ids.count[users] >= config.user_sightings
    return np.where(enough, users, 0).astype(np.int32)


def profile_inputs(state: State, config: ModelConfig, users: Ints, now: int) -> Inputs:
    """The user tower's inputs from what is remembered of user rows, as of `now`."""
    profiles = state.profiles
    types = profiles.types[users].astype(np.int32)
    age = np.where(types > 0, now - profiles.times[users], 0)
    last = profiles.last_event[users]
    past = profiles.past[users]
    stays = state.seen.dwells(np.repeat(users, past.shape[1]), past.ravel())
    return {
        "rows": own_rows(state, config, users),
        "past": past,
        "types": types,
        "ages": np.where(types > 0, _age_bucket(age), 0).astype(np.int32),
        "dwells": stays.reshape(past.shape).astype(np.int32),
        "attributes": profiles.attributes[users],
        "context": profiles.context[users],
        "clock": _clock(np.full(len(users), now), np.where(last < 0, np.nan, now - last)),
    }


def item_inputs(state: State, config: ModelConfig, rows: Ints) -> Inputs:
    """The item tower's inputs.

    Table rows `[n]`, and what `models.memory.item_table.ItemContents.of` says of them.
    """
    enough = state.item_ids.count[rows] >= config.item_sightings
    known = ItemContents(state.items.words, state.items.texts, state.items.likeness)
    return {"rows": np.where(enough, rows, 0).astype(np.int32), **known.of(rows)}


def _excluded(
    state: State,
    batch: Batch,
    users: Ints,
    items: Ints,
    history: Ints,
    until: int | None = None,
) -> Excluded:
    """What each row's user had interacted with before its anchor (or `until`), but its own item."""
    owner, item, time = state.seen.of(users)
    earlier = time < (batch.anchor[owner] if until is None else until)
    row = np.concatenate([owner[earlier], batch.history_row])
    item = np.concatenate([item[earlier], history])
    kept = (item > 0) & (item != items[row])
    keys = distinct((row[kept].astype(np.int64) << 32) | item[kept])
    return Excluded(keys >> 32, keys & 0xFFFFFFFF)


def _last_item(batch: Batch, history: Ints) -> Ints:
    out = np.zeros(len(batch), np.int32)
    kept = batch.history_type != _DISLIKE
    out[batch.history_row[kept]] = history[kept]  # oldest first: the newest is written last
    return out


def _age_bucket(age_ms: Ints) -> Ints:
    """Octave of seconds, from 1."""
    seconds = np.maximum(age_ms, 0) / 1_000.0
    return np.minimum(1 + np.log2(1.0 + seconds), AGE_BUCKETS - 1).astype(np.int32)


def _clock(anchor: Ints, since_ms: NDArray[np.float64]) -> NDArray[np.float32]:
    """The moment, `[n, 3]`: the hour of the (UTC) day on a circle, time since the last event."""
    turn = 2 * np.pi * (anchor % 86_400_000) / 86_400_000
    since = np.log1p(np.maximum(since_ms, 0.0) / 3_600_000.0) / 4.0
    columns = [np.sin(turn), np.cos(turn), np.nan_to_num(since, nan=3.0)]
    return np.column_stack(columns).astype(np.float32)
