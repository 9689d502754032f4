"""What the commands share: types of arguments, `--json`, how answers are printed."""

import json
from pathlib import Path
from typing import Any

import click

__all__ = ["FILE", "FOLDER", "echo_json", "json_option", "store_option"]

FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)

json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON, for programs.")
store_option = click.option(
    "--store", type=FOLDER, required=True, help="Folder with checkpoints, versions, embeddings."
)


def echo_json(value: Any) -> None:
    """Print one line of JSON on stdout."""
    click.echo(json.dumps(value))
