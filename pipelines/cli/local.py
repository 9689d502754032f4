"""`rillet local up | status | down`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.common import FOLDER, FiniteRange, echo_json, json_option

if TYPE_CHECKING:
    from pipelines.local import ServiceStatus

__all__ = ["local"]


def _options(function: Callable[..., None]) -> Callable[..., Any]:
    function = click.option(
        "--only",
        metavar="PART,…",
        default="",
        help="Just these, of kafka, flink, beam, redis, postgres.",
    )(json_option(function))
    return _directory(function)


def _directory(function: Callable[..., None]) -> Callable[..., Any]:
    return click.option(
        "--dir",
        "directory",
        type=FOLDER,
        envvar="RILLET_LOCAL",
        help="Data, logs and process ids.  [default: RILLET_LOCAL, or in the cache]",
    )(function)


def _parts(only: str) -> list[str]:
    return [name for name in only.split(",") if name]


def _show(parts: "Sequence[ServiceStatus]", *, as_json: bool) -> None:
    if as_json:
        echo_json([part.to_json() for part in parts])
        return
    for part in parts:
        pids = " ".join(f"{name}={pid}" for name, pid in part.pids.items())
        click.echo(f"{part.name:<10} {part.state:<9} {part.address:<32} {pids}")
        for log in part.logs:
            click.echo(f"{'':<10} log {log}")


@click.group()
def local() -> None:
    """Kafka, Flink, Redis and PostgreSQL on this machine; stop a stream to go on later.

    Everything listens on 127.0.0.1. Programs are fetched once into the cache
    folder (RILLET_CACHE); needs Java and Maven for Kafka and Flink.
    """


@local.command()
@_options
@click.option(
    "--port", "ports", multiple=True, metavar="NAME=N", help="Such as kafka=19092; 0 for any free."
)
@click.option(
    "--timeout",
    type=FiniteRange(min=1),
    default=120,
    show_default=True,
    help="Seconds to wait until all answer, downloads apart.",
)
def up(
    directory: Path | None, only: str, as_json: bool, ports: Sequence[str], timeout: float
) -> None:
    """Start what is not up yet and wait until it answers."""
    from pipelines import local as services

    _show(
        services.up(directory, only=_parts(only), ports=_port_map(ports), timeout_s=timeout),
        as_json=as_json,
    )


def _port_map(ports: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in ports:
        name, equals, number = text.partition("=")
        if not equals or not number.isdecimal() or int(number) > 65_535:
            raise click.BadParameter(f"{text!r} is not NAME=PORT, such as kafka=19092")
        found[name] = int(number)
    return found


@local.command()
@_options
def status(directory: Path | None, only: str, as_json: bool) -> None:
    """Say what runs, where it listens and where its logs are."""
    from pipelines import local as services

    _show(services.status(directory, only=_parts(only)), as_json=as_json)


@local.command()
@_options
def down(directory: Path | None, only: str, as_json: bool) -> None:
    """End what `up` started here, and nothing else; data and logs stay."""
    from pipelines import local as services

    _show(services.down(directory, only=_parts(only)), as_json=as_json)


@local.command()
@_directory
@click.option(
    "--flink",
    metavar="HOST:PORT",
    help="REST address of a Flink elsewhere.  [default: the one that `up` started]",
)
@click.option("--job", metavar="ID", help="Which job.  [default: the only one that runs]")
@click.option("--keep-running", is_flag=True, help="Take the savepoint, do not stop the job.")
@click.option(
    "--timeout",
    type=FiniteRange(min=1),
    default=120,
    show_default=True,
    help="Seconds that the savepoint may take.",
)
@json_option
def savepoint(
    directory: Path | None,
    flink: str | None,
    job: str | None,
    keep_running: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Stop a stream with a savepoint, so that another run goes on from there.

    A savepoint holds how far the stream was read and what waits for its window:
    nothing is done twice or left out. Go on with the same command and the path
    that this one prints, also with another parallelism:

    \b
      rillet local savepoint
      rillet run --events kafka://… --store store --runner=FlinkRunner \\
                 --savepoint_path=file:/… --parallelism=2

    The configuration of features and batches has to stay as it was.
    """  # noqa: D301 - click's \b keeps the lines
    from pipelines.local import flink_address, stop_with_savepoint

    master = flink or flink_address(directory)
    stopped = stop_with_savepoint(master, job, keep_running=keep_running, timeout_s=timeout)
    if as_json:
        echo_json({"job": stopped.job, "savepoint": stopped.savepoint, "stopped": not keep_running})
        return
    what = "has a savepoint and goes on" if keep_running else "was stopped"
    click.echo(f"job {stopped.job} {what}; go on from it with")
    click.echo(f"  --savepoint_path={stopped.savepoint}")
