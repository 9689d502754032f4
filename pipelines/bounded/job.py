"""The whole bounded job on one screen: from a log of events to published versions."""

import logging
from functools import partial
from typing import Any

import apache_beam as beam

from models.store import atomic_files
from models.store.manifest import utc_ms
from models.store.store import Store
from pipelines.batches.micro_batch import LogBatches, MicroBatch
from pipelines.beam_args import TrainerOptions, pipeline_options
from pipelines.bounded import store_compatibility
from pipelines.bounded.continued_run import FeaturizeOn, Recognise
from pipelines.bounded.run_setup import RunRequest, catalogues, fine_tune, sinks_caught_up
from pipelines.bounded.run_state import write_ends
from pipelines.bounded.stream_handover import check_files
from pipelines.clean.dead_letters import KeepDeadLetters
from pipelines.clean.deduplicate import FindRepeats
from pipelines.clean.quarantine import Suspicion
from pipelines.clean.validate import Validate
from pipelines.metrics import counters
from pipelines.publish import check_sinks
from pipelines.read import ReadEvents, check_sources, is_topic
from pipelines.train.fine_tune import FineTuneModel

__all__ = ["build", "run_bounded"]

_log = logging.getLogger("rillet")


def build(pipeline: beam.Pipeline, request: RunRequest, store: Store, start: int) -> None:
    """Lay out the job; `start` is the last batch of the runs before."""
    config, features = request.config, request.config.features
    state, pending = store.state_path(start), store_compatibility.pending_path(store)
    shuffle = store_compatibility.shuffle_path(store)
    log = LogBatches(store, config.batch, features.history, start)
    hints = pipeline.options.view_as(TrainerOptions).hints()

    parsed = _parsed(pipeline, request)
    told = parsed.valid | "Recognise" >> Recognise(state=state, config=features)
    lost = told.fresh | "Deduplicate" >> FindRepeats(
        horizon_ms=features.dedupe_horizon, shards=features.shards, folder=shuffle
    )
    made = told.fresh | "Featurize" >> FeaturizeOn(
        config=features,
        suspicion=Suspicion(config.clean, features.window),
        state=state,
        pending=pending,
        lost=lost,
        folder=shuffle,
    )
    _ = (
        made.rows
        | "MicroBatch" >> MicroBatch(log=log, seen=partial(write_ends, pending / "ends.json"))
        | "FineTune" >> FineTuneModel(job=fine_tune(request, store), resource_hints=hints)
    )
    _ = (
        (parsed.dead, told.dead, made.dead)
        | "Dead" >> beam.Flatten()
        | "DeadLetters" >> KeepDeadLetters(folder=store.root / "dead_letters")
    )


def _parsed(pipeline: beam.Pipeline, request: RunRequest) -> beam.pvalue.DoOutputsTuple:
    """Events, dead letters and counts of the sources."""
    if is_topic(request.events):
        from pipelines.read.kafka.source import ReadKafka
        from pipelines.read.kafka.source_spec import KafkaSource

        source = KafkaSource.parse(request.events[0])
        return pipeline | "Read" >> ReadKafka(source=source, live=False)
    return (
        pipeline
        | "Read" >> ReadEvents(sources=request.events)
        | "Validate" >> Validate(now_ms=request.now_ms)
    )


def run_bounded(request: RunRequest) -> dict[str, Any]:
    """Run to the end of the events; what is printed as one line of JSON."""
    begun = request.monotonic()
    if not is_topic(request.events):
        check_sources(request.events)
    items, users = catalogues(request)
    if request.predictions:
        with atomic_files.explained(request.predictions):
            request.predictions.mkdir(parents=True, exist_ok=True)
    store = Store(request.store)
    check_sinks(request.sinks, store)
    with store_compatibility.held(store, request.config):
        store_compatibility.put_catalogue(store, "items", items)
        store_compatibility.put_catalogue(store, "users", users)
        check_files(store)
        start = store.last_state()
        atomic_files.remove(store_compatibility.pending_path(store))
        store_compatibility.shuffle_path(store).mkdir(parents=True)
        counted = _execute(request, store, start)
        past = store_compatibility.finish(store, request.config.features, start)
        told = store_compatibility.summary(store, counted, past) | sinks_caught_up(request, store)
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
