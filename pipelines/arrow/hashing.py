"""Stable 64-bit hashes of whole columns of strings, in numpy.

The same on every machine, run and worker. xxhash, called once a row, would cost
several times as much as all the rest of deduplication.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["Hashes", "hash_strings", "mix"]

Hashes = npt.NDArray[np.uint64]

# Odd constants of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_HALF, _TAIL = np.uint64(32), np.uint64(29)


def mix(state: Hashes, values: npt.NDArray[np.uint64]) -> Hashes:
    """`[n]`: the state with one more 64-bit value of each row worked in."""
    state = (state ^ values) * _FIRST
    state ^= state >> _HALF
    state *= _SECOND
    state ^= state >> _TAIL
    return state


def hash_strings(column: pa.Array, seed: int = 0) -> Hashes:
    """Strings or binary `[n]`, without nulls, → `[n]` uint64.

    >>> one, other = hash_strings(pa.array(["a", "b"])), hash_strings(pa.array(["b"]))
    >>> bool(one[1] == other[0])
    True
    """
    if pa.types.is_dictionary(column.type):
        return hash_strings(column.dictionary, seed)[column.indices.to_numpy()]
    count = len(column)
    if not count:
        return np.empty(0, np.uint64)
    bounds, data = column.buffers()[1:]
    offsets = np.frombuffer(bounds, np.int32)[column.offset : column.offset + count + 1]
    start, length = offsets[:-1].astype(np.int64), np.diff(offsets)
    words = _words(data, int(offsets[0]), int(offsets[-1]))
    start -= int(offsets[0])
    state = mix(np.full(count, np.uint64(seed) + _STEP), length.astype(np.uint64))
    return _work_in(state, words, start, length)


def _words(data: Any, first: int, last: int) -> npt.NDArray[np.uint64]:
    """The eight bytes at each position in [first, last), zeros after the end."""
    size = last - first
    padded = np.zeros(size + 8, np.uint8)
    if size:
        padded[:size] = np.frombuffer(data, np.uint8, count=size, offset=first)
    return np.ndarray((size + 1,), np.dtype("<u8"), padded, strides=(1,))


def _work_in(
    state: Hashes,
    words: npt.NDArray[np.uint64],
    start: npt.NDArray[np.int64],
    length: npt.NDArray[np.int32],
) -> Hashes:
    longest, shortest = int(length.max()), int(length.min())
    masks = np.append(
        (np.uint64(1) << np.arange(0, 64, 8, dtype=np.uint64)) - np.uint64(1),
        np.uint64(0xFFFFFFFFFFFFFFFF),
    )
    for at in range(0, longest, 8):
        if at < shortest:
            word = words[start + at] & masks[np.minimum(length - at, 8)]
            state = mix(state, word)
        else:  # only some rows are that long
            rows = np.flatnonzero(length > at)
            word = words[start[rows] + at] & masks[np.minimum(length[rows] - at, 8)]
            state[rows] = mix(state[rows], word)
    return state
