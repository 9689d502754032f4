"""Feature rows in a plain Python loop: no engine, everything in dicts.

python benchmarks/peers/pure_python.py EVENTS.parquet OUT.jsonl
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parent))
from user_rows import add, finish, fresh


def main(events: str, out: str) -> None:
    users, seen = defaultdict(list), set()
    for batch in pq.ParquetFile(events).iter_batches(65_536):
        at = batch.schema.get_field_index("event_time")
        time = batch.column(at).cast("timestamp[ms]").cast("int64")
        for event in batch.set_column(at, "event_time", time).to_pylist():
            if event["event_id"] not in seen:
                seen.add(event["event_id"])
                users[event["user_id"]].append(event)
    with Path(out).open("w") as file:
        for own in users.values():
            known, rows = fresh(), {}
            for event in sorted(own, key=lambda e: (e["event_time"], e["event_id"])):
                add(known, rows, event)
            file.writelines(json.dumps(finish(row)) + "\n" for row in rows.values())


if __name__ == "__main__":
    main(*sys.argv[1:])
