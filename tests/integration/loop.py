"""A small log and small jobs, for tests that run the whole loop."""

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

START = 1_700_000_000_000
KINDS = ("impression", "view", "click", "like", "dislike", "purchase", "rating")

JOB = """
[features]
history = 10
shards = 3
[batch]
min_rows = 30
max_rows = 40
max_wait = "10m"
[model]
dim = 8
history = 4
negatives = 16
text_buckets = 64
attribute_buckets = 64
baseline_half_lives_h = [1.0, 24.0]
baseline_smoothing = [5.0]
[store]
checkpoint_every = 4
snapshot_every = 3
"""


def events(n: int = 420, *, seed: int = 0, begin: int = 0) -> list[dict]:
    """Numbered events of a dozen users within about three hours."""
    draw = random.Random(seed)
    moments = sorted(draw.randrange(0, 10_800_000) for _ in range(n))
    return [
        {
            "event_id": f"e{begin + i}",
            "user_id": f"u{draw.randrange(12)}",
            "item_id": f"i{min(draw.randrange(25), draw.randrange(25))}",
            "event_type": (kind := draw.choice(KINDS)),
            "event_time": START + begin * 10_800_000 // 420 + moment,
            **({"value": draw.randrange(1, 6)} if kind in ("rating", "purchase") else {}),
        }
        for i, moment in enumerate(moments)
    ]


def write(path: Path, rows: list[dict], *spoiled: str) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "".join(spoiled))
    return path


@dataclass(frozen=True)
class Ended:
    """How the command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def summary(self) -> dict:
        assert self.status == 0, self.stderr
        return json.loads(self.stdout)


HERE = Path(__file__).parent


def command(*args: object, program: str = "-m pipelines") -> tuple[list[str], dict[str, str]]:
    """What to start, and its environment: one thread, tests importable on workers."""
    argv = [sys.executable, *program.split(), *map(str, args)]
    paths = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent / "support")))
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
    return argv, {**os.environ, "PYTHONPATH": paths, **threads}


def run(*args: object, program: str = "-m pipelines", timeout: float = 300, **env: str) -> Ended:
    """Run the command to its end."""
    argv, variables = command(*args, program=program)
    done = subprocess.run(
        argv,
        env={**variables, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)
