"""`rillet run` on a stream: options for the cluster, the job, and what is said at its end."""

import logging
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult, PipelineState

from models.store.store import Store
from pipelines.bounded.between_runs import store_compatibility
from pipelines.bounded.between_runs.run_state import RunState
from pipelines.bounded.between_runs.stream_handover import check_stream, mark_stream
from pipelines.bounded.run_setup import RunRequest, catalogues, fine_tune, sinks_caught_up
from pipelines.errors import JobError
from pipelines.live.cluster_options import argument_value, flink_to_monitor, live_args, live_options
from pipelines.live.job import build
from pipelines.live.job_monitor import JobMonitor
from pipelines.live.train_stage import close_idle_trainers
from pipelines.metrics import counters
from pipelines.publish import check_sinks
from pipelines.read.growing_sources import live_source
from pipelines.read.kafka.source_spec import KafkaSource

__all__ = ["run_live"]

_log = logging.getLogger("rillet")


def run_live(request: RunRequest) -> dict[str, Any]:
    """Run until the stream ends or the job is stopped; what is printed as one line of JSON.

    Raises:
        RequestError: the request was wrong; nothing was started.
        JobError: the job failed; what it had committed stays.
    """
    begun = request.monotonic()
    source = live_source(request.events)
    args = live_args(request.beam_args, source)
    items, users = catalogues(request)
    store = Store(request.store)
    check_sinks(request.sinks, store)
    with store_compatibility.hold_for_run(store, request.config):
        start = store.last_batch()
        check_stream(
            store,
            resumed=bool(argument_value("savepoint_path", args)),
            start_given=isinstance(source, KafkaSource) and source.start_given,
        )
        mark_stream(store, request.events[0])
        store_compatibility.put_catalogue(store, "items", items)
        store_compatibility.put_catalogue(store, "users", users)
        pipeline = beam.Pipeline(options=live_options(args))
        build(pipeline, source, request.config, fine_tune(request, store), start)
        result = pipeline.run()
        _log.info("the stream is running; stop it with Ctrl-C")
        try:
            _follow(result, args)
        finally:
            # Of workers in this process (LOOPBACK), whose stream had no end.
            close_idle_trainers(store)
        counted = _counted(result, ended=not source.endless) | {"rows": _rows_since(store, start)}
        told = store_compatibility.summary(store, counted, _stood(store)) | sinks_caught_up(
            request, store
        )
    told["seconds"] = round(request.monotonic() - begun, 3)
    _log.info("%s", told["message"])
    return told


def _follow(result: PipelineResult, args: Sequence[str]) -> None:
    """Wait for the end, and tell what fails meanwhile, as far as the cluster can be asked.

    Raises:
        RilletError: what the job failed with, or was ended for.
    """
    master = flink_to_monitor(args)
    watch = JobMonitor(master, argument_value("job_name", args)).start() if master else None
    try:
        stopped = _wait(result)
    finally:
        if watch:
            watch.close()
            if watch.error:
                raise watch.error
    if stopped:
        _log.info("the job was stopped on its cluster")  # with a savepoint, most likely


def _wait(result: PipelineResult) -> bool:
    """Wait for the end of the stream, or for Ctrl-C, which stops the job.

    Returns:
        Whether somebody else stopped it.

    Raises:
        JobError: the job failed.
    """
    try:
        state = result.wait_until_finish()
    except KeyboardInterrupt:
        _log.info("stopping the job")
        result.cancel()
        return False
    except RuntimeError as error:
        if "FlinkJobNotFoundException" in str(error):
            raise JobError(
                "Flink no longer knows the job: its JobManager was started anew, without high "
                "availability; go on from the job's newest checkpoint (chk-N in the folder of "
                "Flink's state.checkpoints.dir) with --savepoint_path=…"
            ) from None
        if "JobCancellationException" not in str(error):
            raise
        return True
    if state not in {PipelineState.DONE, PipelineState.CANCELLED}:
        raise JobError(f"the job ended as {state}; see the logs of the cluster")
    return False


def _rows_since(store: Store, start: int) -> int:
    """Rows of the versions after `start`: a cluster forgets the counters of a job it stopped."""
    manifests = (store.manifest(version) for version in store.versions())
    return sum(one.rows for one in manifests if one.batch > start)


def _counted(result: PipelineResult, *, ended: bool) -> dict[str, int]:
    """What the job counted; nothing where the cluster no longer knows, or can no longer be asked.

    Flink forgets the counters of a job that is cancelled: then there is none named `read`. Of
    one that `ended` by itself, that means that there was nothing to read.
    """
    try:
        return counters(result, ("read",) if ended else ())
    except Exception as error:  # noqa: BLE001 - a client of a cluster that may be gone
        _log.info("what the stream read cannot be told: %s", str(error).partition("\n")[0])
        return {}


def _stood(store: Store) -> RunState:
    """Where the stream stands, as far as the store says."""
    versions = store.versions()
    if not versions:
        return RunState()
    newest = store.manifest(versions[-1]).newest_event_time
    return RunState(newest=int(newest.timestamp() * 1_000))
