"""Foreign logs: the formats that are known, and what a file holds."""

import re
from typing import Any

import click

from pipelines.cli.common import echo_json, json_option
from pipelines.clock import wall_clock_ms

__all__ = ["formats", "inspect"]


@click.group(invoke_without_command=True)
@click.pass_context
def formats(context: click.Context) -> None:
    """List the formats of foreign logs that --format reads."""
    if context.invoked_subcommand is not None:
        return
    from pipelines.read.mapping.presets import preset_names, preset_text

    width = max(len(name) for name in preset_names()) + 2
    for name in preset_names():
        text = " ".join(preset_text(name).partition("\n\n")[0].replace("\n# ", " ").split())
        first = re.split(r"[.:] ", text.removeprefix("# "), maxsplit=1)[0]
        click.echo(f"{name:{width}}{first}")


@formats.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the mapping of a format: what it does, and a [source] to copy from."""
    from pipelines.read.mapping.presets import preset_text

    click.echo(preset_text(name), nl=False)


@click.command()
@click.argument("source", metavar="SRC")
@click.option(
    "--rows",
    type=click.IntRange(1),
    default=100_000,
    show_default=True,
    help="Records that are tried.",
)
@json_option
def inspect(source: str, rows: int, as_json: bool) -> None:
    """Look at a log of any form: what it holds, and how rillet run could read it.

    Tells container, columns, the format that fits, a mapping to paste into a job
    file (CHECK marks what it cannot know), and what would become of the records.
    """
    from pipelines.read.inspect import inspect_source

    found = inspect_source(source, rows=rows, now_ms=wall_clock_ms())
    if as_json:
        echo_json(found)
        return
    for line in [*_what(found), *_how(found, source), *_outcome(found)]:
        click.echo(line)


def _what(found: dict[str, Any]) -> list[str]:
    layout = ", ".join(f"{name} {value!r}" for name, value in found["layout"].items())
    files = f"{found['files']} file{'s' * (found['files'] != 1)}, {found['bytes']:,} bytes"
    lines = [f"{found['looked_at']} ({files}): {found['container']}{layout and f' ({layout})'}", ""]
    shown = found["columns"][:60]
    width = min(max((len(one["path"]) for one in shown), default=0), 48)
    for one in shown:
        examples = ", ".join(repr(text[:30]) for text in one["examples"])
        nulls = f", {one['nulls']} null" if one["nulls"] else ""
        lines.append(f"  {one['path']:{width}}  {one['type']:6} {examples}{nulls}")
    if len(found["columns"]) > len(shown):
        lines.append(f"  and {len(found['columns']) - len(shown)} more")
    return lines


def _how(found: dict[str, Any], source: str) -> list[str]:
    if found["own_form"]:
        return ["", "These are the columns of an event: rillet run reads it as it is."]
    if found["formats"]:
        names = found["formats"]
        others = f" (also possible: {', '.join(names[1:])})" if names[1:] else ""
        told = (
            f"It is {names[0]}{others}: rillet run --events {source} --format {names[0]} --store …"
        )
        return ["", told]
    told = "No known format fits. A mapping to begin with, for a job file (--config job.toml):"
    return ["", told, "", *("  " + line for line in found["mapping"].splitlines())]


def _outcome(found: dict[str, Any]) -> list[str]:
    result = found["outcome"]
    if found["own_form"] or result is None:
        return []
    if "error" in result:
        return ["", f"By {found['tried']}: {result['error']}"]
    types = ", ".join(f"{count} {kind}" for kind, count in result["types"].items()) or "none"
    lines = ["", f"By {found['tried']}: {result['events']} events of {result['records']} records"]
    lines.append(f"  types      {types}")
    for name in ("skipped", "dead", "nulled"):
        if result[name]:
            told = ", ".join(f"{count} {why}" for why, count in result[name].items())
            lines.append(f"  {name:10} {told}")
    lines += [f"             {example}" for example in result["dead_examples"]]
    if result["events"]:
        lines += [
            f"  time       {result['first_time']} to {result['last_time']}",
            f"  users      {result['users']}",
            f"  items      {result['items']}",
            f"  repeats    {result['repeated_ids']} event_ids come again",
            f"  order      {result['out_of_order']:.1%} behind a later one, by up to"
            f" {result['farthest_behind_ms'] / 1000:,.0f} s",
        ]
        if result["dwell_ms"]:
            told = ", ".join(f"{name} {ms / 1000:g} s" for name, ms in result["dwell_ms"].items())
            lines.append(f"  dwell      {told}")
    return lines
