"""The records of a batch, or the entries that lists in them were exploded into."""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.mapping.follow import follow, json_lists
from pipelines.read.mapping.paths import Step, Tree, parse_path
from pipelines.read.mapping.spec import Explode
from pipelines.read.mapping.texts import as_text, is_text, put

__all__ = ["Frame"]


@dataclass(frozen=True)
class Frame:
    """`[entries]`: each is a record of `batch`, or one element of a list in it.

    Attributes:
        batch: the records, in the source's own columns.
        tree: the fields that any path reads.
        rows: int64 `[entries]`, the record of each; None: entry i is record i.
        elements: path of an exploded list → the element of each entry.
        own: `$ordinal`, `$event_type`.
    """

    batch: pa.RecordBatch
    tree: Tree
    rows: np.ndarray | None = None
    elements: dict[tuple[Step, ...], pa.Array] = field(default_factory=dict)
    own: dict[str, pa.Array] = field(default_factory=dict)
    _found: dict[str, pa.Array] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return self.batch.num_rows if self.rows is None else len(self.rows)

    @property
    def origin(self) -> np.ndarray:
        """int64 `[entries]`: the record of each."""
        return np.arange(self.batch.num_rows) if self.rows is None else self.rows

    def at(self, path: str) -> pa.Array:
        """What stands there, `[entries]`; null where nothing does.

        Raises:
            ValueError: the path asks a list for a field; the message names both.
        """
        if path not in self._found:
            try:
                self._found[path] = put(self._look_up(path))
            except ValueError as error:
                raise ValueError(f"{path} {error}") from None
        return self._found[path]

    def _look_up(self, path: str) -> pa.Array:
        if path in self.own:
            return self.own[path]
        steps = parse_path(path)
        for length in range(len(steps), 0, -1):
            if (element := self.elements.get(steps[:length])) is not None:
                return follow(element, steps[length:], _below(self.tree, steps[:length]))
        whole = self.batch.schema.get_field_index(path)
        if whole >= 0 and not pa.types.is_null(self.batch.schema.field(whole).type):
            return self._column(whole)
        place = self.batch.schema.get_field_index(steps[0].name or "")
        if place < 0 and path == "$record":
            return self._record()
        if place < 0:
            return self._column(whole) if whole >= 0 else pa.nulls(len(self))
        return follow(self._column(place), steps[1:], _below(self.tree, steps[:1]))

    def _record(self) -> pa.Array:
        """All columns of the record together, as text."""
        parts = [as_text(self._column(i)).fill_null("\0") for i in range(self.batch.num_columns)]
        return pc.binary_join_element_wise(*parts, pa.scalar("\x1f"))

    def _column(self, place: int) -> pa.Array:
        column = self.batch.column(place)
        return column if self.rows is None else column.take(pa.array(self.rows))

    def kept(self, mask: np.ndarray) -> "Frame":
        """The entries where bool `[entries]` holds."""
        return self if mask.all() else self._taken(np.flatnonzero(mask), self.elements, self.own)

    def with_own(self, name: str, values: pa.Array) -> "Frame":
        """With one more column of our own, such as `$event_type`."""
        return replace(self, own={**self.own, name: values}, _found=dict(self._found))

    def _taken(
        self,
        entries: np.ndarray,
        elements: dict[tuple[Step, ...], pa.Array],
        own: dict[str, pa.Array],
    ) -> "Frame":
        picked = pa.array(entries)
        return replace(
            self,
            rows=self.origin[entries],
            elements={path: array.take(picked) for path, array in elements.items()},
            own={name: array.take(picked) for name, array in own.items()},
            _found={},
        )

    def exploded(self, explode: Explode) -> tuple["Frame", np.ndarray]:
        """An entry for each element of a list; int64: the records whose list was empty or null."""
        lists = self.at(explode.column)
        if explode.split is not None:
            texts = pc.utf8_trim_whitespace(as_text(lists))
            texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
            lists = pc.split_pattern(texts, explode.split)
        elif is_text(lists.type):
            lists = json_lists(lists, _below(self.tree, parse_path(explode.column)))
        if pa.types.is_null(lists.type):
            lists = lists.cast(pa.list_(pa.null()))
        if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
            raise ValueError(
                f"{explode.column} is {lists.type}, no list: explode takes a list, or text with"
                " split"
            )
        sizes = pc.list_value_length(lists).fill_null(0).to_numpy().astype(np.int64)
        starts = np.cumsum(sizes) - sizes
        repeats = np.maximum(sizes, 1) if explode.empty == "keep" else sizes
        parents = np.repeat(np.arange(len(sizes)), repeats)
        ordinals = np.arange(len(parents)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
        there = sizes[parents] > 0
        places = pa.array(np.where(there, starts[parents] + ordinals, 0), mask=~there)
        grown = self._taken(parents, self.elements, self.own)
        path = parse_path(explode.column)
        texts = pa.array(ordinals).cast(pa.string())
        if "$ordinal" in grown.own:
            texts = pc.binary_join_element_wise(grown.own["$ordinal"], texts, "|")
        grown = replace(
            grown,
            elements={**grown.elements, path: lists.flatten().take(places)},
            own={**grown.own, "$ordinal": texts},
        )
        lost = sizes == 0 if explode.empty == "skip" else np.zeros(len(sizes), bool)
        return grown, self.origin[lost]


def _below(tree: Tree, steps: tuple[Step, ...]) -> Tree:
    for step in steps:
        if step.name is not None:
            tree = tree.get(step.name, {})
    return tree
