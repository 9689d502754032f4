"""What is known of items and users beside their feedback, by id."""

from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from models.config import ModelConfig
from models.feature_batch import attribute_names
from models.network.text_encoder import (
    HashedSubwords,
    TextEncoder,
    duration_tokens,
    hash_token,
    item_texts,
    item_tokens,
    length_buckets,
)
from models.schema import ITEMS, USERS
from models.training.item_text_similarity import ContentSimilarity

__all__ = ["Attributes", "Catalogue"]

_FIRST = np.iinfo(np.int64).min


class Catalogue:
    """Items of a catalogue: their words as table rows, and when they appear.

    Args:
        items: an `ITEMS` table, or None.
        config: buckets and limits.
        encoder: how text is read.
    """

    def __init__(
        self, items: pa.Table | None, config: ModelConfig, encoder: TextEncoder | None = None
    ) -> None:
        table = ITEMS.empty_table() if items is None else _distinct(items, "item_id")
        self.ids: list[str] = table["item_id"].to_pylist()
        self.row = {name: row for row, name in enumerate(self.ids)}
        self._encoder = encoder or HashedSubwords()
        self._texts = item_texts(table) if self._encoder.width else []
        starts, tokens = item_tokens(table, self._encoder, buckets=config.text_buckets)
        self.words = np.zeros((len(self.ids), config.content_columns), np.int32)
        if config.content_columns:
            owner = np.repeat(np.arange(len(self.ids)), np.diff(starts))
            self.words[:, 0] = duration_tokens(table, buckets=config.text_buckets)
            self.words[:, 1:] = ragged_to_padded(owner, tokens, len(self.ids), config.text_tokens)
        self._lengths = length_buckets(table)
        self._width = config.likeness
        self._likeness = ContentSimilarity(
            starts, tokens, buckets=config.text_buckets, dim=self._width, seed=config.seed
        )
        published = table["published_at"].cast(pa.int64()).to_numpy()
        self.published = np.where(np.isnan(published), _FIRST, published).astype(np.int64)
        self.digest = _digest(table)
        self._order = np.argsort(self.published, kind="stable")
        self._sorted = self.published[self._order]

    def appeared(self, after_ms: int | None, until_ms: int) -> list[str]:
        """Ids published in (after, until]; with `after` None from the beginning of time."""
        first = 0 if after_ms is None else int(np.searchsorted(self._sorted, after_ms, "right"))
        last = int(np.searchsorted(self._sorted, until_ms, "right"))
        return [self.ids[row] for row in self._order[first:last].tolist()]

    def facts(self, names: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Words `[n, words]` (0: none) and publication, epoch ms (int64 minimum: unknown)."""
        rows = _rows(self.row, names)
        return _taken(self.words, rows), _taken(self.published, rows, _FIRST)

    def lengths(self, names: list[str]) -> NDArray[np.int8]:
        """Half octaves of the durations, `[n]` (see `length_buckets`); 0: unknown."""
        return _taken(self._lengths, _rows(self.row, names))

    def likeness(self, names: list[str]) -> NDArray[np.float32]:
        """What the items are like, `[n, likeness]`; zeros where nothing is known."""
        rows = _rows(self.row, names)
        out = np.zeros((len(names), self._width), np.float32)
        out[rows >= 0] = self._likeness.of(rows[rows >= 0])
        return out

    def vectors(self, names: list[str]) -> NDArray[np.float32]:
        """Fixed vectors of the items' texts, `[n, width]`; computed now, so ask once."""
        rows = _rows(self.row, names).tolist()
        return self._encoder.vectors([self._texts[row] if row >= 0 else "" for row in rows])


class Attributes:
    """Attributes of the users of a table, as rows of the attribute table.

    Args:
        users: a `USERS` table, or None.
        config: buckets and limits.
    """

    def __init__(self, users: pa.Table | None, config: ModelConfig) -> None:
        table = USERS.empty_table() if users is None else _distinct(users, "user_id")
        self.row = {name: row for row, name in enumerate(table["user_id"].to_pylist())}
        self.names, owner, code = attribute_names(table)
        hashed = [hash_token(name, config.attribute_buckets) for name in self.names]
        self.tokens = ragged_to_padded(
            owner, np.array(hashed, np.int32)[code], table.num_rows, config.attributes
        )
        codes = ragged_to_padded(owner, code.astype(np.int32) + 1, table.num_rows, 256)
        self.digest = _digest(table)
        self._codes = codes[:, : max(1, int((codes > 0).sum(axis=1).max(initial=0)))]

    def of(self, names: list[str]) -> NDArray[np.int32]:
        """Rows of the attribute table, `[n, attributes]`, 0-padded."""
        return _taken(self.tokens, _rows(self.row, names))

    def codes(self, names: list[str]) -> NDArray[np.int32]:
        """Codes into `self.names` plus 1, `[n, most attributes]`, 0-padded."""
        return _taken(self._codes, _rows(self.row, names))


def _rows(row: dict[str, int], names: list[str]) -> NDArray[np.int64]:
    """Rows of a table by id; -1 for an id that it lacks."""
    return np.fromiter((row.get(name, -1) for name in names), np.int64, len(names))


def _taken(values: NDArray[Any], rows: NDArray[np.int64], lacking: int = 0) -> NDArray[Any]:
    """`values[rows]`, and `lacking` for row -1."""
    out = np.full((len(rows), *values.shape[1:]), lacking, values.dtype)
    out[rows >= 0] = values[rows[rows >= 0]]
    return out


def ragged_to_padded(
    owner: NDArray[np.integer], values: NDArray[Any], rows: int, width: int
) -> NDArray[Any]:
    """The first `width` values of each owner, `[rows, width]`, 0-padded; `owner` ascends."""
    out = np.zeros((rows, width), values.dtype)
    start = np.searchsorted(owner, np.arange(rows))
    column = np.arange(len(owner)) - start[owner]
    kept = column < width
    out[owner[kept], column[kept]] = values[kept]
    return out


def _distinct(table: pa.Table, key: str) -> pa.Table:
    """The last row of each id wins."""
    last = {name: row for row, name in enumerate(table[key].to_pylist())}
    if len(last) == table.num_rows:
        return table
    return table.take(pa.array(sorted(last.values()), pa.int64()))


def _digest(table: pa.Table) -> int:
    """63 bits of the table's values, however they lie in memory: is it another one than before?"""
    state = xxhash.xxh3_64()
    for batch in table.combine_chunks().to_batches(max_chunksize=8_192):
        state.update(repr(batch.to_pylist()).encode())
    return state.intdigest() >> 1
