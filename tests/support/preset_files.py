"""A file of a known format, and what its preset makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import SourceError
from pipelines.read.foreign_log import parse_records, plan, read_piece
from pipelines.read.mapping.presets import preset, sources_of

NOW_MS = 1_790_000_000_000
T = 1_736_150_400  # 2025-01-06T08:00:00Z


class Got:
    """What a preset made of a file."""

    def __init__(self, name: str, path: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self.dead: list[dict[str, Any]] = []
        self.noted: dict[str, int] = {}
        self.read = 0
        for piece in plan([str(path)], sources_of(preset(name), name), f"format {name}"):
            for records in read_piece(piece):
                parsed = parse_records(records, piece, NOW_MS)
                self.events += parsed.valid.to_pylist()
                self.dead += parsed.dead.to_pylist()
                self.read += parsed.read
                for key, number in parsed.noted.items():
                    self.noted[key] = self.noted.get(key, 0) + number
        for event in self.events:
            event["event_time"] = int(event["event_time"].timestamp() * 1000)
        assert self.read == len(self.events) + len(self.dead)

    def these(self, *columns: str) -> list[tuple[Any, ...]]:
        """Columns of the events, sorted."""
        names = columns or ("user_id", "item_id", "event_type")
        return sorted((tuple(event[name] for name in names) for event in self.events), key=repr)

    @property
    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]

    @property
    def reasons(self) -> list[str]:
        return [letter["reason"] for letter in self.dead]


def got(tmp_path: Path, name: str, file: str, content: Any) -> Got:
    path = tmp_path / file
    if isinstance(content, list):
        content = "".join(json.dumps(record) + "\n" for record in content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return Got(name, path)


def refusal(tmp_path: Path, name: str, file: str, content: Any) -> str:
    with pytest.raises(SourceError) as caught:
        got(tmp_path, name, file, content)
    message = str(caught.value)
    assert "\n" not in message
    return message
