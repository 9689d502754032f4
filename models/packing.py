"""A step's inputs in a few arrays: each one that crosses into TensorFlow costs some 50 µs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.groups import Group, grouped, row_numbers

__all__ = ["BAGS", "INTS", "ROW_FLOATS", "TABLES", "pack_step", "pack_users"]

Inputs = dict[str, Any]

TABLES = ("user", "item", "history", "word", "attribute")
"""The learned tables, in the order of their groups."""

BAGS = ("word", "attribute")
"""Tables of which a vector is a sum of several rows."""

INTS = (
    *("rows", "past", "types", "ages", "items"),
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


def pack_users(users: Inputs) -> Inputs:
    """The user tower's inputs for serving, from `models.prepare`'s."""
    columns = [users["rows"][:, None], users["past"], users["types"], users["ages"]]
    rows, owner, scale = user_tokens(users)
    return {
        "ints": np.concatenate(columns, axis=1, dtype=np.int32),
        "clock": users["clock"],
        "tokens": np.stack([rows, owner]),
        "scale": scale,
    }


def pack_step(given: Inputs) -> Inputs:
    """Inputs of a training step (`models.learn`) as the traced function takes them.

    Returns:
        ints `[i]` and sizes `[len(INTS)]` int32 (see `INTS`); row_floats `[b, …]`,
        item_floats `[n, features + 1]` (features, scale), item_text `[n, width]`,
        token_scale `[2·b]`, correction `[k]`, base `[heads]` float32; masked `[b, k]` bool.
    """
    users, items = given["users"], given["items"]
    tokens, token_owner, token_scale = user_tokens(users)
    words, word_owner = items["words"]
    groups = {
        "user": grouped(users["rows"]),
        "item": grouped(items["rows"]),
        "history": grouped(users["past"].ravel()),
        "word": grouped(words, word_owner),
        "attribute": grouped(tokens, token_owner),
    }
    parts = [users[name].ravel() for name in ("rows", "past", "types", "ages")]
    parts += [items["rows"], *_arrays(groups)]
    parts += [groups["word"].place, word_owner, groups["attribute"].place, token_owner]
    floats = [users["clock"], *(given[name] for name in ROW_FLOATS[1:])]
    return {
        "ints": np.concatenate(parts, dtype=np.int32),
        "sizes": np.array([len(part) for part in parts], np.int32),
        "row_floats": np.concatenate(floats, axis=1, dtype=np.float32),
        "item_floats": np.column_stack([given["features"], items["scale"]]).astype(np.float32),
        "item_text": items["text"],
        "token_scale": token_scale,
        "correction": given["correction"],
        "masked": given["masked"],
        "base": given["base"],
    }


def _arrays(groups: dict[str, Group]) -> list[NDArray[np.int32]]:
    return [
        getattr(groups[table], part) for table in TABLES for part in ("unique", "owner", "segment")
    ]
