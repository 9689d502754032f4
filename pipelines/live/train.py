"""The live trainer: spans of the training log → versions, by one model kept across bundles."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import apache_beam as beam

from models.store import Store
from pipelines.clock import wall_clock_ms
from pipelines.finetune import FineTune, counts_of, tell
from pipelines.live.door import Door
from pipelines.live.forward import Forward
from pipelines.live.stages import Span
from pipelines.metrics import count_all, observe

__all__ = ["TrainLive", "let_go"]

PATIENCE_S = 2.0
"""How long a span waits to be trained when nothing else is due.

Longer than a step takes, so that on a stream that is kept up with a span that is taken for
done is done; shorter than the runner's checkpoints are apart. With a backlog none waits.
"""

_live: dict[str, Forward] = {}
_left: set[str] = set()
_busy = threading.Lock()


def _model(stage: str, job: FineTune, clock: Callable[[], int]) -> Forward:
    """The live model of a stage: copies of its DoFn share one."""
    with _busy:
        _left.discard(stage)
        if stage not in _live:
            _let_go(job.store)
            _live[stage] = Forward(job, clock)
        return _live[stage]


def let_go(store: Store) -> None:
    """Close the models of this process that train on a store and that no bundle needs any more."""
    with _busy:
        _let_go(store)


def _let_go(store: Store) -> None:
    for stage in [one for one in _left if _live[one].store.root == store.root]:
        _left.discard(stage)
        _live.pop(stage).close()


class _Train(beam.DoFn):
    """Spans of the log → versions."""

    def __init__(self, job: FineTune, door: Door | None, clock: Callable[[], int]) -> None:
        self.job, self.door, self.clock = job, door, clock
        self.stage = uuid.uuid4().hex

    def setup(self) -> None:
        """Refuse to train on a store that is not the launcher's."""
        if self.door:
            self.door.check()

    def process(self, element: tuple[int, Span]) -> Iterator[int]:
        """Have the versions made that are due; tell of those that were."""
        span, live = element[1], _model(self.stage, self.job, self.clock)
        level = live.ask(span.last, final=span.final)
        live.wait(span.last, None if span.final else PATIENCE_S if level else 0.0)
        for made in live.made():
            count_all(counts_of(made.manifest))
            observe("train_ms", round(made.manifest.seconds * 1_000))
            observe("freshness_ms", made.freshness_ms)
            yield made.manifest.version
        tell(live.following)

    def teardown(self) -> None:
        """Let the store go at the end of the stream.

        Before it, a runner ends a stage that was idle for a minute: the model stays.
        """
        with _busy:
            live = _live.get(self.stage)
            if live is None:
                return
            _left.add(self.stage)
            if live.finished:
                _let_go(live.store)


@dataclass(eq=False, kw_only=True)
class TrainLive(beam.PTransform):
    """Spans of the training log → the numbers of the versions made.

    Attributes:
        job: what training needs to know.
        resource_hints: Beam's, for a worker of its own with an accelerator; it is
            then the only process that loads the model.
        door: checked by the worker.
    """

    job: FineTune
    resource_hints: dict[str, str] = field(default_factory=dict)
    door: Door | None = None

    def expand(self, spans: beam.PCollection[Span]) -> beam.PCollection[int]:
        """One live model."""
        train = beam.ParDo(_Train(self.job, self.door, wall_clock_ms)).with_output_types(int)
        return (
            spans
            | "One" >> beam.Map(lambda span: (0, span)).with_output_types(tuple[int, Span])
            | "Train" >> train.with_resource_hints(**self.resource_hints)
        )
