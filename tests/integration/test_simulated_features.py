"""A features run finds exactly what the simulator put in."""

import json
from pathlib import Path

import pytest

from pipelines.bounded.features_job import run_features
from pipelines.config import JobConfig
from pipelines.simulate import SimulationSpec, simulate

NOW_MS = 1_800_000_000_000  # 2027: after the stream, long before the malformed 2999


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "parquet"])
def test_the_summary_is_the_truth(tmp_path: Path, form: str) -> None:
    faults = {"duplicates": 0.05, "late": 0.1, "malformed": 0.03}
    spec = SimulationSpec.of(events=3_000, users=60, items=80, format=form, **faults)
    truth = simulate(tmp_path / "sim", spec)
    source = str(tmp_path / "sim" / f"events.{form}")
    told = run_features([source], tmp_path / "out", JobConfig(), [], NOW_MS)
    assert told == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {name: told[name] for name in ("read", "valid", "duplicates")} == {
        "read": truth["lines"],
        "valid": truth["events"],
        "duplicates": truth["duplicates"],
    }
    assert told["dead"] == truth["malformed"]
