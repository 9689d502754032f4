"""The live job on one screen: from a stream of events to published versions."""

from typing import Any

import apache_beam as beam

from pipelines.config import JobConfig
from pipelines.finetune import FineTune
from pipelines.live.cut import LiveLog
from pipelines.live.door import Door
from pipelines.live.letters import KeepLetters
from pipelines.live.stages import CutLive, DedupeLive, FeaturizeLive
from pipelines.live.train import TrainLive
from pipelines.options import TrainerOptions
from pipelines.read.directory import DirectorySource, ReadDirectory
from pipelines.read.kafka import ReadKafka
from pipelines.read.kafka_uri import KafkaSource

__all__ = ["build"]

Source = KafkaSource | DirectorySource


def build(
    pipeline: beam.Pipeline, source: Source, config: JobConfig, job: FineTune, start: int
) -> None:
    """Lay out the job; `start` is the last batch that is logged."""
    features = config.features
    log, door = LiveLog(job.store, config.batch, features.history), Door.of(job.store)
    state = job.store.state_path(job.store.last_state())
    hints = pipeline.options.view_as(TrainerOptions).hints()
    parsed = pipeline | "Read" >> _read(source)
    settled = parsed.valid | "Deduplicate" >> DedupeLive(config=features, state=state)
    _ = (
        settled.unique
        | "Featurize" >> FeaturizeLive(config=features, state=state)
        | "MicroBatch" >> CutLive(log=log, window=features.window, start=start, door=door)
        | "FineTune" >> TrainLive(job=job, resource_hints=hints, door=door)
    )
    _ = (
        (parsed.dead, settled.dead)
        | "AllDead" >> beam.Flatten()
        | "DeadLetters" >> KeepLetters(folder=job.store.root / "dead_letters", door=door)
    )


def _read(source: Source) -> beam.PTransform[Any, Any]:
    if isinstance(source, KafkaSource):
        return ReadKafka(source=source)
    return ReadDirectory(source=source)
