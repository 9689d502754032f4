"""A stream to play with: `simulate` and `demo`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipelines.cli.common import FOLDER, FiniteRange, echo_json, json_option

if TYPE_CHECKING:
    from pipelines.simulate import SimulationSpec

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
@click.option(
    "--duplicates", type=FiniteRange(0, 1), help="Share of events written twice.  [default: 0.01]"
)
@click.option("--late", type=FiniteRange(0, 1), help="Share written out of order.  [default: 0.02]")
@click.option("--malformed", type=FiniteRange(0, 1), help="Bad lines per event.  [default: 0.002]")
@click.option(
    "--bots",
    type=FiniteRange(0, 1, max_open=True),
    help="Share of users that are crawlers.  [default: 0.01]",
)
@click.option(
    "--to",
    metavar="kafka://HOST:PORT/TOPIC",
    help="Also send the events there, as if they happened now.",
)
@click.option(
    "--rate",
    type=FiniteRange(min=0.01, max=1_000_000),
    help="Lines a second, with --to.  [default: 100]",
)
@json_option
def simulate(
    out: Path, drift: str, to: str | None, rate: float | None, as_json: bool, **knobs: Any
) -> None:
    """Write a seeded feedback stream whose ground truth is known.

    OUT/events.jsonl, items.parquet and users.parquet are what the other
    commands read; OUT/truth.json and OUT/truth/ say what really happened:
    tastes over time, bots, accidents, and every fault that was put in.

    With --to the events are also sent to a topic at an even rate, each
    confirmed by the broker, with times by the clock and ids that are new each
    time; Ctrl-C ends it early. A stream to try the live job with:

    \b
      rillet local up --only kafka,flink,beam
      rillet simulate --out sim --rate 200 --to kafka://127.0.0.1:9092/clicks
      rillet run --events kafka://127.0.0.1:9092/clicks --items sim/items.parquet \\
                 --store store --runner=FlinkRunner
    """  # noqa: D301 - click's \b keeps the lines
    from pipelines.simulate import SimulationSpec
    from pipelines.simulate import simulate as write

    if to is None:
        if rate is not None:
            raise click.UsageError("--rate is for a topic: add --to kafka://HOST:PORT/TOPIC")
        summary = write(out, SimulationSpec.of(drift=drift, **knobs))
    else:
        # A line of over 1 MiB is more than a broker takes.
        summary = _play(out, SimulationSpec.of(drift=drift, oversize=0, **knobs), to, rate or 100.0)
    if as_json:
        echo_json(summary)
    else:
        click.echo(f"{out}: " + ", ".join(f"{k} {v}" for k, v in summary.items()))


def _play(out: Path, spec: "SimulationSpec", to: str, rate: float) -> dict[str, Any]:
    from pipelines.simulate import Playback
    from pipelines.simulate import simulate as write
    from pipelines.simulate.kafka_writer import TopicWriter

    writer = TopicWriter(to)
    summary = write(out, spec, Playback(rate=rate, outlet=writer))
    return {"topic": writer.topic.name, "sent": writer.confirmed, **summary}


@click.command()
@click.option(
    "--out", type=FOLDER, default=Path("demo-out"), show_default=True, help="Folder for it all."
)
def demo(out: Path) -> None:
    """Show the whole loop: simulate, run, list the versions, recommend.

    Takes a few minutes. A second call shows what the first one made.
    """
    from pipelines.cli.demo_run import run_demo

    run_demo(out)
