"""Manifests with next to nothing in them."""

from typing import Any

from models.store.manifest import Manifest, Verdict, utc_ms
from models.store.store import GENESIS

START = 1_700_000_000_000


def manifest(version: int, **fields: Any) -> Manifest:
    at = utc_ms(START + version * 600_000)
    told = {
        "version": version,
        "parent": version - 1 or None,
        "batch_sha256": f"{version:064x}",
        "rows": 4,
        "windows": 1,
        "first_window_start": at,
        "newest_event_time": at,
        "watermark": at,
        "metrics": {},
        "gate": Verdict(served=True),
        "digest": GENESIS,
        "snapshot": 1,
        "checkpoint": False,
        "created_at": at,
        "published_at": at,
        "seconds": 0.0,
    }
    return Manifest(**told | fields)
