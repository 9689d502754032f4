"""A step's inputs in a few arrays: each one that crosses into TensorFlow costs some 50 µs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.memory.item_table import ItemContents
from models.sparse_rows import SparseRows, group_rows, row_numbers

__all__ = ["BAGS", "INTS", "PAST", "ROW_FLOATS", "TABLES", "pack_step", "pack_users"]

Inputs = dict[str, Any]

TABLES = ("user", "item", "history", "word", "attribute")
"""The learned tables, in the order of their groups."""

BAGS = ("word", "attribute")
"""Tables of which a vector is a sum of several rows."""

PAST = ("past", "types", "ages", "dwells")
"""What is said of past events, `[b, l]` each."""

INTS = (
    *("rows", *PAST, "items"),
    *(f"{table}/{part}" for table in TABLES for part in ("unique", "owner", "segment")),
    *(f"{table}/{part}" for table in BAGS for part in ("place", "of")),
)
"""What `ints` holds, one after the other; `sizes` says how many of each."""

ROW_FLOATS = ("clock", "weights", "stats", "targets", "present")
"""What the columns of `row_floats` are, from left to right."""


def user_tokens(users: Inputs) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Attributes and context of `b` users as entries (row, owner) and the scales `[2·b]`.

    Owner i has the attributes of user i, owner b + i the context.
    """
    rows, owner, scale = row_numbers(users["attributes"])
    more, of, scale_of = row_numbers(users["context"])
    size = np.int32(len(scale))
    return (
        np.concatenate([rows, more]),
        np.concatenate([owner, of + size]),
        np.concatenate([scale, scale_of]),
    )


def _places(past: NDArray[np.integer], group: SparseRows) -> NDArray[np.int32]:
    """`[b, l]`: where each past item is in the group's `unique`, from 1; 0 where there is none."""
    return np.where(past > 0, group.place.reshape(past.shape) + 1, 0).astype(np.int32)


def pack_users(users: Inputs, contents: ItemContents) -> Inputs:
    """The user tower's inputs for serving, from `models.training.prepare_batch`'s.

    Returns:
        ints `[b, 1 + 4·l]` (row, then `PAST`: places of past items, types, ages, dwells),
        past `[p]` (rows of the distinct past items) int32, past/words and so on (see
        `ItemContents.of`); clock `[b, c]`, tokens `[2, t]`, scale `[2·b]`.
    """
    group = group_rows(users["past"].ravel())
    places = _places(users["past"], group)
    columns = [users["rows"][:, None], places, *(users[name] for name in PAST[1:])]
    rows, owner, scale = user_tokens(users)
    told = {f"past/{name}": value for name, value in contents.of(group.unique).items()}
    told["past/likeness"] = contents.fixed(group.unique)
    told["past/own"] = contents.own(group.unique)
    return told | {
        "ints": np.concatenate(columns, axis=1, dtype=np.int32),
        "past": group.unique,
        "clock": users["clock"],
        "tokens": np.stack([rows, owner]),
        "scale": scale,
    }


def pack_step(given: Inputs) -> Inputs:
    """Inputs of a training step (`models.training.train_step`) as the traced function takes them.

    Returns:
        ints `[i]` and sizes `[len(INTS)]` int32 (see `INTS`); row_floats `[b, …]`,
        features `[n, features]`, item_text `[n, width]`, past_text `[p, width]`,
        item_likeness `[n, fixed]`, past_likeness `[p, fixed]`, past_own `[p]`,
        word_scale `[n + p]` (of the step's items, then of its distinct past ones),
        token_scale `[2·b]`, correction `[k]`, base `[heads]` float32; masked `[b, k]` bool.
    """
    users, items = given["users"], given["items"]
    tokens, token_owner, token_scale = user_tokens(users)
    history = group_rows(users["past"].ravel())
    past = given["contents"].of(history.unique)
    words = np.concatenate([items["words"][0], past["words"][0]])
    word_owner = np.concatenate(
        [items["words"][1], past["words"][1] + np.int32(len(items["rows"]))]
    )
    groups = {
        "user": group_rows(users["rows"]),
        "item": group_rows(items["rows"]),
        "history": history,
        "word": group_rows(words, word_owner),
        "attribute": group_rows(tokens, token_owner),
    }
    parts = [users["rows"], _places(users["past"], history).ravel()]
    parts += [users[name].ravel() for name in PAST[1:]]
    parts += [items["rows"], *_arrays(groups)]
    parts += [groups["word"].place, word_owner, groups["attribute"].place, token_owner]
    floats = [users["clock"], *(given[name] for name in ROW_FLOATS[1:])]
    return {
        "ints": np.concatenate(parts, dtype=np.int32),
        "sizes": np.array([len(part) for part in parts], np.int32),
        "row_floats": np.concatenate(floats, axis=1, dtype=np.float32),
        "features": given["features"],
        "word_scale": np.concatenate([items["scale"], past["scale"]]),
        "item_text": items["text"],
        "past_text": past["text"],
        "item_likeness": items["likeness"],
        "past_likeness": given["contents"].fixed(history.unique),
        "past_own": given["contents"].own(history.unique),
        "token_scale": token_scale,
        "correction": given["correction"],
        "masked": given["masked"],
        "base": given["base"],
    }


def _arrays(groups: dict[str, SparseRows]) -> list[NDArray[np.int32]]:
    return [
        getattr(groups[table], part) for table in TABLES for part in ("unique", "owner", "segment")
    ]
