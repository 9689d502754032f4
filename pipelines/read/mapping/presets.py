"""Presets: the mappings of known formats, a TOML file each; and reading such tables."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipelines.errors import RequestError
from pipelines.read.mapping.spec import Source

__all__ = ["preset", "preset_names", "preset_text", "sources_of"]

_FOLDER = Path(__file__).parent.parent / "presets"


def preset_names() -> list[str]:
    """The formats that are known, by name."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset_text(name: str) -> str:
    """A preset as it is written.

    Raises:
        RequestError: there is none of that name; the message names the nearest.
    """
    names = preset_names()
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, 1, 0.5)
        mean = f": did you mean {near[0]}?" if near else ""
        raise RequestError(f"format {name!r} is unknown{mean} (rillet formats lists all)")
    return (_FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def preset(name: str) -> list[dict[str, Any]]:
    """The `[[source]]` tables of a preset.

    Raises:
        RequestError: there is none of that name.
    """
    return _tables(tomllib.loads(preset_text(name)).get("source"))


def _tables(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def sources_of(given: Any, label: str) -> tuple[Source, ...]:
    """The tables of a job file or a preset, validated.

    Args:
        given: one table or several.
        label: what they are called in messages.

    Raises:
        RequestError: a setting is unknown or wrong; the message names it.
    """
    found = []
    for table in _tables(given):
        if not isinstance(table, Mapping):
            raise RequestError(f"{label}: got {table!r}, expected a table; write [source]")
        try:
            found.append(Source.model_validate(table))
        except ValidationError as error:
            raise RequestError(f"{label}: {_told(error)}; correct the mapping") from None
    return tuple(found)


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        near = difflib.get_close_matches(name, Source.model_fields, 1)
        mean = f"; did you mean {near[0]}?" if near and len(first["loc"]) == 1 else ""
        return f"{where}: there is no such setting{mean}"
    got = "" if isinstance(first["input"], Mapping) else f" (got {first['input']!r})"
    return f"{where}: {message}{got}" if where else message
