"""What a run of the tests did not test, and why: the last lines of its output."""

from collections import defaultdict
from collections.abc import Iterable

import pytest

Skip = tuple[str, str]  # (node id of a test or of a whole file, reason)


def skips(reports: Iterable[pytest.TestReport | pytest.CollectReport]) -> list[Skip]:
    """The skips among pytest's reports; a reason is without pytest's own prefix."""
    found = []
    for report in reports:
        told = report.longrepr
        reason = told[2] if isinstance(told, tuple) else str(told)
        found.append((report.nodeid, reason.removeprefix("Skipped: ")))
    return found


def not_tested(skipped: Iterable[Skip]) -> list[str]:
    """Lines that name each reason once, with the tests that it kept from running.

    The cases of one parametrised test are counted in one line. The reason that
    stopped most tests comes first.

    >>> print(*not_tested([("a.py::t[1]", "no Java"), ("a.py::t[2]", "no Java")]), sep="\\n")
    2 tests did not run, for this reason:
    - no Java (2 tests)
        a.py::t (2 cases)
    """
    by_reason: dict[str, list[str]] = defaultdict(list)
    for node, reason in skipped:
        by_reason[reason].append(node)
    if not by_reason:
        return []
    total = sum(map(len, by_reason.values()))
    reasons = "this reason" if len(by_reason) == 1 else "these reasons"
    lines = [f"{_counted(total, 'test')} did not run, for {reasons}:"]
    for reason, nodes in sorted(by_reason.items(), key=lambda one: (-len(one[1]), one[0])):
        lines.append(f"- {reason} ({_counted(len(nodes), 'test')})")
        lines += [f"    {line}" for line in _folded(nodes)]
    return lines


def _folded(nodes: Iterable[str]) -> list[str]:
    """Node ids, those of several cases of one test as one line."""
    cases: dict[str, list[str]] = defaultdict(list)
    for node in sorted(nodes):
        cases[node.partition("[")[0]].append(node)
    return [
        f"{name} ({len(same)} cases)" if len(same) > 1 else same[0] for name, same in cases.items()
    ]


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
