"""A path followed through Arrow columns: structs, maps, lists, and JSON in text."""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.json_columns import from_objects, read_texts
from pipelines.read.mapping.paths import ANY, Step, Tree
from pipelines.read.mapping.texts import as_text, is_text

__all__ = ["follow", "json_lists"]


_decode = msgspec.json.Decoder().decode


def follow(array: pa.Array, steps: tuple[Step, ...], tree: Tree) -> pa.Array:
    """`[n]` values and the steps from there → what stands at the end, `[n]`; null where nothing.

    Args:
        array: of any type.
        steps: the rest of a path.
        tree: the fields that are read below, by any path: a text is decoded for all of them.

    Raises:
        ValueError: a step asks a list for a field; the message says the cure.
    """
    if not steps or pa.types.is_null(array.type):
        return array
    step, rest = steps[0], steps[1:]
    if is_text(array.type) or pa.types.is_binary(array.type):
        listed = step.index is not None or step.key is not None
        array = json_lists(array, tree) if listed else _decoded(array, tree)
    if step.name == ANY:
        return _any_field(array)
    if step.index is not None:
        return follow(_element(array, step.index), rest, tree)
    if step.key is not None:
        return follow(_keyed(array, step), rest, tree)
    return follow(_field(array, step.name or ""), rest, tree.get(step.name or "", {}))


def _decoded(array: pa.Array, tree: Tree) -> pa.Array:
    """JSON texts → structs; what is no JSON object is null."""
    texts = as_text(array)
    there = texts.is_valid()
    known = texts.filter(there)
    read = read_texts(known.cast(pa.binary()), tree)
    places = np.flatnonzero(there.to_numpy(zero_copy_only=False))[read.origin]
    back = np.full(len(array), -1)
    back[places] = np.arange(len(places))
    if not read.columns.num_columns:
        return pa.nulls(len(array))
    return read.columns.to_struct_array().take(pa.array(back, mask=back < 0))


def json_lists(texts: pa.Array, tree: Tree) -> pa.Array:
    """JSON texts `[n]` → lists `[n]` with the wanted fields; what is no JSON array is null."""
    found = [_list_in(text) for text in as_text(texts).to_pylist()]
    inside = from_objects([{"lists": one} for one in found], {"lists": tree})
    lists = inside.column(inside.schema.get_field_index("lists"))
    return lists.cast(pa.list_(pa.null())) if pa.types.is_null(lists.type) else lists


def _list_in(text: str | None) -> list[Any] | None:
    try:
        value = None if text is None else _decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None
    return value if isinstance(value, list) else None


def _field(array: pa.Array, name: str) -> pa.Array:
    if pa.types.is_struct(array.type):
        if array.type.get_field_index(name) < 0:
            return pa.nulls(len(array))
        return pc.struct_field(array, name)
    if pa.types.is_map(array.type):
        return pc.map_lookup(array, pa.scalar(name), "first")
    if _is_list(array.type):
        raise ValueError(f"is a list where field {name} is asked of it: explode it, or take [0]")
    return pa.nulls(len(array))


def _is_list(kind: pa.DataType) -> bool:
    kinds: tuple[Callable[[pa.DataType], bool], ...] = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
    )
    return any(is_kind(kind) for is_kind in kinds)


def _element(array: pa.Array, index: int) -> pa.Array:
    if not _is_list(array.type):
        return pa.nulls(len(array))
    sizes = pc.list_value_length(array).fill_null(0).to_numpy()
    starts = np.cumsum(sizes) - sizes  # in the list's elements, flattened without null lists
    has = sizes > index
    return array.flatten().take(pa.array(np.where(has, starts + index, 0), mask=~has))


def _keyed(array: pa.Array, step: Step) -> pa.Array:
    """The first element of each list whose field `key` is the word."""
    if not _is_list(array.type):
        return pa.nulls(len(array))
    elements = array.flatten()
    keys = as_text(_field(elements, step.key or ""))
    find = pc.match_substring if step.contains else pc.equal
    hits = find(keys, step.word).fill_null(False).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(array).to_numpy()[hits]
    rows, first = np.unique(parents, return_index=True)
    places = np.full(len(array), -1)
    places[rows] = np.flatnonzero(hits)[first]
    return elements.take(pa.array(places, mask=places < 0))


def _any_field(array: pa.Array) -> pa.Array:
    if not pa.types.is_struct(array.type):
        return array
    parts = [as_text(pc.struct_field(array, field.name)) for field in array.type]
    return pc.coalesce(*parts) if parts else pa.nulls(len(array), pa.string())
