"""The whole bounded job on one screen: from a log of events to published versions."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa

from models import durable
from models.embeddings import Keep
from models.manifest import utc_ms
from models.store import Store
from models.text import text_encoder
from pipelines import ledger
from pipelines.config import JobConfig
from pipelines.dead import KeepDeadLetters
from pipelines.dedupe import FindRepeats
from pipelines.failures import explain
from pipelines.finetune import TRAINER, FineTune, FineTuneModel
from pipelines.handover import check_files
from pipelines.metrics import counters
from pipelines.microbatch import LogBatches, MicroBatch
from pipelines.options import TrainerOptions, is_local, pipeline_options
from pipelines.past import write_ends
from pipelines.publish import FileSink, Follow, check_sinks, flush
from pipelines.read import ReadEvents, check_sources, is_stream, is_topic
from pipelines.read.catalog import Catalogue, read_items, read_users
from pipelines.resume import FeaturizeOn, Recognise
from pipelines.validate import Validate

__all__ = ["RunRequest", "build", "run_job"]

_log = logging.getLogger("rillet")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """What `rillet run` was asked to do."""

    events: tuple[str, ...]
    items: str | None
    users: str | None
    store: Path
    config: JobConfig
    predictions: Path | None
    beam_args: tuple[str, ...]
    now_ms: int
    trainer: str = TRAINER
    sinks: tuple[str, ...] = field(default=(), repr=False)
    flush_s: float = 60.0
    monotonic: Callable[[], float] = time.monotonic


def build(pipeline: beam.Pipeline, request: RunRequest, store: Store, start: int) -> None:
    """Lay out the job; `start` is the last batch of the runs before."""
    config, features = request.config, request.config.features
    state, pending = store.state_path(start), ledger.pending_path(store)
    shuffle = ledger.shuffle_path(store)
    log = LogBatches(store, config.batch, features.history, start)
    hints = pipeline.options.view_as(TrainerOptions).hints()

    parsed = _parsed(pipeline, request)
    told = parsed.valid | "Recognise" >> Recognise(state=state, config=features)
    lost = told.fresh | "Deduplicate" >> FindRepeats(
        horizon_ms=features.dedupe_horizon, shards=features.shards, folder=shuffle
    )
    _ = (
        told.fresh
        | "Featurize"
        >> FeaturizeOn(config=features, state=state, pending=pending, lost=lost, folder=shuffle)
        | "MicroBatch" >> MicroBatch(log=log, seen=partial(write_ends, pending / "ends.json"))
        | "FineTune" >> FineTuneModel(job=fine_tune(request, store), resource_hints=hints)
    )
    _ = (
        (parsed.dead, told.dead)
        | "Dead" >> beam.Flatten()
        | "DeadLetters" >> KeepDeadLetters(folder=store.root / "dead_letters")
    )


def _parsed(pipeline: beam.Pipeline, request: RunRequest) -> beam.pvalue.DoOutputsTuple:
    """Events, dead letters and counts of the sources."""
    if is_topic(request.events):
        from pipelines.read.kafka import ReadKafka
        from pipelines.read.kafka_uri import KafkaSource

        source = KafkaSource.parse(request.events[0])
        return pipeline | "Read" >> ReadKafka(source=source, live=False)
    return (
        pipeline
        | "Read" >> ReadEvents(sources=request.events)
        | "Validate" >> Validate(now_ms=request.now_ms)
    )


def run_job(request: RunRequest) -> dict[str, Any]:
    """Run to the end of the events; what is printed as one line of JSON.

    Raises:
        RequestError: the request was wrong (sources, store, configuration);
            the store is as it was.
        JobError: the job failed; what it had committed stays.
    """
    if not is_local(request.beam_args):  # a worker starts elsewhere: paths have to be whole
        request = replace(
            request,
            store=request.store.absolute(),
            predictions=request.predictions and request.predictions.absolute(),
        )
    try:
        if is_stream(request.events, local=is_local(request.beam_args)):
            from pipelines.live.launch import run_live

            return run_live(request)
        return _run(request)
    except Exception as error:
        raise explain(error) from error


def _run(request: RunRequest) -> dict[str, Any]:
    begun = request.monotonic()
    if not is_topic(request.events):
        check_sources(request.events)
    items, users = catalogues(request)
    if request.predictions:
        with durable.explained(request.predictions):
            request.predictions.mkdir(parents=True, exist_ok=True)
    store = Store(request.store)
    check_sinks(request.sinks, store)
    with ledger.held(store, request.config):
        ledger.put_catalogue(store, "items", items)
        ledger.put_catalogue(store, "users", users)
        check_files(store)
        start = store.last_state()
        durable.remove(ledger.pending_path(store))
        ledger.shuffle_path(store).mkdir(parents=True)
        counted = _execute(request, store, start)
        past = ledger.finish(store, request.config.features, start)
        told = ledger.summary(store, counted, past) | shown(request, store)
    if counted.get("ancient"):
        _log.warning(
            "%d events are older than %s and were taken for repeats of what the store has seen",
            counted["ancient"],
            utc_ms(past.frontier - request.config.features.dedupe_horizon).isoformat(),
        )
    told["seconds"] = round(request.monotonic() - begun, 3)
    _log.info("%s", told["message"])
    return told


def _execute(request: RunRequest, store: Store, start: int) -> dict[str, int]:
    """Run the pipeline to its end; what it counted."""
    options = pipeline_options(request.beam_args)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, request, store, start)
    result = pipeline.run()
    result.wait_until_finish()
    return counters(result)


def fine_tune(request: RunRequest, store: Store) -> FineTune:
    """What training needs to know of a request."""
    overlap = request.config.features.window.overlap  # an event is in so many rows
    return FineTune(
        store=store,
        model=request.config.model.model_copy(update={"overlap": overlap}),
        keep=Keep(**request.config.store.model_dump()),
        sinks=[FileSink(store).publish],
        predictions=request.predictions,
        trainer=request.trainer,
        follow=Follow(store, request.sinks),
    )


def shown(request: RunRequest, store: Store) -> dict[str, Any]:
    """Bring the sinks up to the store, within a limit; what to tell of them."""
    if not request.sinks:
        return {}
    return {"sinks": flush(store, request.sinks, request.flush_s)}


def catalogues(request: RunRequest) -> tuple[pa.Table | None, pa.Table | None]:
    """Items and users, where the request names them.

    Raises:
        RequestError: one cannot be read, or the job file's text model cannot be used: that is
            found out here, before anything is written. TensorFlow is loaded only for the latter.
    """
    text_encoder(request.config.model.text_model)
    return _read(read_items, request.items), _read(read_users, request.users)


def _read(reader: Callable[[str], Catalogue], source: str | None) -> pa.Table | None:
    if source is None:
        return None
    found = reader(source)
    if found.skipped:
        _log.warning("%d rows of %s cannot be used: %s", found.skipped, source, found.example)
    return found.table
