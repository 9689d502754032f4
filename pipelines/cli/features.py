"""Feature rows from a log of events: `features`."""

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
    json_option,
)
from pipelines.clock import wall_clock_ms

__all__ = ["features"]


@click.command(context_settings=BEAM)
@events_option
@click.option("--out", type=FOLDER, required=True, help="Folder for rows, dead letters, summary.")
@feature_options
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
    job = job_config(config, **given)
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
