"""The command `rillet`: the only place that knows about arguments.

Imports of Beam and of everything heavy happen inside a command, so that
`rillet --help` answers at once.
"""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from models.errors import RilletError

__all__ = ["cli", "main"]

_BEAM = {"ignore_unknown_options": True, "allow_extra_args": True}
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
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


_json = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
_store = click.option(
    "--store", type=_FOLDER, required=True, help="Folder with checkpoints, versions, embeddings."
)
_events = click.option("--events", multiple=True, required=True, metavar="SRC", help=_SRC_HELP)
_features = _options(
    click.option(
        "--window", help="fixed:60s, sliding:10m/1m or session:30m.  [default: fixed:60s]"
    ),
    click.option("--history", type=int, help="Past events that a row carries.  [default: 50]"),
    click.option("--session-gap", help="Longest pause that is still dwell.  [default: 30m]"),
    click.option("--retention", help="Silence that forgets a user; 0 = never.  [default: 90d]"),
    click.option("--dedupe-horizon", help="How long an event_id counts once.  [default: 24h]"),
    click.option("--shards", type=int, help="Pieces of the work; rows never depend on it."),
    click.option("--config", type=_FILE, help="Job file (TOML); options here override it."),
)


def _job_config(config: Path | None, **features: Any) -> Any:
    from pipelines.config import load_job

    return load_job(config, {"features": features})


def _beam_args(context: click.Context) -> list[str]:
    from pipelines.options import check_beam_args

    own = [name for parameter in context.command.params for name in parameter.opts]
    return check_beam_args(context.args, own)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("rillet"), prog_name="rillet")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr.")
@click.option("--debug", is_flag=True, envvar="RILLET_DEBUG", help="Stack traces and all logs.")
def cli(quiet: bool, debug: bool) -> None:
    r"""Keep a recommender's embeddings as fresh as its users' last minute.

    \b
    A first tour:
      rillet simulate --out sim                      a seeded stream to play with
      rillet features --events sim/events.jsonl --out feat
      rillet run --events sim/events.jsonl --items sim/items.parquet --store store
      rillet versions --store store
      rillet recommend --store store --user u42

    Options that Rillet does not know go to Beam: --runner=FlinkRunner, …
    """
    _set_up_logging(quiet=quiet, debug=debug)


def _set_up_logging(*, quiet: bool, debug: bool) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else "3")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO if debug else logging.ERROR)
    level = logging.WARNING if quiet else logging.DEBUG if debug else logging.INFO
    logging.getLogger("rillet").setLevel(level)


@cli.command(context_settings=_BEAM)
@_events
@click.option("--out", type=_FOLDER, required=True, help="Folder for rows, dead letters, summary.")
@_features
@_json
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
    beam_args = _beam_args(context)
    from pipelines.features_job import run_features

    summary = run_features(list(events), out, job, beam_args, _now_ms())
    if as_json:
        click.echo(json.dumps(summary))
        return
    dead = ", ".join(f"{n} {reason}" for reason, n in summary["dead"].items()) or "none"
    click.echo(
        f"{summary['rows']} rows from {summary['valid']} events in {out}/features "
        f"(read {summary['read']}, duplicates {summary['duplicates']}, dead letters: {dead})"
    )


@cli.command(context_settings=_BEAM)
@_events
@click.option("--items", help="Catalogue (Parquet or JSON lines): titles, text, categories.")
@click.option("--users", help="Users' attributes (Parquet or JSON lines).")
@_store
@click.option("--predictions", type=_FOLDER, help="Also write what was predicted before training.")
@_features
@click.pass_context
def run(
    context: click.Context,
    events: tuple[str, ...],
    items: str | None,
    users: str | None,
    store: Path,
    predictions: Path | None,
    config: Path | None,
    **given: Any,
) -> None:
    """Turn a log of events into fresh embeddings: features, fine-tuning, versions.

    The same command again continues where it stopped, also after a crash; on
    newer events it goes on from the store, on the same events it does nothing.
    Ends with one line of JSON.
    """
    job = _job_config(config, **given)
    beam_args = _beam_args(context)
    from pipelines.job import RunRequest, run_job

    request = RunRequest(
        events=events,
        items=items,
        users=users,
        store=store,
        config=job,
        predictions=predictions,
        beam_args=tuple(beam_args),
        now_ms=_now_ms(),
    )
    click.echo(json.dumps(run_job(request)))


def main() -> None:
    """Run the command; exit 0 done, 1 the job failed, 2 the request was wrong."""
    sys.exit(_main())


def _main() -> int:
    try:
        stop = cli.main(standalone_mode=False)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        see = f"{context.command_path} --help" if context else "rillet --help"
        _say(f"rillet: {error.format_message()} (see {see})")
        return 2
    except (KeyboardInterrupt, click.Abort):
        _say("rillet: stopped; what was committed stays, the same command goes on from there")
        return 130
    except BrokenPipeError:  # the reader of our output left: nothing to say, nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the last place before the user
        return _report(error)
    return stop if isinstance(stop, int) else 0


def _report(error: Exception) -> int:
    """Say what went wrong in one line; the trace only with --debug."""
    if logging.getLogger().level <= logging.INFO:
        traceback.print_exception(error)
    if isinstance(error, RilletError):
        _say(f"rillet: {error}")
        return error.exit_status
    if isinstance(error, MemoryError):
        _say("rillet: out of memory; give the job more, or raise --shards")
        return 1
    first = str(error).strip().partition("\n")[0]
    _say(f"rillet: {type(error).__name__}: {first} (run `rillet --debug …` for the trace)")
    return 1
