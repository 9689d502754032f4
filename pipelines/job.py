"""The way in for `rillet run`: a log that ends, or a stream that goes on?

::

    a log     pipelines.bounded.job    read ─► validate ─► deduplicate ─► featurize
    a stream  pipelines.live.job                         ─► micro-batch ─► fine-tune

Each of them is laid out on one screen; both call the same kernel.
"""

from dataclasses import replace
from typing import Any

from pipelines.bounded.job import run_bounded
from pipelines.bounded.run_setup import RunRequest
from pipelines.errors import RequestError, explain
from pipelines.passthrough_beam_args import is_local
from pipelines.read import is_stream

__all__ = ["RunRequest", "run_job"]


def check_mapping(request: RunRequest) -> None:
    """Refuse a mapping where it cannot be used: it reads files that end.

    Raises:
        RequestError: the events are a stream.
    """
    needs = request.config.source is not None or request.config.identities is not None
    streams = [event for event in request.events if event.startswith(("kafka://", "dir:"))]
    if needs and streams:
        name = streams[0].partition("?")[0].rpartition("@")[2]
        raise RequestError(
            f"[source], --format and --identities are for files that end, not the stream {name}:"
            " leave them out"
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
        check_mapping(request)
        if is_stream(request.events, local=is_local(request.beam_args)):
            # Loaded only for a stream: a cluster's options, timers, state.
            from pipelines.live.launch import run_live

            return run_live(request)
        return run_bounded(request)
    except Exception as error:
        raise explain(error) from error
