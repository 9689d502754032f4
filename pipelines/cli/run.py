"""The whole loop, on a log or a stream: `run`."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.common import (
    BEAM,
    FOLDER,
    beam_args_of,
    echo_json,
    events_option,
    feature_options,
    job_config,
    store_option,
)
from pipelines.clock import wall_clock_ms

__all__ = ["run"]


@click.command(context_settings=BEAM)
@events_option
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
@feature_options
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
    job = job_config(config, **given)
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
