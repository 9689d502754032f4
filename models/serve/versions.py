"""Ask a store which versions there are: how fresh each is, and how good it was."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from models.store.store import Store

__all__ = ["describe_versions"]


def describe_versions(store: Path | Store) -> list[dict[str, Any]]:
    """All versions, oldest first, as values that JSON can carry.

    `fresh_s` is the time from the newest event to its being visible, in seconds.
    `recall@20` and `ndcg@20` are dicts of the arms that were measured: model,
    popularity, transitions; an arm without a figure is left out.

    Raises:
        StoreError: no store, or a damaged one.
    """
    store = store if isinstance(store, Store) else Store.open(store)
    current = store.current()
    rows = []
    for number in store.versions():
        manifest = store.manifest(number)
        published = manifest.published_at
        rows.append(
            {
                "version": number,
                "current": number == current,
                "parent": manifest.parent,
                "retrain_of": manifest.retrain_of,
                "served": manifest.gate.served,
                "reasons": list(manifest.gate.reasons),
                "rows": manifest.rows,
                "evaluated": manifest.metrics.get("evaluated"),
                "newest_event_time": manifest.newest_event_time.isoformat(),
                "watermark": manifest.watermark.isoformat(),
                "published_at": published.isoformat() if published else None,
                "fresh_s": _seconds(manifest.newest_event_time, published),
                **{name: _arms(manifest.metrics, name) for name in ("recall@20", "ndcg@20")},
                "digest": manifest.digest,
            }
        )
    return rows


def _seconds(begin: datetime, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds(), 3) if end else None


def _arms(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    arms = {"model": metrics, **(metrics.get("baselines") or {})}
    return {
        arm: figures[name]
        for arm, figures in arms.items()
        if isinstance(figures, Mapping) and isinstance(figures.get(name), int | float)
    }
