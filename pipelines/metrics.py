"""The job's Beam metrics: one namespace, one place that knows their names."""

from collections.abc import Iterable, Mapping

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.runner import PipelineResult

__all__ = ["NAMESPACE", "count", "count_all", "counters", "observe"]

NAMESPACE = "rillet"


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
