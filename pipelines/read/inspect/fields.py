"""The columns of a sample, or the paths into it: types, examples, how many are null."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Field", "fields_of"]

_MAX_PATHS = 200
_MAX_DEPTH = 6


@dataclass
class Field:
    """What a column or path holds."""

    path: str
    kinds: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    nulls: int = 0

    def add(self, value: Any) -> None:
        """One more value."""
        if value is None or value == "":
            self.nulls += 1
            return
        self.kinds[_kind(value)] += 1
        if len(self.values) < 5_000:
            self.values[value if isinstance(value, str) else str(value)] += 1

    @property
    def type(self) -> str:
        """Its types, the usual one first."""
        return " or ".join(kind for kind, _ in self.kinds.most_common()) or "null"

    @property
    def examples(self) -> list[str]:
        """Some of its values."""
        return [value[:80] for value, _ in self.values.most_common(3)]

    def told(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "path": self.path,
            "type": self.type,
            "nulls": self.nulls,
            "distinct": len(self.values),
            "examples": self.examples,
        }


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    names = {int: "int", float: "float", str: "text"}
    return names.get(type(value), type(value).__name__)


def fields_of(records: Iterable[dict[str, Any]]) -> dict[str, Field]:
    """Records → path → what it holds; elements of a list are `path[]`."""
    found: dict[str, Field] = {}
    for record in records:
        for name, value in record.items():
            _walk(found, name, value, 0)
    return found


def _walk(found: dict[str, Field], path: str, value: Any, depth: int) -> None:
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        for name, inner in value.items():
            _walk(found, f"{path}.{name}", inner, depth + 1)
        return
    if isinstance(value, list) and depth < _MAX_DEPTH:
        for inner in value[:20]:
            _walk(found, f"{path}[]", inner, depth + 1)
        return
    if path not in found and len(found) >= _MAX_PATHS:
        return
    found.setdefault(path, Field(path)).add(value)
