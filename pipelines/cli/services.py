"""`rillet local up | status | down`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.common import FOLDER, echo_json, json_option

if TYPE_CHECKING:
    from pipelines.local import PartStatus

__all__ = ["local"]


def _options(function: Callable[..., None]) -> Callable[..., Any]:
    function = json_option(function)
    function = click.option(
        "--only",
        metavar="PART,…",
        default="",
        help="Just these, of kafka, flink, beam, redis, postgres.",
    )(function)
    return click.option(
        "--dir",
        "directory",
        type=FOLDER,
        help="Data, logs and process ids.  [default: in the cache]",
    )(function)


def _parts(only: str) -> list[str]:
    return [name for name in only.split(",") if name]


def _show(parts: "Sequence[PartStatus]", *, as_json: bool) -> None:
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
    """Start and stop Kafka, Flink, Redis and PostgreSQL on this machine.

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
    type=click.FloatRange(min=1),
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
