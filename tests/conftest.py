"""Shared fixtures.

| name | what |
|---|---|
| `real_log` | folder of one real log in ../shared/data, or a skip with the reason |
| `rillet` | runs the command in a process of its own and returns (status, stdout, stderr) |

Layout: `unit/` knows neither Beam nor TensorFlow, `stages/` runs single
transforms, `models/` needs TensorFlow, `integration/` runs the whole command
or real services. What several of them share is in `support/`.

The last lines of a run say which tests were skipped and why (`support/skip_summary.py`).
"""

import os
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import settings
from skip_summary import not_tested, skips

REPOSITORY = Path(__file__).parent.parent
REAL_LOGS = REPOSITORY.parent / "shared" / "data"

settings.register_profile("rillet", deadline=None, max_examples=50)
settings.load_profile("rillet")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, object, object]:
    """Say after all else what was not tested; nothing where nothing was skipped."""
    result = yield
    if lines := not_tested(skips(terminalreporter.stats.get("skipped", []))):
        terminalreporter.section("not tested", yellow=True)
        for line in lines:
            terminalreporter.write_line(line)
    return result


@pytest.fixture
def real_log() -> Callable[[str], Path]:
    """Name → folder of a real log; skips where the logs are not on this machine."""

    def find(name: str) -> Path:
        folder = REAL_LOGS / name
        if not folder.is_dir():
            missing = folder if REAL_LOGS.is_dir() else REAL_LOGS
            pytest.skip(f"{missing} is missing: real logs are not part of the project")
        return folder

    return find


class Outcome(NamedTuple):
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


@pytest.fixture
def rillet(tmp_path: Path) -> Callable[..., Outcome]:
    """Run `rillet ARGS…` as a user would, in `tmp_path`."""

    def run(*args: object, timeout: float = 300, **env: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "pipelines", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run
