"""What a run left behind, for comparing two of them."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from models.store.manifest import WALL_CLOCK_FIELDS


def contents(*folders: Path) -> dict[str, object]:
    """Every file by name: Parquet as its rows, the rest as bytes, without wall-clock times."""
    found: dict[str, object] = {}
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            name = str(path.relative_to(folder.parent))
            if path.name.startswith(".rillet-") or path.name.startswith("users-"):
                continue  # locks; pieces of users' memories, which depend on the shards
            if path.parent.name == "versions":
                told = json.loads(path.read_bytes())
                found[name] = {k: v for k, v in told.items() if k not in WALL_CLOCK_FIELDS}
            elif path.suffix == ".parquet":
                table = pq.read_table(path)
                kept = [n for n in table.column_names if n != "seen_at"]
                found[name] = table.select(kept).to_pylist()
            else:
                found[name] = path.read_bytes()
    return found
