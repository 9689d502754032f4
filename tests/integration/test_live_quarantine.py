"""`[clean]` and framed values on a real Flink: the batches and letters of a bounded run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.integration import stream
from tests.integration.live_job import finish, settings

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

BOT = 600  # events


def framed(payload: bytes) -> bytes:
    """As a JSON Schema serializer writes it."""
    return b"\x00\x00\x00\x00\x07" + payload


def flood() -> list[bytes]:
    """A bot that sends ten a second for a minute, in the middle of the stream."""
    known = {"user_id": "bot", "item_id": "i1", "event_type": "click"}
    return [
        json.dumps(
            {**known, "event_id": f"b{n}", "event_time": stream.START_MS + 30_000 + 100 * n}
        ).encode()
        for n in range(BOT)
    ]


def letters(store: Path) -> list[str]:
    found = pq.read_table(store / "dead_letters").to_pylist()
    return sorted(repr(one) for one in found)


def test_a_flood_is_quarantined_alike(
    services: Callable, local_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(stream.REPOSITORY))  # workers import the tests' trainers
    monkeypatch.setenv("RILLET_LOCAL", str(local_directory))
    kafka = services("kafka", "flink", "beam")["kafka"]
    messages = stream.payloads(12_000)
    for at, one in enumerate(flood()):  # near events of its own time, as a stream would bring it
        messages.insert(3_000 + 11 * at, framed(one))
    name = stream.topic(kafka, 2)
    stream.produce(kafka, name, messages, 2)
    uri = f"kafka://{kafka}/{name}?until=now&batch=1000&disorder=10s"
    job: dict[str, Any] = {**settings(), "clean": {"max_events": 30, "per": "5s"}}
    bounded, streamed = tmp_path / "bounded", tmp_path / "streamed"
    wanted = finish(uri, bounded, log=tmp_path / "bounded.log", job=job)
    told = finish(
        f"{uri}&stay=0&readers=2",
        streamed,
        "--runner=FlinkRunner",
        "--parallelism=2",
        log=tmp_path / "streamed.log",
        job=job,
    )
    assert wanted["dead"] == told["dead"] == {"quarantined": BOT}
    assert wanted["quarantined"] == told["quarantined"] == {"rate": BOT}
    assert stream.lineage(streamed) == stream.lineage(bounded)
    assert letters(streamed) == letters(bounded)
    for one in (wanted, told):
        assert one["read"] == one["valid"] + one["duplicates"] + BOT
