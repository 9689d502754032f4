"""A stream to play with: `simulate` and `demo`."""

from pathlib import Path
from typing import Any

import click

from pipelines.cli.common import FOLDER, echo_json, json_option

__all__ = ["demo", "simulate"]


@click.command()
@click.option("--out", type=FOLDER, required=True, help="Folder for events, items, users, truth.")
@click.option("--events", type=int, help="Valid, distinct events.  [default: 100000]")
@click.option("--users", type=int, help="People, bots included.  [default: 1000]")
@click.option("--items", type=int, help="Everything ever published.  [default: 1500]")
@click.option("--seed", type=int, help="Of every draw: the same seed, the same bytes.")
@click.option(
    "--drift",
    default="mild",
    show_default=True,
    help="Speed at which tastes turn: none, mild, strong or a number per day.",
)
@click.option("--format", "format", help="jsonl, jsonl.gz or parquet.  [default: jsonl]")
@click.option("--duplicates", type=float, help="Share of events written twice.  [default: 0.01]")
@click.option("--late", type=float, help="Share written out of order.  [default: 0.02]")
@click.option("--malformed", type=float, help="Bad lines per event.  [default: 0.002]")
@click.option("--bots", type=float, help="Share of users that are crawlers.  [default: 0.01]")
@json_option
def simulate(out: Path, drift: str, as_json: bool, **knobs: Any) -> None:
    """Write a seeded feedback stream whose ground truth is known.

    OUT/events.jsonl, items.parquet and users.parquet are what the other
    commands read; OUT/truth.json and OUT/truth/ say what really happened:
    tastes over time, bots, accidents, and every fault that was put in.
    """
    from pipelines.simulate import SimulationSpec
    from pipelines.simulate import simulate as write

    summary = write(out, SimulationSpec.of(drift=drift, **knobs))
    if as_json:
        echo_json(summary)
    else:
        click.echo(f"{out}: " + ", ".join(f"{k} {v}" for k, v in summary.items()))


@click.command()
@click.option(
    "--out", type=FOLDER, default=Path("demo-out"), show_default=True, help="Folder for it all."
)
def demo(out: Path) -> None:
    """Show the whole loop: simulate, run, list the versions, recommend.

    Takes a few minutes. A second call shows what the first one made.
    """
    from pipelines.demo import run_demo

    run_demo(out)
