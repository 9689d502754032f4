"""All that `rillet inspect` tells of a source."""

import itertools
from typing import Any

import msgspec
from pydantic import ValidationError

from pipelines.errors import RequestError, SourceError
from pipelines.read.containers import Found, find
from pipelines.read.containers.compression import unpacked
from pipelines.read.containers.read import container_of
from pipelines.read.find_files import open_file
from pipelines.read.foreign_log import Piece, sample
from pipelines.read.inspect.dialect import dialect_of
from pipelines.read.inspect.fields import fields_of
from pipelines.read.inspect.outcome import outcome
from pipelines.read.inspect.propose import Proposal, propose
from pipelines.read.mapping import Source
from pipelines.read.mapping.fit import problem
from pipelines.read.mapping.presets import preset, preset_names, sources_of
from pipelines.read.mapping.spec import Layout
from pipelines.read.parse.event_rules import REQUIRED

__all__ = ["inspect_source"]

SAMPLE = 1_000  # records whose columns are looked at
FIRST_BYTES = 1 << 16


def inspect_source(source: str, *, rows: int, now_ms: int) -> dict[str, Any]:
    """Look at a source; what is found, as JSON has it.

    Args:
        source: a file, a glob or a folder; of several files, the first is looked at.
        rows: records that are tried.
        now_ms: the clock, epoch milliseconds.

    Raises:
        SourceError: there is nothing, or it cannot be read.
    """
    files = find([source])
    found = next((file for file in files if file.size), files[0])
    layout = _layout(found)
    records = _records(found, layout)
    fields, fitting = fields_of(records), _fitting(found)
    told: dict[str, Any] = {
        "files": len(files),
        "bytes": sum(file.size for file in files),
        "looked_at": found.path,
        "container": layout["container"],
        "layout": {name: value for name, value in layout.items() if name != "container"},
        "columns": [one.told() for one in fields.values()],
        "own_form": set(REQUIRED) <= fields.keys() and layout["container"] in {"json", "parquet"},
        "formats": [name for name, _ in fitting],
    }
    proposal = propose(layout, fields)
    piece = _piece(found, proposal)
    if fitting:
        piece = Piece(found, fitting[0][1])
    return {
        **told,
        "mapping": proposal.toml(),
        "unknown": [*proposal.missing, *proposal.checks],
        "tried": f"format {fitting[0][0]}"
        if fitting
        else "the proposed mapping"
        if piece
        else None,
        "outcome": _outcome(piece, rows, now_ms) if piece else None,
    }


def _layout(found: Found) -> dict[str, Any]:
    container = container_of(found, Layout())
    if container != "csv":
        return {"container": container}
    with open_file(found.path) as file:
        return dialect_of(unpacked(file, found.path, found.size).read(FIRST_BYTES))


def _records(found: Found, layout: dict[str, Any]) -> list[dict[str, Any]]:
    """Some records of a file, whole."""
    from pipelines.read.containers import read_records

    stated = Layout.model_validate(layout)
    if layout["container"] == "csv":
        names = stated.columns or _header(found, stated)
        tree: Any = {name: {} for name in names}
    else:
        tree = {"$": {}}
    batches = read_records(found, stated, tree, ("$record",), block=FIRST_BYTES)
    records: list[dict[str, Any]] = []
    for batch in itertools.islice(batches, 10):
        left = SAMPLE - len(records)
        if layout["container"] == "json":
            texts = [batch.payload(row) for row in range(min(left, batch.batch.num_rows))]
            records += [msgspec.json.decode(text) for text in texts]
        else:
            rows = batch.batch.slice(0, left).to_pylist()
            records += [
                {name: value for name, value in row.items() if name != "$record"} for row in rows
            ]
        if len(records) >= SAMPLE:
            break
    return records


def _header(found: Found, layout: Layout) -> tuple[str, ...]:
    from pipelines.read.containers import read_records

    first = next(read_records(found, layout, {}, (), block=FIRST_BYTES), None)
    return first.columns if first else ()


def _fitting(found: Found) -> list[tuple[str, Source]]:
    """The formats whose shape the file has, the one that asks most of it first."""
    fitting, container = [], container_of(found, Layout())
    for name in preset_names():
        for spec in sources_of(preset(name), name):
            try:
                if spec.container not in {None, container}:
                    continue
                stated = spec.model_copy(update={"container": container})
                first = sample(found, stated)
                if first is not None and problem(stated, first) is None:
                    named = _is_named(found, spec)
                    asked = len(spec.shape.columns) + len(spec.shape.fits)
                    fitting.append((named, asked, name, stated))
            except SourceError:
                continue
    ranked = sorted(fitting, key=lambda one: one[:2], reverse=True)
    return list({name: (name, spec) for _, _, name, spec in reversed(ranked)}.values())[::-1]


def _is_named(found: Found, spec: Source) -> bool:
    from fnmatch import fnmatch

    own = [glob for glob in spec.match if not glob.startswith("*.")]
    return any(fnmatch(found.name.lower(), glob.lower()) for glob in own)


def _piece(found: Found, proposal: Proposal) -> Piece | None:
    try:
        spec = Source.model_validate(proposal.table)
    except ValidationError:
        return None
    return Piece(found, spec)


def _outcome(piece: Piece, rows: int, now_ms: int) -> dict[str, Any]:
    try:
        return outcome(piece, rows, now_ms)
    except RequestError as error:
        return {"error": str(error)}
