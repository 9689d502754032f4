"""People who are users of several platforms: their events under one user_id."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import SourceError
from pipelines.read.containers import find, read_records
from pipelines.read.mapping.paths import Tree
from pipelines.read.mapping.spec import Layout
from pipelines.read.mapping.texts import as_text
from pipelines.read.parse.event_rules import excerpt, id_problem

__all__ = ["Identities", "read_identities"]

_COLUMNS = ("user_id", "person_id", "platform")
_MARK = "\x1f"  # between platform and user: no id that is printed has it


@dataclass(frozen=True)
class Identities:
    """Who is who: `keys[i]` is `platform␟user_id`, or `␟user_id` of any platform."""

    keys: pa.StringArray
    persons: pa.StringArray

    def join(self, events: pa.RecordBatch) -> tuple[pa.RecordBatch, int]:
        """Events with the person in place of the user, and how many have one.

        A line for the event's platform goes before one without platform.
        """
        users, platforms = (as_text(events.column(name)) for name in ("user_id", "platform"))
        at = self._places(pc.binary_join_element_wise(platforms, users, _MARK))
        anywhere = pa.repeat(pa.scalar(""), len(users))
        at = pc.coalesce(at, self._places(pc.binary_join_element_wise(anywhere, users, _MARK)))
        found = self.persons.take(at)
        joined = len(found) - found.null_count
        if not joined:
            return events, 0
        place = events.schema.get_field_index("user_id")
        field = events.schema.field(place)
        column = pc.coalesce(found, users)
        if pa.types.is_dictionary(field.type):
            column = column.dictionary_encode()
        return events.set_column(place, field, column), joined

    def _places(self, keys: pa.StringArray) -> pa.Int32Array:
        return pc.index_in(keys, value_set=self.keys, skip_nulls=True)


def read_identities(path: str) -> Identities:
    """A file (CSV, JSON lines, Parquet, …) with user_id, person_id and, if wanted, platform.

    Raises:
        SourceError: it cannot be read, lacks a column, has an id that is none, or says of a
            user that they are two people.
    """
    persons: dict[str, str] = {}
    for user, person, platform in _lines(path):
        for name, value in (("user_id", user), ("person_id", person)):
            problem = "null" if value is None else id_problem(value)
            if problem:
                raise SourceError(f"identities {path}: {name} is {problem}; mend or drop that line")
        key = f"{platform or ''}{_MARK}{user}"
        known = persons.setdefault(key, str(person))
        if known != person:
            raise SourceError(
                f"identities {path}: user {excerpt(user)} of platform {platform or 'any'} is both"
                f" {excerpt(known)} and {excerpt(person)}; leave one out"
            )
    names = pa.array(list(persons), pa.string())
    return Identities(names, pa.array(list(persons.values()), pa.string()))


def _lines(path: str) -> Iterator[tuple[str | None, str | None, str | None]]:
    tree: Tree = {name: {} for name in _COLUMNS}
    for found in find([path]):
        for records in read_records(found, Layout(), tree, ()):
            names = records.columns or records.batch.schema.names
            lacking = [name for name in _COLUMNS[:2] if name not in names]
            if lacking:
                raise SourceError(
                    f"identities {path} lacks the column {lacking[0]}; it has {', '.join(names)}:"
                    " user_id, person_id and, if wanted, platform are read"
                )
            if records.lost:
                first = records.lost[0]
                raise SourceError(
                    f"identities {path}, line {first.position + 1}: {first.fault.detail}"
                )
            columns = [
                as_text(records.batch.column(name)).to_pylist()
                if name in records.batch.schema.names
                else [None] * records.batch.num_rows
                for name in _COLUMNS
            ]
            yield from zip(*columns, strict=True)
