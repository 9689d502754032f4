"""A store of made-up versions, and what a reader of each of them has to see."""

import hashlib
from pathlib import Path

import pyarrow as pa

from models.schema import EMBEDDINGS
from models.store.embeddings import write_embeddings
from models.store.manifest import Manifest, Verdict, utc_ms
from models.store.store import Store

Row = tuple[str, str]
"""Entity and id."""


class Branches:
    """Versions one after another, from wherever CURRENT was set to."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder)
        self.store.create({})
        self.seen: dict[int, dict[Row, list[float]]] = {}
        self._newest = 0

    def advance(self, changed: dict[Row, list[float] | None], *, snapshot: bool = False) -> int:
        """A version more; None takes an id away. A snapshot says nothing of ids that are gone."""
        parent = self.store.current()
        before = self.store.manifest(parent) if parent else None
        self._newest += 1
        number = self._newest
        now = dict(self.seen[parent]) if parent else {}
        for row, vector in changed.items():
            if vector is None:
                now.pop(row, None)
            else:
                now[row] = vector
        self.seen[number] = now
        full = snapshot or before is None
        files = [("delta", number, table(changed, number))]
        if full:
            files = [("snapshot", number, table(now, number)), *files]
        write_embeddings(self.store, files)
        digest = hashlib.sha256(f"{before and before.digest} {number} {now}".encode()).hexdigest()
        at = utc_ms(1_700_000_000_000 + number)
        manifest = Manifest(
            version=number,
            parent=parent,
            batch_sha256="",
            rows=len(changed),
            windows=1,
            first_window_start=at,
            newest_event_time=at,
            watermark=at,
            metrics={},
            gate=Verdict(served=True),
            digest=digest,
            snapshot=number if full else before.snapshot,
            checkpoint=False,
            created_at=at,
            published_at=at,
            seconds=0.0,
        )
        self.store.put_manifests([manifest])
        self.store.serve(number)
        return number

    def retrain(self, rows: dict[Row, list[float]]) -> int:
        """A version that descends from none before it."""
        (self.store.root / "CURRENT").unlink()
        return self.advance(rows)

    def roll_back(self, version: int) -> None:
        """Serve an older version again."""
        self.store.serve(version)


def table(rows: dict[Row, list[float] | None], version: int) -> pa.Table:
    """EMBEDDINGS, of two dimensions unless a vector says otherwise; None is a tombstone."""
    width = next((len(vector) for vector in rows.values() if vector), 2)
    made = pa.Table.from_pylist(
        [
            {
                "entity": entity,
                "id": one,
                "embedding": [0.0] * width if vector is None else vector,
                "version": version,
                "updated_at": 1_700_000_000_000 + version,
                "deleted": vector is None,
            }
            for (entity, one), vector in sorted(rows.items())
        ],
        schema=EMBEDDINGS,
    )
    at = EMBEDDINGS.get_field_index("embedding")
    vectors = made["embedding"].cast(pa.list_(pa.float32(), width))
    return made.set_column(at, pa.field("embedding", vectors.type, nullable=False), vectors)
