"""The whole bounded job on one screen: from a log of events to published versions."""

import logging
from functools import partial
from typing import Any

import apache_beam as beam

from models.store import atomic_files
from models.store.store import Store
from pipelines.batches.micro_batch import LogBatches, MicroBatch
from pipelines.bounded.between_runs import store_compatibility
from pipelines.bounded.between_runs.run_state import load_run_state, write_ends
from pipelines.bounded.between_runs.stream_handover import check_files
from pipelines.bounded.continued_run import FeaturizeOn, Recognise
from pipelines.bounded.read_log import check_log, foreign_counts, read_log
from pipelines.bounded.refusals import warn
from pipelines.bounded.run_setup import (
    RunRequest,
    catalogues,
    fine_tune,
    sinks_caught_up,
    warn_of_strangers,
)
from pipelines.clean.dead_letters import KeepDeadLetters
from pipelines.clean.deduplicate import FindRepeats
from pipelines.clean.quarantine import Suspicion
from pipelines.metrics import counters, largest
from pipelines.passthrough_beam_args import TrainerOptions, pipeline_options
from pipelines.publish import check_sinks
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

    parsed = read_log(pipeline, request.events, request.config, request.now_ms)
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


def run_bounded(request: RunRequest) -> dict[str, Any]:
    """Run to the end of the events; what is printed as one line of JSON."""
    begun = request.monotonic()
    check_log(request.events, request.config)
    items, users = catalogues(request)
    if request.predictions:
        with atomic_files.explained(request.predictions):
            request.predictions.mkdir(parents=True, exist_ok=True)
    store = Store(request.store)
    check_sinks(request.sinks, store)
    with store_compatibility.hold_for_run(store, request.config):
        store_compatibility.put_catalogue(store, "items", items)
        store_compatibility.put_catalogue(store, "users", users)
        check_files(store)
        start = store.last_state()
        atomic_files.remove(store_compatibility.pending_path(store))
        store_compatibility.shuffle_path(store).mkdir(parents=True)
        counted = _execute(request, store, start)
        before = load_run_state(store.state_path(start))
        past = store_compatibility.finish_run(store, request.config.features, start)
        counted |= {"reached_ms": before.frontier}
        told = store_compatibility.summary(store, counted, past) | sinks_caught_up(request, store)
        told |= foreign_counts(counted)
    told["seconds"] = round(request.monotonic() - begun, 3)
    _log.info("%s", told["message"])
    warn_of_strangers(store, "items", items)
    warn_of_strangers(store, "users", users)
    warn(told, store.root / "dead_letters")
    return told


def _execute(request: RunRequest, store: Store, start: int) -> dict[str, int]:
    """Run the pipeline to its end; what it counted."""
    options = pipeline_options(request.beam_args)
    pipeline = beam.Pipeline(options=options)
    build(pipeline, request, store, start)
    result = pipeline.run()
    result.wait_until_finish()
    known = ("read", "duplicates_differ")  # 0 where nothing was counted
    return counters(result, known) | {"too_late_by_ms": largest(result, "too_late_by_ms") or 0}
