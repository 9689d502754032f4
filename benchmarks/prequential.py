"""What the benchmarks of quality share: a log in micro-batches, and how rows were answered.

Features and micro-batches are those of `rillet run` with the default job file. A log is a
folder of ../shared/data, or any folder with events.parquet and, if there are any,
items.parquet and users.parquet.
"""

import datetime
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from models import ranking_metrics
from models.training.prequential import Evaluation
from pipelines.batches.cut import cut
from pipelines.batches.row_order import Keys
from pipelines.bounded.features_job import run_features
from pipelines.config import JobConfig
from pipelines.read.catalogues import read_items, read_users

__all__ = ["FIGURES", "Log", "answers", "arm_answers", "heading", "overrides", "since"]

DATA = Path(__file__).parents[2] / "shared" / "data"
FIGURES = ("recall@20", "NDCG@20")


def heading() -> str:
    """Date and machine."""
    cpu = platform.processor() or platform.machine()
    date = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return f"{date} · {cpu} · Python {sys.version.split()[0]}"


def overrides(settings: list[str]) -> dict[str, dict[str, Any]]:
    """`SECTION.FIELD=VALUE` as the tables of a job file."""
    out: dict[str, dict[str, Any]] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        section, _, field = key.partition(".")
        number = value.replace(".", "", 1).replace("e-", "", 1).isdigit()
        out.setdefault(section, {})[field] = float(value) if number else value
    return out


@dataclass(frozen=True)
class Log:
    """Feature rows, the rows of each micro-batch, and what is known beside them."""

    name: str
    rows: pa.RecordBatch
    parts: list[np.ndarray]
    items: pa.Table | None
    users: pa.Table | None

    @classmethod
    def read(cls, name: str, config: JobConfig, limit: int | None = None) -> "Log":
        """Aggregate a log's events and cut them; `limit`: only so many micro-batches."""
        folder = Path(name) if Path(name).exists() else DATA / name
        events = folder if folder.is_file() else folder / "events.parquet"
        with tempfile.TemporaryDirectory() as out:
            now = int(time.time() * 1_000)
            run_features([str(events)], Path(out) / "out", config, [], now)
            table = pq.read_table(Path(out) / "out" / "features")
        rows = table.combine_chunks().to_batches()[0]
        items = _catalogue(events.parent / "items.parquet", read_items)
        users = _catalogue(events.parent / "users.parquet", read_users)
        return cls(folder.name, rows, cut(Keys.of(rows), config.batch, 1)[:limit], items, users)

    def __len__(self) -> int:
        return len(self.parts)

    def batch(self, number: int) -> pa.RecordBatch:
        """Micro-batch `number`, from 1."""
        return self.rows.take(pa.array(self.parts[number - 1]))

    def batches(self, first: int = 1, last: int | None = None) -> Iterator[tuple[int, Any]]:
        """Numbers and rows of micro-batches, in order, `last` among them; says how far it is."""
        for number in range(first, (last or len(self)) + 1):
            yield number, self.batch(number)
            if number % 200 == 0:
                print(f"  {self.name}: {number}/{len(self)}", file=sys.stderr)


def _catalogue(path: Path, read: Any) -> pa.Table | None:
    return read(str(path)).table if path.exists() else None


def answers(found: Evaluation) -> np.ndarray:
    """`[2, rows]`: recall@20 and NDCG@20 of each predicted row, by the model."""
    figures = found.figures()
    return np.stack([figures["recall@20"], figures["ndcg@20"]])


def arm_answers(found: Evaluation) -> np.ndarray:
    """`[2, rows, arms]` float32: the same by every baseline, where all rows were asked for."""
    arms = np.zeros((2, len(found.rows), found.arms.greater.shape[1]), np.float32)
    for place, measure in enumerate((ranking_metrics.recall, ranking_metrics.ndcg)):
        arms[place, found.known] = measure(found.arms.greater, found.arms.ties, 20)
    return arms


def since(sizes: np.ndarray, share: float) -> int:
    """Place of the micro-batch in which a share of all predicted rows is behind.

    >>> since(np.array([10, 20, 10]), 0.5)
    1
    """
    ends = np.cumsum(sizes)
    return int(np.searchsorted(ends, share * ends[-1]))
