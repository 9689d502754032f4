"""What the commands share: types of arguments, options, `--json`, settings of a job."""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

__all__ = [
    "BEAM",
    "FILE",
    "FOLDER",
    "FiniteRange",
    "beam_args_of",
    "echo_json",
    "events_option",
    "feature_options",
    "import_beam",
    "job_config",
    "json_option",
    "store_option",
]

BEAM = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a command whose further options go to Beam: see `beam_args_of`."""

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class FiniteRange(click.FloatRange):
    """A number within bounds; `nan`, which no bound keeps out, is none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, if it is one."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
store_option = click.option(
    "--store", type=FOLDER, required=True, help="Folder with checkpoints, versions, embeddings."
)


def echo_json(value: Any) -> None:
    """Print one line of JSON on stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def beam_args_of(context: click.Context) -> list[str]:
    """The options of a command that are Beam's; refuses what neither Beam nor Rillet knows."""
    import_beam()
    from pipelines.passthrough_beam_args import check_beam_args

    own = [name for parameter in context.command.params for name in parameter.opts]
    return check_beam_args(context.args, own)


def import_beam() -> None:
    """Import Beam, without the MongoDB client that it would load for a connector unused here.

    Beam does without where there is none. It takes a seventh of the import's CPU time.
    """
    if "apache_beam" in sys.modules or "pymongo" in sys.modules:
        return
    sys.modules["pymongo"] = None  # type: ignore[assignment]
    try:
        import apache_beam  # noqa: F401
    finally:
        del sys.modules["pymongo"]


# -- of the jobs `features` and `run` ----------------------------------------------

_SRC_HELP = (
    "Feedback events: a file, a glob or a folder of .parquet, .jsonl or .jsonl.gz; "
    "also remote (gs://, s3://). May be given several times."
)


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(function: Any) -> Any:
        """Give a command these options."""
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply


events_option = click.option(
    "--events", multiple=True, required=True, metavar="SRC", help=_SRC_HELP
)
feature_options = _options(
    click.option(
        "--format",
        "source_format",
        metavar="NAME",
        help="The events are a foreign log of this format: rillet formats lists them.",
    ),
    click.option(
        "--identities",
        metavar="FILE",
        help="Users of several platforms: a file of user_id, person_id and platform.",
    ),
    click.option(
        "--window", help="fixed:60s, sliding:10m/1m or session:30m.  [default: fixed:60s]"
    ),
    click.option("--history", type=int, help="Past events that a row carries.  [default: 50]"),
    click.option("--session-gap", help="Longest pause that is still dwell.  [default: 30m]"),
    click.option("--retention", help="Silence that forgets a user; 0 = never.  [default: 90d]"),
    click.option("--dedupe-horizon", help="How long an event_id counts once.  [default: 24h]"),
    click.option("--shards", type=int, help="Pieces of the work; rows never depend on it."),
    click.option("--config", type=FILE, help="Job file (TOML); options here override it."),
)


def job_config(
    config: Path | None, source_format: str | None, identities: str | None, **features: Any
) -> Any:
    """The job file, and what options say instead.

    Raises:
        RequestError: a setting is out of range, or says what another says, too.
    """
    from pipelines.config import load_job

    job = load_job(config, {"features": features})
    if identities is not None:
        job = job.model_copy(update={"identities": identities})
    if source_format is None and job.source is None:
        return job
    from pipelines.errors import RequestError
    from pipelines.read.mapping.presets import preset, sources_of

    if source_format is not None:
        if job.source is not None:
            raise RequestError(
                f"--format {source_format} and [source] of {config} both say how the events are"
                " read; leave one out"
            )
        told = {"source": preset(source_format), "source_name": f"format {source_format}"}
        job = job.model_copy(update=told)
    sources_of(job.source, job.source_name or "[source]")
    return job
