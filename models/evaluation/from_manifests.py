"""What the manifests say already: prequential figures, without a replay.

A version's manifest holds means over its own micro-batch: recall, NDCG and MRR at 20 of
the model, and of the popularity and the transitions arm that led until then. Refused
versions count: they were predicted like the others.
"""

from typing import Any

import numpy as np

from models.bootstrap import interval, paired_comparison
from models.errors import RequestError
from models.evaluation.metric_sums import time_blocks
from models.store.manifest import Manifest
from models.store.store import Store
from models.store.training_log import last_part_start

__all__ = ["recorded_metrics"]

_FIGURES = ("recall@20", "ndcg@20", "mrr@20")
_ARMS = ("live", "popularity", "transitions")


def recorded_metrics(store: Store, last: float = 0.5, blocks: int = 5) -> dict[str, Any]:
    """Prequential figures of the last part of a store's versions, and of blocks of time.

    Args:
        store: whose manifests are read.
        last: share of the micro-batches that `ranking` is of, counted as in a replay: without
            those that were refused.
        blocks: of as equal numbers of questions as versions allow, over the whole log.

    Raises:
        RequestError: no version has a figure.
    """
    manifests = [store.manifest(version) for version in store.versions()]
    manifests = [one for one in manifests if one.retrain_of is None]  # those have no batch
    judged = [one for one in manifests if one.metrics.get("evaluated")]
    if not judged:
        raise RequestError(
            f"store {store.root} has no version with predictions to evaluate: " + _cure(manifests)
        )
    first = _split(manifests, last)
    part = [one for one in judged if one.batch >= first]
    pieces = time_blocks([one.metrics["evaluated"] for one in judged], blocks)
    return {
        "what": {
            "store": str(store.root),
            "k": 20,
            "last": last,
            "versions": len(manifests),
            "refused": sum(not one.gate.served for one in manifests),
            "first_judged": first,
            "last_judged": manifests[-1].batch,
            "questions": sum(one.metrics["evaluated"] for one in part),
            "judged_until": manifests[-1].newest_event_time.isoformat(),
        },
        "ranking": {arm: _means(part, arm) for arm in _ARMS if _has(part, arm)},
        "against": {arm: _ratios(part, arm) for arm in _ARMS[1:] if _has(part, arm)},
        "blocks": [_block(judged[piece]) for piece in pieces],
    }


def _split(manifests: list[Manifest], last: float) -> int:
    """The micro-batch that the last part begins with, as `models.evaluation.log_replay` has it."""
    held = [one.batch for one in manifests if one.gate.served] or [manifests[0].batch]
    return held[last_part_start(len(held), last)]


def _cure(manifests: list[Manifest]) -> str:
    if not manifests:
        return "let rillet run finish one"
    return (
        f"its {len(manifests)} are of impressions and dislikes alone, or were made with "
        "model.evaluate = false: let rillet run read other events, or leave out --quick"
    )


def _of(one: Manifest, arm: str) -> dict[str, Any]:
    metrics = one.metrics
    found = metrics if arm == "live" else metrics.get("baselines", {}).get(arm, {})
    return found if isinstance(found, dict) else {}


def _has(part: list[Manifest], arm: str, figure: str = "recall@20") -> bool:
    return all(isinstance(_of(one, arm).get(figure), int | float) for one in part)


def _sums(part: list[Manifest], arm: str, figure: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums of a figure, and questions, by version."""
    rows = np.array([one.metrics["evaluated"] for one in part], float)
    return rows * np.array([_of(one, arm)[figure] for one in part], float), rows


def _means(part: list[Manifest], arm: str) -> dict[str, Any]:
    return {
        figure: interval(*_sums(part, arm, figure)).to_json()
        for figure in _FIGURES
        if _has(part, arm, figure)
    }


def _ratios(part: list[Manifest], arm: str) -> dict[str, Any]:
    out = {}
    for figure in _FIGURES:
        if _has(part, arm, figure) and _has(part, "live", figure):
            (mine, rows), (theirs, _) = (_sums(part, who, figure) for who in ("live", arm))
            out[figure] = paired_comparison(mine, theirs, rows)
    return out


def _block(part: list[Manifest]) -> dict[str, Any]:
    told: dict[str, Any] = {"questions": sum(one.metrics["evaluated"] for one in part)}
    for figure in _FIGURES[:2]:
        told[figure] = {
            arm: interval(*_sums(part, arm, figure)).to_json()
            for arm in _ARMS
            if _has(part, arm, figure)
        }
    return told
