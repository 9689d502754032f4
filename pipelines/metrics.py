"""The job's Beam metrics: one namespace, one place that knows their names."""

from collections.abc import Iterable, Mapping

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

__all__ = ["NAMESPACE", "count", "count_all", "counters", "largest", "observe", "skipped_records"]

NAMESPACE = "rillet"
_SKIPPED = ("tombstones", "deletes", "no_rows")


def count(name: str, by: int = 1) -> None:
    """Add to a counter; call it while an element is processed."""
    Metrics.counter(NAMESPACE, name).inc(int(by))


def count_all(numbers: Mapping[str, int]) -> None:
    """Add to several counters; call it while an element is processed."""
    for name, number in numbers.items():
        count(name, number)


def observe(name: str, value: int) -> None:
    """Add a value to a distribution (count, sum, min, max of integers)."""
    Metrics.distribution(NAMESPACE, name).update(int(value))


def counters(result: PipelineResult, names: Iterable[str] = ()) -> dict[str, int]:
    """The counters of a finished job by name, over all its steps.

    Args:
        result: of `Pipeline.run`, finished.
        names: counters that are 0 where nothing was counted.
    """
    found = dict.fromkeys(names, 0)
    query = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    for metric in query["counters"]:
        name = metric.key.metric.name
        value = metric.committed if metric.committed is not None else metric.attempted
        found[name] = found.get(name, 0) + int(value)
    return found


def largest(result: PipelineResult, name: str) -> int | None:
    """The largest value of a distribution of a finished job; None where there was none."""
    query = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE).with_name(name))
    found = [m.committed or m.attempted for m in query["distributions"]]
    return max((int(one.max) for one in found if one and one.count), default=None)


def skipped_records(counted: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """What a topic held that is no event and no fault, such as a tombstone; `{}` for nothing.

    >>> skipped_records({"read": 5, "tombstones": 2})
    {'skipped': {'tombstones': 2}}
    """
    found = {name: counted[name] for name in _SKIPPED if counted.get(name)}
    return {"skipped": found} if found else {}
