"""Where a value stands in a record: `properties.products[0].sku`, `params[key=page].value.*`.

A step is a field, `[n]` (an element of a list), `[key=word]` (the first element whose field
`key` is that word; `~` for "contains it"), or `*` (the first field that is not null, as text).
A field of a text is looked up in the JSON that the text holds.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

__all__ = ["ANY", "Step", "Tree", "parse_path", "tree_of"]

Tree: TypeAlias = "dict[str, Tree]"
"""Which fields of a JSON value are wanted; lists are looked through. {}: the whole value."""

ANY = "*"

_TOKEN = re.compile(
    r"\[(?P<index>\d+)\]"
    r"|\[(?P<key>[^\]=~]+)(?P<sign>[=~])(?P<word>[^\]]*)\]"
    r"|(?P<each>\[\])"
    r"|(?P<name>[^.\[\]]+)"
    r"|(?P<dot>\.)"
)


@dataclass(frozen=True)
class Step:
    """One step of a path; exactly one of `name`, `index` and `key` is set."""

    name: str | None = None
    index: int | None = None
    key: str | None = None
    word: str = ""
    contains: bool = False


@lru_cache(maxsize=4_096)
def parse_path(text: str) -> tuple[Step, ...]:
    """A path as it is written → its steps; `[]` of an exploded list may stand and says nothing.

    >>> [step.name for step in parse_path("properties.products[].sku")]
    ['properties', 'products', 'sku']

    Raises:
        ValueError: it is no path.
    """
    steps, at = [], 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ValueError(
                f"{text!r} is no path (at character {at + 1}); write one such as a.b[0].c"
                " or params[key=page].value"
            )
        at = match.end()
        if match["index"] is not None:
            steps.append(Step(index=int(match["index"])))
        elif match["key"] is not None:
            steps.append(Step(key=match["key"], word=match["word"], contains=match["sign"] == "~"))
        elif match["name"] is not None:
            steps.append(Step(name=match["name"]))
    if not steps or steps[0].name is None:
        raise ValueError(f"{text!r} is no path; it begins with the name of a column")
    return tuple(steps)


def tree_of(paths: Iterable[tuple[Step, ...]]) -> Tree:
    """What has to be read of a JSON value so that all paths can be followed.

    >>> tree_of([parse_path("a.b"), parse_path("a.c[k=x].v")])
    {'a': {'b': {}, 'c': {'k': {}, 'v': {}}}}
    """
    tree: Tree = {}
    for path in paths:
        at = tree
        for step in path:
            if step.name is not None:
                at = at.setdefault(step.name, {})
            elif step.key is not None:
                at.setdefault(step.key, {})
    return tree
