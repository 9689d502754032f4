"""The command `rillet`: the only place that knows about arguments.

Imports of Beam and of everything heavy happen inside a command, so that
`rillet --help` answers at once.
"""

import gc
import logging
import os
import sys
import traceback
from importlib.metadata import version

import click

from models.errors import RilletError
from pipelines.cli.dead_letters import dead_letters
from pipelines.cli.evaluate import evaluate
from pipelines.cli.features import features
from pipelines.cli.formats import formats, inspect
from pipelines.cli.local import local
from pipelines.cli.query import export, recommend, versions
from pipelines.cli.retrain import retrain
from pipelines.cli.run import run
from pipelines.cli.simulate import demo, simulate

__all__ = ["cli", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(version("rillet"), prog_name="rillet")
@click.option("-q", "--quiet", is_flag=True, help="Only warnings and errors on stderr.")
@click.option("--debug", is_flag=True, envvar="RILLET_DEBUG", help="Stack traces and all logs.")
def cli(quiet: bool, debug: bool) -> None:
    """Keep a recommender's embeddings as fresh as its users' last minute.

    \b
    A first tour:
      rillet simulate --out sim              a seeded stream to play with
      rillet run --events sim/events.jsonl --items sim/items.parquet \\
                 --users sim/users.parquet --store store
      rillet versions --store store          how good each version was
      rillet recommend --store store --user u42

    Options that Rillet does not know go to Beam: --runner=FlinkRunner, …
    """  # noqa: D301 - click's \b keeps the lines
    _set_up_logging(quiet=quiet, debug=debug)


def _set_up_logging(*, quiet: bool, debug: bool) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if debug else "3")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO if debug else logging.ERROR)
    if not debug:  # a worker's failure is told once, in one line: not also as Beam's trace
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    level = logging.WARNING if quiet else logging.DEBUG if debug else logging.INFO
    logging.getLogger("rillet").setLevel(level)


for _command in (
    simulate,
    features,
    run,
    recommend,
    versions,
    evaluate,
    retrain,
    export,
    dead_letters,
    formats,
    inspect,
    local,
    demo,
):
    cli.add_command(_command)


def _say(text: str) -> None:
    click.echo(text, err=True)


def main() -> None:
    """Run the command; exit 0 done, 1 the job failed, 2 the request was wrong."""
    # Imports and batches make many objects and few cycles: to look for those after every 700,
    # as Python does, takes 4 % of a short job.
    gc.set_threshold(100_000, 50, 100)
    sys.exit(_main())


def _main() -> int:
    try:
        stop = cli.main(prog_name="rillet", standalone_mode=False)
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
