"""What the commands share: types of arguments, `--json`, how answers are printed."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import click

__all__ = [
    "BEAM",
    "FILE",
    "FOLDER",
    "FiniteRange",
    "beam_args_of",
    "echo_json",
    "import_beam",
    "json_option",
    "store_option",
]

BEAM = {"ignore_unknown_options": True, "allow_extra_args": True}
"""Settings of a command whose further options go to Beam: see `beam_args_of`."""

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


class FiniteRange(click.FloatRange):
    """A number within bounds; `nan`, which no bound keeps out, is none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, if it is one."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
store_option = click.option(
    "--store", type=FOLDER, required=True, help="Folder with checkpoints, versions, embeddings."
)


def echo_json(value: Any) -> None:
    """Print one line of JSON on stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def beam_args_of(context: click.Context) -> list[str]:
    """The options of a command that are Beam's; refuses what neither Beam nor Rillet knows."""
    import_beam()
    from pipelines.beam_args import check_beam_args

    own = [name for parameter in context.command.params for name in parameter.opts]
    return check_beam_args(context.args, own)


def import_beam() -> None:
    """Import Beam, without the MongoDB client that it would load for a connector unused here.

    Beam does without where there is none. It takes a seventh of the import's CPU time.
    """
    if "apache_beam" in sys.modules or "pymongo" in sys.modules:
        return
    sys.modules["pymongo"] = None  # type: ignore[assignment]
    try:
        import apache_beam  # noqa: F401
    finally:
        del sys.modules["pymongo"]
