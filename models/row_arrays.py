"""Arrays with a row for each id, declared once: made, grown, reset, saved and loaded from that."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEVER", "Arrays", "Column", "RowArrays", "grown", "under", "with_prefix"]

NEVER = np.iinfo(np.int64).min
"""A time (epoch ms) at which nothing has happened yet."""

Arrays = dict[str, NDArray[Any]]
Scalar = TypeVar("Scalar", bound=np.generic)


def grown(array: NDArray[Any], size: int, fill: float = 0) -> NDArray[Any]:
    """`array` with its first axis padded to `size` rows of `fill`."""
    if len(array) >= size:
        return array
    extra = np.full((size - len(array), *array.shape[1:]), fill, array.dtype)
    return np.concatenate([array, extra])


def with_prefix(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """The same arrays, each name behind `prefix`."""
    return {f"{prefix}{name}": array for name, array in arrays.items()}


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Those arrays whose names begin with `prefix`, by what follows it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


class Column(Generic[Scalar]):
    """One array of a `RowArrays`, `[rows, *shape]`, under the name that it is assigned to.

    Args:
        dtype: of the values.
        shape: behind the rows; a name stands for a width that is given to `RowArrays`.
        fill: what a row holds before anything is known.
        by_row: False for an array of `shape` alone, which is about all rows together: it
            neither grows nor is reset.
    """

    def __init__(
        self, dtype: type[Scalar], *shape: int | str, fill: float = 0, by_row: bool = True
    ) -> None:
        self.dtype, self.shape, self.fill, self.by_row = dtype, shape, fill, by_row

    def __get__(self, owner: Any, kind: type) -> NDArray[Scalar]:
        """Only reached where there is no array: an instance's own hides its declaration."""
        raise AttributeError(f"{kind.__name__} has its arrays once RowArrays.__init__ made them")

    def make(self, size: int, widths: Mapping[str, int]) -> NDArray[Scalar]:
        """The array of `size` rows in which nothing is known."""
        shape = tuple(widths[n] if isinstance(n, str) else n for n in self.shape)
        return np.full((size, *shape) if self.by_row else shape, self.fill, self.dtype)


class RowArrays:
    """Base of what is kept by row: its class attributes of type `Column` are the declaration.

    Args:
        size: rows at first.
        parts: others that have the same rows, by what their arrays' names begin with.
        widths: of the columns' shapes, by name.
    """

    columns: ClassVar[dict[str, Column[Any]]] = {}

    def __init_subclass__(cls) -> None:
        """Note what the class declares."""
        super().__init_subclass__()
        own = {name: one for name, one in vars(cls).items() if isinstance(one, Column)}
        cls.columns = cls.columns | own

    def __init__(
        self, size: int, parts: Mapping[str, "RowArrays"] | None = None, **widths: int
    ) -> None:
        self._parts = dict(parts or {})
        for name, column in self.columns.items():
            setattr(self, name, column.make(size, widths))

    def _by_row(self) -> Iterator[tuple[str, NDArray[Any], float]]:
        for name, column in self.columns.items():
            if column.by_row:
                yield name, getattr(self, name), column.fill

    def grow(self, size: int) -> None:
        """Make room for rows below `size`."""
        for name, array, fill in self._by_row():
            setattr(self, name, grown(array, size, fill))
        for part in self._parts.values():
            part.grow(size)

    def reset(self, rows: NDArray[np.integer]) -> None:
        """Forget rows that were recycled; what they added to the whole stays."""
        for _, array, fill in self._by_row():
            array[rows] = fill
        for part in self._parts.values():
            part.reset(rows)

    def arrays(self) -> Arrays:
        """All of it, by name."""
        found = {name: getattr(self, name) for name in self.columns}
        for prefix, part in self._parts.items():
            found |= with_prefix(prefix, part.arrays())
        return found

    def load(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put back what `arrays` gave; names that are not declared are left aside."""
        for name in self.columns:
            setattr(self, name, arrays[name])
        for prefix, part in self._parts.items():
            part.load(under(prefix, arrays))
