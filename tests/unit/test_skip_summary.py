"""What a run did not test is said in its last lines."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from skip_summary import not_tested

REPOSITORY = Path(__file__).parents[2]
TESTS = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_real(n):
    pytest.skip("no logs on this machine")

@pytest.mark.skip(reason="no Java")
def test_stream():
    raise AssertionError

def test_runs():
    pass
"""


def outcome(folder: Path, tests: str, *more: str) -> str:
    """Output of pytest on these tests, with the hook of this project's conftest."""
    (folder / "test_some.py").write_text(tests)
    (folder / "conftest.py").write_text("from tests.conftest import pytest_terminal_summary\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_some.py", *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests' / 'support'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_last_lines_name_reasons_and_tests(tmp_path: Path) -> None:
    said = outcome(tmp_path, TESTS)
    told = said[said.index("3 tests did not run") :]
    assert told.splitlines()[:5] == [
        "3 tests did not run, for these reasons:",
        "- no logs on this machine (2 tests)",
        "    test_some.py::test_real (2 cases)",
        "- no Java (1 test)",
        "    test_some.py::test_stream",
    ]
    assert len(told.splitlines()) <= 6  # after it only pytest's own count


def test_a_file_that_is_skipped_as_a_whole_is_named(tmp_path: Path) -> None:
    whole = 'import pytest\n\npytest.skip("no Redis", allow_module_level=True)\n'
    (tmp_path / "test_whole.py").write_text(whole)
    said = outcome(tmp_path, TESTS, "test_whole.py")
    assert "- no Redis (1 test)\n    test_whole.py\n" in said


def test_it_is_quiet_where_nothing_was_skipped(tmp_path: Path) -> None:
    assert "did not run" not in outcome(tmp_path, "def test_runs():\n    pass\n")
    assert not_tested([]) == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]))))
def test_every_test_is_counted_once(skipped: list[tuple[str, str]]) -> None:
    lines = not_tested([(f"f.py::{name}[{i}]", why) for i, (name, why) in enumerate(skipped)])
    heads = [line for line in lines if line.startswith("- ")]
    assert sum(int(line.rsplit("(", 1)[1].split()[0]) for line in heads) == len(skipped)
    assert len(heads) == len({why for _, why in skipped})
