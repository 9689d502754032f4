"""What the pages and docstrings name is there: files, links, tests, modules and their names."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGES = [
    REPOSITORY / "README.md",
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "benchmarks").glob("*.md")),
    *sorted((REPOSITORY / "infra").glob("*.md")),
]
SOURCES = sorted(
    path for room in ("pipelines", "models") for path in (REPOSITORY / room).rglob("*.py")
)
TOP = "pipelines|models|tests|benchmarks|infra|docs"
PATH = re.compile(rf"(?<![\w/.*-])(?:{TOP})/[\w./*-]*")
CASES = re.compile(r"(?<![\w/.*-])(tests/[\w/]+\.py)` \(((?:`test_\w+`(?:, )?)+)\)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
NAME = re.compile(r"`((?:pipelines|models)(?:\.\w+)+)`")


def shown(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def missing_paths(text: str) -> list[str]:
    """Paths from the top of the project that nothing lies at; `*` stands for any name."""
    named = [found.rstrip(".") for found in PATH.findall(text)]
    return [one for one in named if not any(REPOSITORY.glob(one.rstrip("/")))]


def is_there(name: str) -> bool:
    """Whether a dotted name is a module, or stands in the last module of its way."""
    place, parts = REPOSITORY, name.split(".")
    for at, part in enumerate(parts):
        if (place / part).is_dir():
            place /= part
        elif (place / f"{part}.py").is_file():
            place = place / f"{part}.py"
        else:
            file = place / "__init__.py" if place.is_dir() else place
            return file.is_file() and all(
                re.search(rf"\b{re.escape(left)}\b", file.read_text()) for left in parts[at:]
            )
    return True


def missing_names(text: str) -> Iterator[str]:
    return (name for name in NAME.findall(text) if not is_there(name))


def missing_tests(text: str) -> Iterator[str]:
    """Tests that a file, named as `FILE` (`TEST`, `TEST`), does not have."""
    for file, names in CASES.findall(text):
        tests = (REPOSITORY / file).read_text()
        yield from (one for one in re.findall(r"\w+", names) if f"def {one}(" not in tests)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_page_names_what_is_there(page: Path) -> None:
    text = page.read_text()
    assert missing_paths(text) == []
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []
    assert list(missing_names(text)) == []
    assert list(missing_tests(text)) == []


def test_docstrings_name_what_is_there() -> None:
    found = {shown(source): list(missing_names(source.read_text())) for source in SOURCES}
    assert {file: names for file, names in found.items() if names} == {}


def test_what_is_not_there_is_found() -> None:
    text = "see `pipelines/read/gone.py`, pipelines/read/*_gone.py and tests/unit/test_gone.py."
    assert missing_paths(text) == [
        "pipelines/read/gone.py",
        "pipelines/read/*_gone.py",
        "tests/unit/test_gone.py",
    ]
    assert missing_paths("`pipelines/job.py`, `pipelines/read/` and tests/unit/*/test_*.py") == []
    assert list(missing_names("`pipelines.job.run_job` or `pipelines.gone.run_job`")) == [
        "pipelines.gone.run_job"
    ]
    told = "`tests/unit/test_config.py` (`test_gone`, `test_none`)"
    assert list(missing_tests(told)) == ["test_gone", "test_none"]
