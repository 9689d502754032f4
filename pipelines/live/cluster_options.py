"""Beam's options for a live job: what a stream needs, where the arguments do not say otherwise."""

import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.errors import RequestError
from pipelines.local import flink_address, flink_flags, flink_jar
from pipelines.passthrough_beam_args import is_local, runner_name
from pipelines.read.growing_folder import DirectorySource
from pipelines.read.kafka.source_spec import KafkaSource

__all__ = ["argument_value", "flink_to_monitor", "live_args", "live_options"]

Source = KafkaSource | DirectorySource

_FLINK: Mapping[str, str | None] = {
    "streaming": None,
    # A restart repeats at most so many milliseconds of work. Each checkpoint costs what all
    # state weighs, where the cluster keeps it on the heap: more often is dearer.
    "checkpointing_interval": "10000",
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


def live_options(args: Sequence[str]) -> PipelineOptions:
    """Beam's options from the arguments that `live_args` gives."""
    return PipelineOptions(list(args), **_VALUES)


def argument_value(name: str, args: Sequence[str]) -> str:
    """What `--name=value` or `--name value` says; empty where it is not said."""
    for place, arg in enumerate(args):
        if arg.startswith(f"--{name}="):
            return arg.partition("=")[2]
        if arg == f"--{name}" and place + 1 < len(args):
            return args[place + 1]
    return ""


def flink_to_monitor(args: Sequence[str]) -> str:
    """`host:port` of the Flink that these arguments of `live_args` lead to; empty if unknown."""
    master = argument_value("flink_master", args)
    if master:
        return "" if master.startswith("[") else master
    try:
        here = flink_flags()["job_endpoint"] == argument_value("job_endpoint", args)
        return flink_address() if here else ""
    except RequestError:  # there is none on this machine
        return ""


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
    add("job_name", f"rillet-{uuid.uuid4().hex[:8]}")  # to be found by on the cluster
    if isinstance(source, KafkaSource) and not source.endless:
        add("shutdown_sources_after_idle_ms", "2000")  # else a finished job stays RUNNING
        # The last span waits for all training; a checkpoint that expires fails the job.
        add("checkpoint_timeout_millis", "3600000")
    for name, value in _cluster(args, said).items():
        add(name, value)
    return args


def _cluster(args: Sequence[str], said: Set[str]) -> dict[str, str]:
    """Which Flink, and where its Python workers run, as far as the arguments leave it open."""
    if "job_endpoint" not in said and "flink_master" not in said:
        return flink_flags() if "flink" in runner_name(args).lower() else {}
    if "flink_master" in said:
        return {} if "flink_job_server_jar" in said else {"flink_job_server_jar": str(flink_jar())}
    end = argument_value("job_endpoint", args)
    if "environment_type" in said or not end.startswith(("localhost:", "127.0.0.1:")):
        return {}
    return {"environment_type": "LOOPBACK"}
