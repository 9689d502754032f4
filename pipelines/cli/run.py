"""The jobs: `features` and `run`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pipelines.cli.common import (
    BEAM,
    FILE,
    FOLDER,
    beam_args_of,
    echo_json,
    json_option,
    store_option,
)
from pipelines.clock import wall_clock_ms

__all__ = ["features", "run"]

_SRC_HELP = (
    "Feedback events: a file, a glob or a folder of .parquet, .jsonl or .jsonl.gz; "
    "also remote (gs://, s3://). May be given several times."
)


def _options(*decorators: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(function: Any) -> Any:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply


_events = click.option("--events", multiple=True, required=True, metavar="SRC", help=_SRC_HELP)
_features = _options(
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


def _job_config(
    config: Path | None, source_format: str | None, identities: str | None, **features: Any
) -> Any:
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


@click.command(context_settings=BEAM)
@_events
@click.option("--out", type=FOLDER, required=True, help="Folder for rows, dead letters, summary.")
@_features
@json_option
@click.pass_context
def features(
    context: click.Context,
    events: tuple[str, ...],
    out: Path,
    config: Path | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Compute implicit-feedback feature rows from a log of events.

    Writes OUT/features/*.parquet, OUT/dead_letters/*.parquet and
    OUT/summary.json. One row per user, item and window: counts by type, dwell,
    intervals, history, confidence.
    """
    job = _job_config(config, **given)
    beam_args = beam_args_of(context)
    from pipelines.bounded.features_job import run_features
    from pipelines.bounded.refusals import check_usable

    summary = run_features(list(events), out, job, beam_args, wall_clock_ms())
    if as_json:
        echo_json(summary)
    else:
        _tell(summary, out)
    check_usable(summary, out / "dead_letters")


def _tell(summary: dict[str, Any], out: Path) -> None:
    dead = ", ".join(f"{n} {reason}" for reason, n in summary["dead"].items()) or "none"
    click.echo(
        f"{summary['rows']} rows from {summary['valid']} events in {out}/features "
        f"(read {summary['read']}, duplicates {summary['duplicates']}, dead letters: {dead})"
        f"{_foreign(summary)}"
    )


def _foreign(summary: dict[str, Any]) -> str:
    """What a foreign log had besides its events."""
    if "records" not in summary:
        return ""
    skipped = ", ".join(f"{n} {why}" for why, n in summary["skipped"].items()) or "none"
    nulled = ", ".join(f"{n} {name}" for name, n in summary["nulled"].items())
    told = f"; {summary['records']} records, no event: {skipped}"
    return told + (f", out of bounds and left out: {nulled}" if nulled else "")


@click.command(context_settings=BEAM)
@_events
@click.option("--items", help="Catalogue (Parquet or JSON lines): titles, text, categories.")
@click.option("--users", help="Users' attributes (Parquet or JSON lines).")
@store_option
@click.option(
    "--sink",
    "sinks",
    multiple=True,
    metavar="URI",
    help="Also publish to redis://…, postgresql://… or kafka://…; may be given several times.",
)
@click.option("--predictions", type=FOLDER, help="Also write what was predicted before training.")
@_features
@click.pass_context
def run(
    context: click.Context,
    events: tuple[str, ...],
    items: str | None,
    users: str | None,
    store: Path,
    sinks: tuple[str, ...],
    predictions: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Turn a log of events into fresh embeddings: features, fine-tuning, versions.

    The same command again continues where it stopped, also after a crash; on
    newer events it goes on from the store, on the same events it does nothing.
    Files go in in order of time: what comes too late is a dead letter. Ends with
    one line of JSON; with status 1 if not one record could be used.

    A stream is read with --events kafka://HOST:PORT/TOPIC or dir:PATH and
    --runner=FlinkRunner: rillet local up starts a Flink here, rillet local
    savepoint stops the job so that another run goes on with --savepoint_path.
    """
    job = _job_config(config, **given)
    beam_args = beam_args_of(context)
    from pipelines.job import RunRequest, run_job

    request = RunRequest(
        events=events,
        items=items,
        users=users,
        store=store,
        config=job,
        predictions=predictions,
        sinks=sinks,
        beam_args=tuple(beam_args),
        now_ms=wall_clock_ms(),
    )
    told = run_job(request)
    echo_json(told)
    if told["read"] is not None:  # of a stream that was stopped, nobody knows
        from pipelines.bounded.refusals import check_usable

        check_usable(told, store / "dead_letters")
