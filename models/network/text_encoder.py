"""An item's words as what the item tower can read.

A `TextEncoder` gives each item a few rows of a table that is learned with the
model, or a fixed vector from a model that exists already, or both.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from models.errors import JobError, RequestError
from models.feature_batch import LENGTHS
from models.network.text_fingerprint import fingerprint

__all__ = [
    "MOST_TOKENS",
    "HashedSubwords",
    "TextEncoder",
    "duration_tokens",
    "hash_token",
    "item_texts",
    "item_tokens",
    "length_buckets",
    "text_encoder",
]

MOST_TOKENS = 256
"""Categories and words of an item that are looked at."""

Ints = NDArray[np.integer]
_CHUNK = 16_384
_WORD = re.compile(r"[^\W_]+")


class TextEncoder(Protocol):
    """Turns texts into table rows and vectors; called once per catalogue.

    `tokens` and `vectors` are pure functions of their arguments. An encoder
    that learns nothing returns empty lists; one without a fixed vector has
    `width` 0 and returns `[n, 0]`.
    """

    width: int

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """Names of what is learned for each text, most telling first."""
        ...

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Fixed vectors, `[n, width]` float32."""
        ...


class HashedSubwords:
    """Words, and their beginnings and ends, hashed: needs no download.

    After Bojanowski et al. (TACL 2017), with two pieces a word in place of
    all n-grams: the model looks tokens up thousands of times a step.

    Args:
        piece: characters of a beginning and of an end.
    """

    width = 0

    def __init__(self, piece: int = 4) -> None:
        self._piece = piece

    def tokens(self, texts: Sequence[str]) -> list[list[str]]:
        """Whole words first, then the pieces of those that are longer.

        >>> HashedSubwords().tokens(["Jumanji (1995)"])
        [['jumanji', '1995', '<juma', 'anji>']]
        """
        return [self._split(text) for text in texts]

    def _split(self, text: str) -> list[str]:
        words = list(dict.fromkeys(_WORD.findall(text.casefold())))
        size = self._piece
        long = [word for word in words if len(word) > size]
        return words + [piece for word in long for piece in (f"<{word[:size]}", f"{word[-size:]}>")]

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """None: `[n, 0]`."""
        return np.zeros((len(texts), 0), np.float32)


def text_encoder(path: str | None, expected: str = "") -> TextEncoder:
    """The encoder of a job file; TensorFlow is loaded only for a model at a path.

    Args:
        path: `model.text_model`; None for `HashedSubwords`.
        expected: the fingerprint that its files must have; "" for any.

    Raises:
        RequestError: the path holds no such model, or one is expected and there is no path.
        JobError: its files are others than when the job was started.
    """
    if path is None:
        if expected:
            raise RequestError(
                f"the text model with the fingerprint {expected[:12]}… is needed, and where it is "
                "is not on record: give it as model.text_model, with rillet retrain --config"
            )
        return HashedSubwords()
    found = fingerprint(Path(path))
    if expected and found != expected:
        raise JobError(
            f"model.text_model {path!r} has the fingerprint {found[:12]}…, the job was started "
            f"with {expected[:12]}…: put the same files on every worker"
        )
    from models.network.pretrained_text import SavedText

    return SavedText(Path(path))


def item_texts(items: pa.Table) -> list[str]:
    """Title and text of each item, joined; "" where there is neither."""
    titles, texts = items["title"].to_pylist(), items["text"].to_pylist()
    return [" ".join(filter(None, pair)) for pair in zip(titles, texts, strict=True)]


def hash_token(name: str, buckets: int) -> int:
    """Row of a token in a table of `buckets` rows; 0 is kept for "none"."""
    return 1 + xxhash.xxh3_64_intdigest(name.encode()) % (buckets - 1)


def item_tokens(items: pa.Table, encoder: TextEncoder, *, buckets: int) -> tuple[Ints, Ints]:
    """Table rows of what each item is made of: categories, then words of title and text.

    What a catalogue does not say is simply absent.

    Returns:
        `[items + 1]` where each item's rows begin, and these rows, distinct within an item,
        at most `MOST_TOKENS` of one, most telling first.
    """
    starts, out = np.zeros(items.num_rows + 1, np.int64), array("i")
    rows: dict[str, int] = {}
    for position, (categories, words) in enumerate(_described(items, encoder)):
        names = [f"category:{name}" for name in categories or []]
        names.extend(f"word:{word}" for word in words)
        held: dict[int, None] = {}
        for name in names[:MOST_TOKENS]:
            row = rows.get(name)
            if row is None:
                row = rows[name] = hash_token(name, buckets)
            held[row] = None
        out.extend(held)
        starts[position + 1] = len(out)
    return starts, np.frombuffer(out, np.int32)


def _described(
    items: pa.Table, encoder: TextEncoder
) -> Iterator[tuple[list[str] | None, list[str]]]:
    """Categories and words of each item; of a part of the catalogue at a time, for memory."""
    for first in range(0, items.num_rows, _CHUNK):
        part = items.slice(first, _CHUNK)
        words = encoder.tokens(item_texts(part))
        yield from zip(part["categories"].to_pylist(), words, strict=True)


def length_buckets(items: pa.Table) -> NDArray[np.int8]:
    """`[items]` half octaves of the durations, from 1; 0 where none is known."""
    ms = items["duration_ms"].cast(pa.float64()).to_numpy()
    known = ms > 0  # what is not known is nan
    halves = np.rint(2 * np.log2(np.where(known, ms, 1.0)))
    return np.where(known, np.clip(halves, 1, LENGTHS - 1), 0).astype(np.int8)


def duration_tokens(items: pa.Table, *, buckets: int) -> NDArray[np.int32]:
    """`[items]` table rows of the durations' octaves; 0 where none is known."""
    octaves = [int(ms or 0).bit_length() for ms in items["duration_ms"].to_pylist()]
    rows = {octave: hash_token(f"duration:{octave}", buckets) for octave in set(octaves)}
    return np.array([rows[octave] if octave else 0 for octave in octaves], np.int32)
