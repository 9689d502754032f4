"""May this version be served? Simple, strict reasons; no TensorFlow.

A refused version leaves CURRENT where it is, and its batch is left out of the
lineage: the trainer goes back to the last accepted version and on from there,
so that one poisoned batch does not spoil all that follow.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from models.store.manifest import Verdict

__all__ = ["MAX_NORM", "judge"]

MAX_NORM = 1e4
"""Longest believable vector: log counts and dot products stay far below."""


def judge(
    metrics: Mapping[str, Any], delta: pa.RecordBatch, *, snapshot: pa.Table | None = None
) -> Verdict:
    """The verdict on what a step made.

    Args:
        metrics: what the step reported; nested, numbers at the leaves. A metric
            that could not be computed is None, never NaN.
        delta: `[rows]` of EMBEDDINGS, the vectors that the step touched.
        snapshot: all vectors, when one is due.
    """
    reasons = [
        f"{name} is {value}" for name, value in _numbers(metrics) if not math.isfinite(value)
    ]
    for name, value in _numbers(metrics):
        if name.rpartition(".")[2].startswith(("recall@", "ndcg@")) and not 0 <= value <= 1:
            reasons.append(f"{name} is {value}, outside [0, 1]")
    reasons += _vectors("delta", delta)
    if snapshot is not None:
        reasons += _vectors("snapshot", snapshot)
        if not len(snapshot):
            reasons.append("there is not a single vector to serve")
    return Verdict(served=not reasons, reasons=reasons)


def _numbers(metrics: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """Leaves that are numbers, with their dotted names."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def _vectors(kind: str, rows: pa.RecordBatch | pa.Table) -> list[str]:
    """What is wrong with the vectors: not finite, too long, without an id."""
    if not len(rows):
        return []
    column = rows["embedding"] if isinstance(rows, pa.Table) else rows.column("embedding")
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(rows), -1)
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    bad = int(np.count_nonzero(~np.isfinite(norms)))
    if bad:
        return [f"{bad} of {len(rows)} vectors of the {kind} are not finite"]
    longest = float(norms.max())
    if longest > MAX_NORM:
        return [f"a vector of the {kind} has length {longest:.3g}, above {MAX_NORM:.0f}"]
    return []
