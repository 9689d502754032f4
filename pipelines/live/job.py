"""The live job on one screen: from a stream of events to published versions."""

from typing import Any

import apache_beam as beam

from pipelines.config import JobConfig
from pipelines.live.dead_letter_files import KeepStreamDeadLetters
from pipelines.live.state.micro_batches import LiveLog
from pipelines.live.stateful_stages import CutLive, DedupeLive, FeaturizeLive
from pipelines.live.store_check import StoreCheck
from pipelines.live.train_stage import TrainLive
from pipelines.passthrough_beam_args import TrainerOptions
from pipelines.read.growing_folder import DirectorySource, ReadDirectory
from pipelines.read.kafka.source import ReadKafka
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.train.fine_tune import FineTune

__all__ = ["build"]

Source = KafkaSource | DirectorySource


def build(
    pipeline: beam.Pipeline, source: Source, config: JobConfig, job: FineTune, start: int
) -> None:
    """Lay out the job; `start` is the last batch that is logged."""
    features = config.features
    log, door = LiveLog(job.store, config.batch, features.history), StoreCheck.of(job.store)
    state = job.store.state_path(job.store.last_state())
    hints = pipeline.options.view_as(TrainerOptions).hints()
    parsed = pipeline | "Read" >> _read(source)
    settled = parsed.valid | "Deduplicate" >> DedupeLive(config=features, state=state)
    made = settled.unique | "Featurize" >> FeaturizeLive(
        config=features, state=state, clean=config.clean
    )
    _ = (
        made.rows
        | "MicroBatch" >> CutLive(log=log, window=features.window, start=start, door=door)
        | "FineTune" >> TrainLive(job=job, resource_hints=hints, door=door)
    )
    _ = (
        (parsed.dead, settled.dead, made.dead)
        | "AllDead" >> beam.Flatten()
        | "DeadLetters" >> KeepStreamDeadLetters(folder=job.store.root / "dead_letters", door=door)
    )


def _read(source: Source) -> beam.PTransform[Any, Any]:
    if isinstance(source, KafkaSource):
        return ReadKafka(source=source)
    return ReadDirectory(source=source)
