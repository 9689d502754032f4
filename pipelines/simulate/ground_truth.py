"""What is known about a simulated world beside what it published."""

import json
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from pipelines.schema import EVENT_TYPES, TIMESTAMP
from pipelines.simulate.faults import EVENT, MALFORMED, REPEAT, WAYS
from pipelines.simulate.file_writer import TableFile, write_table
from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.behaviour import BOT, CAUSES, Columns, position_weights
from pipelines.simulate.world.entities import TOPICS, Catalogue, Population, item_ids, user_ids
from pipelines.simulate.world.words import CATEGORIES, STYLES

__all__ = ["Truth"]

_CAUSE = pa.dictionary(pa.int8(), pa.string())
_LOGITS = pa.list_(pa.float32(), TOPICS)

EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("cause", _CAUSE, nullable=False),  # one of behaviour.CAUSES
        pa.field("noise", pa.bool_(), nullable=False),  # an accident, or a bot's
        pa.field("position", pa.int8()),  # in the slate, from 0
        pa.field("affinity", pa.float32(), nullable=False),  # log-odds over the average item
    ]
)
TASTES = pa.schema(
    [
        pa.field("session_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("time", TIMESTAMP, nullable=False),
        pa.field("logits", _LOGITS, nullable=False),  # before context and fashion
    ]
)
FASHION = pa.schema([pa.field("time", TIMESTAMP), pa.field("logits", _LOGITS)])
MALFORMED_LINES = pa.schema(
    [
        pa.field("line", pa.int64(), nullable=False),  # from 0
        pa.field("byte", pa.int64(), nullable=False),  # where it begins, from 0
        pa.field("reason", pa.string(), nullable=False),
        pa.field("way", pa.string(), nullable=False),
    ]
)

_TABLES = {
    "events": EVENTS,
    "tastes": TASTES,
    "fashion": FASHION,
    "malformed": MALFORMED_LINES,
}


def _logits(values: Any) -> pa.Array:
    flat = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), TOPICS)


class Truth:
    """Writes `truth/*.parquet` as the stream goes and `truth.json` at its end."""

    def __init__(self, out: Path, spec: SimulationSpec, rule: Any) -> None:
        """`rule` is `memory.routine_rule`'s table."""
        self._out, self._spec, self._rule = out, spec, rule
        self._users = user_ids(spec.users)
        self.lines = Counter[int]()
        self.reasons = Counter[str]()
        self.types = Counter[int]()
        self.causes = Counter[int]()
        self.sessions = 0
        self.first_ms, self.last_ms = 2**63, 0
        self._files = {
            name: TableFile(out / "truth" / f"{name}.parquet", schema)
            for name, schema in _TABLES.items()
        }
        self._stack = ExitStack()
        self._shown = np.zeros((2, spec.slate), dtype=np.int64)  # impressions, clicks

    def __enter__(self) -> Self:
        for file in self._files.values():
            self._stack.enter_context(file)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def events(self, ids: pa.Array, rows: Columns) -> None:
        """Note why the chunk's events came to be."""
        n, position = len(ids), rows["position"]
        if n == 0:
            return
        causes = pa.DictionaryArray.from_arrays(pa.array(rows["cause"]), pa.array(CAUSES))
        columns = [
            ids,
            causes,
            pa.array(np.isin(rows["cause"], (CAUSES.index("accident"), BOT))),
            pa.array(position, mask=position < 0),
            pa.array(rows["affinity"]),
        ]
        self._files["events"].write(pa.RecordBatch.from_arrays(columns, schema=EVENTS))
        self.first_ms = min(self.first_ms, int(rows["time"][0]))
        self.last_ms = int(rows["time"][-1])
        self.types.update(_counts(rows["type"]))
        self.causes.update(_counts(rows["cause"]))
        fed = rows["cause"] == CAUSES.index("feed")
        for row, kind in enumerate((0, 2)):  # impression, click
            chosen = position[fed & (rows["type"] == kind)]
            self._shown[row] += np.bincount(chosen, minlength=self._spec.slate)

    def tastes(self, sessions: Columns, fashion: Columns) -> None:
        """Note what the sessions' users liked as they began, and the fashion."""
        self.sessions += len(sessions["user"])
        self._files["tastes"].write(
            pa.RecordBatch.from_arrays(
                [
                    pa.array([f"s{n}" for n in sessions["session"]], pa.string()),
                    self._users.take(pa.array(sessions["user"])),
                    pa.array(sessions["time"]).cast(TIMESTAMP),
                    _logits(sessions["logits"]),
                ],
                schema=TASTES,
            )
        )
        self._files["fashion"].write(
            pa.RecordBatch.from_arrays(
                [pa.array(fashion["time"]).cast(TIMESTAMP), _logits(fashion["logits"])],
                schema=FASHION,
            )
        )

    def written(self, rows: Columns, first_line: int, starts: Any) -> None:
        """Note which lines are repeats and which are malformed."""
        self.lines.update(_counts(rows["line"]))
        bad = np.flatnonzero(rows["line"] == MALFORMED)
        reasons = [WAYS[way][0] for way in rows["way"][bad]]
        self.reasons.update(reasons)
        ways = [WAYS[way][1] for way in rows["way"][bad]]
        columns = [
            pa.array(first_line + bad),
            pa.array(starts[bad]),
            pa.array(reasons, pa.string()),
            pa.array(ways, pa.string()),
        ]
        self._files["malformed"].write(pa.RecordBatch.from_arrays(columns, schema=MALFORMED_LINES))

    def world(self, items: Catalogue, people: Population) -> None:
        """Write items' factors and who is a bot."""
        n, latent = len(items.topic), {"topic": items.topic, "second_topic": items.second}
        columns = {
            "item_id": item_ids(n),
            **latent,
            "topic_share": items.share,
            "fame": items.fame,
            "half_life_ms": items.half_life_ms,
            "price": items.price,
            "series": items.series,
            "episode": items.episode,
        }
        write_table(pa.table(columns), self._out / "truth" / "items.parquet")
        columns = {
            "user_id": self._users,
            "bot": people.bot,
            "activity": people.activity,
            "arrives": pa.array(people.arrives).cast(TIMESTAMP),
            "demographics": _logits(people.mean),
        }
        write_table(pa.table(columns), self._out / "truth" / "users.parquet")

    def summary(self, late: int) -> dict[str, Any]:
        """Counts, as a `features` run has to find them."""
        return {
            "events": self.lines[EVENT],
            "lines": sum(self.lines.values()),
            "duplicates": self.lines[REPEAT],
            "malformed": dict(sorted(self.reasons.items())),
            "late": late,
            "users": self._spec.users,
            "items": self._spec.items,
            "sessions": self.sessions,
            "types": {EVENT_TYPES[code]: n for code, n in sorted(self.types.items())},
            "causes": {CAUSES[code]: n for code, n in sorted(self.causes.items())},
            "min_event_time_ms": self.first_ms,
            "max_event_time_ms": self.last_ms,
        }

    def close(self, late: int) -> dict[str, Any]:
        """Write `truth.json`; returns the summary in it."""
        summary = self.summary(late)
        shown, clicked = self._shown
        document = {
            "spec": self._spec.model_dump(mode="json"),
            "summary": summary,
            "topics": [f"{category} {style}" for category in CATEGORIES for style in STYLES],
            "routine": {
                "meaning": "category that follows (last but one, last), by number",
                "categories": CATEGORIES,
                "table": self._rule.tolist(),
            },
            "position": {
                "look": position_weights(self._spec.slate, self._spec.position_bias).tolist(),
                "impressions": shown.tolist(),
                "clicks": clicked.tolist(),
            },
        }
        path = self._out / "truth.json"
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        return summary


def _counts(codes: Any) -> dict[int, int]:
    values, counts = np.unique(codes, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))
