"""Dead letters are kept once, however often they are read."""

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines import metrics
from pipelines.clean.dead_letters import KeepDeadLetters
from pipelines.passthrough_beam_args import pipeline_options
from pipelines.schema import DEAD_LETTERS


def letters(source: str, *entries: tuple[int, str, bytes], seen_at: int = 0) -> pa.RecordBatch:
    rows = [
        {"payload": p, "reason": r, "detail": "x", "source": source, "position": n}
        | {"seen_at": seen_at}
        for n, r, p in entries
    ]
    return pa.RecordBatch.from_pylist(rows, schema=DEAD_LETTERS)


def kept(folder, *batches) -> dict[str, int]:
    pipeline = beam.Pipeline(options=pipeline_options([]))
    _ = pipeline | beam.Create(list(batches)) | KeepDeadLetters(folder=folder)
    result = pipeline.run()
    result.wait_until_finish()
    return metrics.counters(result)


def test_one_file_per_source_and_each_letter_once(tmp_path):
    first = letters("a.jsonl", (7, "bad_json", b"{"), (3, "bad_time", b"{}"), seen_at=1)
    other = letters("b.jsonl", (3, "bad_time", b"{}"))
    counted = kept(tmp_path, first, other)
    assert counted == {"dead_bad_json": 1, "dead_bad_time": 2}
    again = letters("a.jsonl", (3, "bad_time", b"{}"), (9, "bad_json", b"["), seen_at=2)
    kept(tmp_path, again)
    assert len(list(tmp_path.iterdir())) == 2
    table = pq.read_table(tmp_path).sort_by([("source", "ascending"), ("position", "ascending")])
    assert table.schema.equals(DEAD_LETTERS)
    assert table["position"].to_pylist() == [3, 7, 9, 3]
    seen = [t.timestamp() for t in table["seen_at"].to_pylist()]
    assert seen == [0.001, 0.001, 0.002, 0.0]


def test_letters_of_settled_events_are_put_together_by_day(tmp_path):
    day = 86_400_000
    first = letters("stream", (0, "too_late", b"a"), (5, "too_late", b"b"), (day, "too_late", b"c"))
    kept(tmp_path, first, letters("stream", (day - 1, "quarantined", b"d"), (-1, "bad", b"e")))
    files = [pq.read_table(path)["payload"].to_pylist() for path in tmp_path.iterdir()]
    assert sorted(map(sorted, files)) == [[b"a", b"b", b"d"], [b"c"], [b"e"]]
