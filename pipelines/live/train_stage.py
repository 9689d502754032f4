"""The live trainer: spans of the training log → versions, by one model kept across bundles."""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.utils.timestamp import Timestamp

from models.store.store import Store
from pipelines.clock import wall_clock_ms
from pipelines.live.stateful_stages import LogSpan
from pipelines.live.store_check import StoreCheck
from pipelines.live.trainer_thread import TrainerThread
from pipelines.metrics import count_all, observe
from pipelines.train.fine_tune import FineTune, count_followers, counts_of

__all__ = ["TrainLive", "close_idle_trainers"]

PATIENCE_S = 2.0
"""How long the spans of a bundle wait, together, to be trained when nothing else is due.

Longer than a step takes, so that on a stream that is kept up with what is taken for done is
done; shorter than the runner's checkpoints are apart.
"""

LOOK_S = 0.2
"""How long a look at a backlog waits: no more of them than so, whatever the clocks say."""

AGAIN_S = 2.0
"""Between two looks at how far training is, while a span is taken that is not trained."""

_AGAIN = TimerSpec("again", TimeDomain.REAL_TIME)
_ASKED = ReadModifyWriteStateSpec("asked", VarIntCoder())
_again: Any = beam.DoFn.TimerParam(_AGAIN)
_asked: Any = beam.DoFn.StateParam(_ASKED)

_live: dict[str, TrainerThread] = {}
_left: set[str] = set()
_busy = threading.Lock()


def _model(stage: str, job: FineTune, clock: Callable[[], int]) -> TrainerThread:
    """The live model of a stage: copies of its DoFn share one."""
    with _busy:
        _left.discard(stage)
        if stage not in _live:
            _close_idle(job.store)
            _live[stage] = TrainerThread(job, clock)
        return _live[stage]


def close_idle_trainers(store: Store) -> None:
    """Close the models of this process that train on a store and that no bundle needs any more."""
    with _busy:
        _close_idle(store)


def _close_idle(store: Store) -> None:
    for stage in [one for one in _left if _live[one].store.root == store.root]:
        _left.discard(stage)
        _live.pop(stage).close()


class _Train(beam.DoFn):
    """(0, span of the log) → versions.

    What was asked for and is not trained yet is in the runner's state, with a timer: after
    a crash it is gone on with, though the stream may be silent from then on.
    """

    def __init__(self, job: FineTune, door: StoreCheck | None, clock: Callable[[], int]) -> None:
        self.job, self.door, self.clock = job, door, clock
        self.stage, self.until = uuid.uuid4().hex, 0.0

    def setup(self) -> None:
        """Refuse to train on a store that is not the launcher's."""
        if self.door:
            self.door.check()

    def start_bundle(self) -> None:
        """Patience is by bundle: a checkpoint waits for the end of one."""
        self.until = time.monotonic() + PATIENCE_S

    def process(
        self, element: tuple[int, LogSpan], asked: Any = _asked, again: Any = _again
    ) -> Iterator[int]:
        """Have the versions made that are due; tell of those that were."""
        span, live = element[1], _model(self.stage, self.job, self.clock)
        last = max(span.last, asked.read() or 0)
        level = live.ask(last, final=span.final)
        patience = max(self.until - time.monotonic(), 0.0) if level else 0.0
        done = live.wait(last, None if span.final else patience)
        self._note(last, asked, again, done=done)
        yield from self._made(live)

    @on_timer(_AGAIN)
    def look(self, asked: Any = _asked, again: Any = _again) -> Iterator[int]:
        """See how far it is; the model is loaded where this is the first that is asked of it."""
        last, live = asked.read() or 0, _model(self.stage, self.job, self.clock)
        live.ask(last)
        self._note(last, asked, again, done=live.wait(last, LOOK_S))
        yield from self._made(live)

    def _note(self, last: int, asked: Any, again: Any, *, done: bool) -> None:
        if done:
            asked.clear()
            again.clear()
        else:
            asked.write(last)
            again.set(Timestamp(micros=self.clock() * 1_000) + AGAIN_S)

    def _made(self, live: TrainerThread) -> Iterator[int]:
        for made in live.made():
            count_all(counts_of(made.manifest))
            observe("train_ms", round(made.manifest.seconds * 1_000))
            observe("freshness_ms", made.freshness_ms)
            yield made.manifest.version
        count_followers(live.following)

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
                _close_idle(live.store)


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
    door: StoreCheck | None = None

    def expand(self, spans: beam.PCollection[LogSpan]) -> beam.PCollection[int]:
        """One live model."""
        train = beam.ParDo(_Train(self.job, self.door, wall_clock_ms)).with_output_types(int)
        return (
            spans
            | "One" >> beam.Map(lambda span: (0, span)).with_output_types(tuple[int, LogSpan])
            | "Train" >> train.with_resource_hints(**self.resource_hints)
        )
