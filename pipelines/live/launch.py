"""`rillet run` on a stream: options for the cluster, the job, and what is said at its end."""

import logging
from collections.abc import Mapping, Sequence, Set
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult, PipelineState

from models.store import Store
from pipelines import ledger
from pipelines.errors import JobError, RequestError
from pipelines.job import RunRequest, catalogues, fine_tune, shown
from pipelines.live.job import Source, build
from pipelines.local import flink_flags, flink_jar
from pipelines.metrics import counters
from pipelines.options import is_local, runner_name
from pipelines.past import Past
from pipelines.publish import check_sinks
from pipelines.read.kafka_uri import KafkaSource
from pipelines.read.live import live_source

__all__ = ["live_options", "run_live"]

_log = logging.getLogger("rillet")

_FLINK: Mapping[str, str | None] = {
    "streaming": None,
    # A restart repeats at most so many milliseconds of work.
    "checkpointing_interval": "3000",
    # Without it, most runs with checkpoints stalled at their source.
    "finish_bundle_before_checkpointing": None,
    # This is how the runner spells it; a second, the default, is most of the latency.
    "max_bundle_time_mills": "50",
    "retain_externalized_checkpoints_on_cancellation": None,
    "externalized_checkpoints_enabled": None,
}


_VALUES: Mapping[str, Any] = {
    # Chained operators have other names with another parallelism, and a savepoint is lost.
    # (On by default, so that no flag of the command line turns it off.)
    "operator_chaining": False,
}


def live_options(given: Sequence[str], source: Source) -> PipelineOptions:
    """Beam's options with what a stream needs, where the arguments do not say otherwise.

    Raises:
        RequestError: the runner takes no stream.
    """
    return PipelineOptions(live_args(given, source), **_VALUES)


def run_live(request: RunRequest) -> dict[str, Any]:
    """Run until the stream ends or the job is stopped; what is printed as one line of JSON.

    Raises:
        RequestError: the request was wrong; nothing was started.
        JobError: the job failed; what it had committed stays.
    """
    begun = request.monotonic()
    source = live_source(request.events)
    options = live_options(request.beam_args, source)
    items, users = catalogues(request)
    store = Store(request.store)
    check_sinks(request.sinks, store)
    with ledger.held(store, request.config):
        start = store.last_batch()
        _check_beginning(store, source, start, request.beam_args)
        ledger.put_catalogue(store, "items", items)
        ledger.put_catalogue(store, "users", users)
        pipeline = beam.Pipeline(options=options)
        build(pipeline, source, request.config, fine_tune(request, store), start)
        result = pipeline.run()
        _log.info("the stream is running; stop it with Ctrl-C")
        _wait(result)
        counted = counters(result) | {"rows": _rows_since(store, start)}
        told = ledger.summary(store, counted, _stood(store)) | shown(request, store)
    told["seconds"] = round(request.monotonic() - begun, 3)
    _log.info("%s", told["message"])
    return told


def _wait(result: PipelineResult) -> None:
    """Wait for the end of the stream, or for Ctrl-C, which stops the job.

    Raises:
        JobError: the job failed.
    """
    try:
        state = result.wait_until_finish()
    except KeyboardInterrupt:
        _log.info("stopping the job")
        result.cancel()
        return
    except RuntimeError as error:
        if "JobCancellationException" not in str(error):
            raise
        _log.info("the job was stopped on its cluster")  # with a savepoint, most likely
        return
    if state not in {PipelineState.DONE, PipelineState.CANCELLED}:
        raise JobError(f"the job ended as {state}; see the logs of the cluster")


def _rows_since(store: Store, start: int) -> int:
    """Rows of the versions after `start`: a cluster forgets the counters of a job it stopped."""
    manifests = (store.manifest(version) for version in store.versions())
    return sum(one.rows for one in manifests if one.batch > start)


def _stood(store: Store) -> Past:
    """Where the stream stands, as far as the store says."""
    versions = store.versions()
    if not versions:
        return Past()
    newest = store.manifest(versions[-1]).newest_event_time
    return Past(newest=int(newest.timestamp() * 1_000))


def _check_beginning(store: Store, source: Source, start: int, args: Sequence[str]) -> None:
    """Refuse to read a stream once more into a store that has it already.

    Raises:
        RequestError: what to do instead.
    """
    resumed = any(arg.lstrip("-").startswith("savepoint_path") for arg in args)
    if start and not resumed and not (isinstance(source, KafkaSource) and source.start_given):
        raise RequestError(
            f"store {store.root} has {start} micro-batches of a stream already: go on from a "
            "savepoint with --savepoint_path=…, or say where to begin with ?start=latest"
        )


def live_args(given: Sequence[str], source: Source) -> list[str]:
    """Beam's arguments with what a stream needs, where they do not say otherwise.

    Raises:
        RequestError: the runner takes no stream.
    """
    if is_local(given):
        raise RequestError(
            "the default runner takes no endless stream; add ?until=now to a Kafka source, or run "
            "it on Flink: rillet local up, then --runner=FlinkRunner"
        )
    args = list(given)
    said = {arg.lstrip("-").partition("=")[0] for arg in args if arg.startswith("-")}

    def add(name: str, value: str | None) -> None:
        if name not in said:
            said.add(name)
            args.append(f"--{name}" if value is None else f"--{name}={value}")

    for name, value in _FLINK.items():
        add(name, value)
    if isinstance(source, KafkaSource) and not source.endless:
        add("shutdown_sources_after_idle_ms", "2000")  # else a finished job stays RUNNING
    for name, value in _cluster(args, said).items():
        add(name, value)
    return args


def _cluster(args: Sequence[str], said: Set[str]) -> dict[str, str]:
    """Which Flink, and where its Python workers run, as far as the arguments leave it open."""
    if "job_endpoint" not in said and "flink_master" not in said:
        return flink_flags() if "flink" in runner_name(args).lower() else {}
    if "flink_master" in said:
        return {} if "flink_job_server_jar" in said else {"flink_job_server_jar": str(flink_jar())}
    (end,) = [arg.partition("=")[2] for arg in args if arg.startswith("--job_endpoint=")]
    if "environment_type" in said or not end.startswith(("localhost:", "127.0.0.1:")):
        return {}
    return {"environment_type": "LOOPBACK"}
