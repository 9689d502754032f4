"""The live job on one screen: from a stream of events to published versions."""

from typing import Any

import apache_beam as beam

from pipelines.beam_options import TrainerOptions
from pipelines.config import JobConfig
from pipelines.live.dead_letter_files import KeepLetters
from pipelines.live.state.micro_batches import LiveLog
from pipelines.live.stateful_stages import CutLive, DedupeLive, FeaturizeLive
from pipelines.live.store_check import Door
from pipelines.live.train_stage import TrainLive
from pipelines.read.growing_folder import DirectorySource, ReadDirectory
from pipelines.read.kafka.source import ReadKafka
from pipelines.read.kafka.topic_uri import KafkaSource
from pipelines.train.fine_tune import FineTune

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
