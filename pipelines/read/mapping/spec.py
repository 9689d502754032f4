"""`[source]` of a job file: how records of a foreign log become events; also a preset's form.

::

    [source]
    container = "csv"
    user_id = "visitorid"                                   # a column, or a path
    item_id = { first = ["sku", "properties.product_id"] }
    event_type = { column = "event", map = { view = "view", addtocart = "cart" } }
    event_time = { column = "timestamp", unit = "ms" }
    session_id = "{visitorid}|{visit}"                      # a template
    event_id = { hash = ["visitorid", "itemid", "timestamp"] }
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from models.config import Section
from pipelines.read.mapping.check_mapping import check_pattern, check_zone
from pipelines.read.mapping.paths import Step, Tree, parse_path, tree_of
from pipelines.schema import EVENT_TYPES

__all__ = ["COLUMNS", "Emit", "Explode", "Layout", "Shape", "Source", "Value", "Where"]

COLUMNS = (
    "event_id",
    "user_id",
    "item_id",
    "event_type",
    "event_time",
    "dwell_ms",
    "value",
    "session_id",
    "platform",
)
_KINDS = ("column", "constant", "template", "first", "hash")
_OWN = ("$record", "$file", "$row", "$ordinal", "$event_type")


def _many(value: Any) -> Any:
    return value if isinstance(value, list | tuple) or value is None else (value,)


def _words(value: Any) -> Any:
    return tuple(str(word) for word in _many(value) or ())


Words = Annotated[tuple[str, ...], BeforeValidator(_words)]


def _value(given: Any) -> Any:
    """`"a.b"` is a column or path, `"{a}|{b}"` a template."""
    if isinstance(given, str):
        return {"template": given} if "{" in given else {"column": given}
    return given


class Value(Section):
    """Where one column of an event comes from, and how it is read."""

    column: str | None = Field(None, description="a column, or a path into one")
    constant: str | float | None = Field(None, description="the same for every event")
    template: str | None = Field(None, description="`{path}` is replaced; null if one is null")
    first: tuple["Expression", ...] = Field((), description="the first that is not null")
    hash: tuple["Expression", ...] = Field((), description="32 letters that stand for these")

    regex: str | None = Field(None, description="its group is taken; null where it does not fit")
    nulls: Words | None = Field(None, description="words that mean null; None: those of the source")
    map: dict[str, str] | None = Field(None, description="word → word, as of event_type")
    unlisted: Literal["skip", "refuse", "keep"] = Field(
        "skip", description="a word that `map` lacks: no event and counted, a dead letter, or kept"
    )
    fold_case: bool = Field(False, description="upper and lower case are one to `map`")
    whole: bool = Field(False, description="a number such as 1.0 may stand for the id 1")
    missing: Literal["refuse", "skip"] = Field(
        "refuse", description="a required column that is null: a dead letter, or no event, counted"
    )

    unit: Literal["s", "ms", "us", "ns", "m", "clock", "s|ms"] | None = Field(
        None,
        description="of a time or a dwell. s|ms: seconds below 10¹¹, else ms; clock: hh:mm:ss",
    )
    format: Words = Field((), description="of a time as text: iso, or as strptime has it")
    zone: str | None = Field(None, description="of texts that say none, such as UTC, Asia/Shanghai")
    times: "Expression | None" = Field(None, description="a number that this one is multiplied by")
    thousands: str = Field("", max_length=1, description="between groups of digits, to be left out")
    decimal: str = Field(".", min_length=1, max_length=1, description="before the fraction")
    currency: bool = Field(False, description="signs and letters around a number are left out")
    min: float | None = Field(None, description="a smaller number is null, and counted")
    max: float | None = Field(None, description="a larger number is null, and counted")

    @field_validator("first", "hash", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return _many(given)

    @model_validator(mode="after")
    def _one_kind(self) -> "Value":
        given = [kind for kind in _KINDS if getattr(self, kind) not in (None, ())]
        if len(given) != 1:
            told = " and ".join(given) or "none"
            raise ValueError(f"takes exactly one of {', '.join(_KINDS)}; it has {told}")
        if self.regex is not None:
            check_pattern(self.regex, groups=1)
        if self.zone is not None:
            check_zone(self.zone)
        for path in self.paths():
            parse_path(path)
        return self

    def paths(self) -> Iterator[str]:
        """The paths that it reads, as written."""
        if self.column is not None:
            yield self.column
        if self.template is not None:
            yield from (name for _, name in template_parts(self.template) if name)
        inner = [*self.first, *self.hash, *([self.times] if self.times else [])]
        for value in inner:
            yield from value.paths()


Expression = Annotated[Value, BeforeValidator(_value)]


def template_parts(template: str) -> list[tuple[str, str]]:
    """`"{a}|{b}"` → [(text before, path)], the last with an empty path.

    >>> template_parts("{a}|{b}")
    [('', 'a'), ('|', 'b'), ('', '')]

    Raises:
        ValueError: a brace is not closed.
    """
    parts, rest = [], template
    while "{" in rest:
        before, _, rest = rest.partition("{")
        name, closed, rest = rest.partition("}")
        if not closed or not name:
            raise ValueError(f"template {template!r} has a brace without its path: write {{name}}")
        parts.append((before, name))
    return [*parts, (rest, "")]


class Where(Section):
    """A condition on a record, compared as text."""

    column: str
    is_: Words | None = Field(None, alias="is", description="it is one of these")
    not_: Words | None = Field(None, alias="not", description="it is none of these; null passes")
    fits: str | None = Field(None, description="a pattern that some of it fits; null does not")
    null: bool | None = Field(None, description="it is null, or (false) it is not")

    @model_validator(mode="after")
    def _something(self) -> "Where":
        given = (self.is_, self.not_, self.fits, self.null)
        if all(one is None for one in given):
            raise ValueError("takes is, not, fits or null: what has the column to be?")
        if self.fits is not None:
            check_pattern(self.fits, groups=None)
        parse_path(self.column)
        return self


class Explode(Section):
    """A list that makes an event of each of its elements."""

    column: str
    split: str | None = Field(None, min_length=1, description="it is text with this between")
    empty: Literal["skip", "keep"] = Field(
        "skip", description="a list that is empty or null: no event and counted, or one with nulls"
    )


def _explode(given: Any) -> Any:
    listed = _many(given) or ()
    return tuple({"column": one} if isinstance(one, str) else one for one in listed)


Explodes = Annotated[tuple[Explode, ...], BeforeValidator(_explode)]


class _Events(Section):
    """What makes events of a record."""

    event_id: Expression | None = None
    user_id: Expression | None = None
    item_id: Expression | None = None
    event_type: Expression | None = None
    event_time: Expression | None = None
    dwell_ms: Expression | None = None
    value: Expression | None = None
    session_id: Expression | None = None
    platform: Expression | None = None
    context: dict[str, Expression] = Field(default_factory=dict)
    explode: Explodes = ()

    def values(self) -> dict[str, Value]:
        """Column of an event → where it comes from."""
        found = {name: getattr(self, name) for name in COLUMNS}
        return {name: value for name, value in found.items() if value is not None}


class Emit(_Events):
    """`[[source.emit]]`: one of several events that a record may make."""

    when: tuple[Where, ...] = Field((), description="all of them hold; else no such event")

    @field_validator("when", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return _many(given)


class Layout(Section):
    """How the records lie in a file."""

    container: Literal["csv", "json", "parquet", "avro", "orc", "arrow"] | None = Field(
        None, description="None: as the file's first bytes and its name say"
    )
    delimiter: str | None = Field(None, min_length=1, max_length=8, description="as , or tab or ::")
    header: bool | Literal["typed"] = Field(
        True, description="the first line names the columns; typed: as `name:type`"
    )
    columns: tuple[str, ...] = Field((), description="names, where there is no header")
    quote: str = Field('"', max_length=1, description="around fields; empty: quotes are data")
    escape: str = Field("", max_length=1, description="before a letter that is data")
    comment: str = Field("", description="lines that begin with it are left out")
    encoding: str = Field("utf-8", description="as Python calls it: latin-1, utf-16, cp1252")
    nulls: Words | None = Field(
        None, description="words that mean null; None: the empty text in CSV, none elsewhere"
    )

    @model_validator(mode="after")
    def _readable(self) -> "Layout":
        try:
            "".encode(self.encoding)
        except LookupError:
            raise ValueError(f"encoding {self.encoding!r} is unknown; try utf-8") from None
        if self.columns and self.header:
            raise ValueError("columns are given, so header has to be false")
        if len(self.delimiter or "") > 1 and self.escape:
            raise ValueError("a delimiter of several letters goes with no escape")
        twice = {name for name in self.columns if self.columns.count(name) > 1}
        if twice:
            raise ValueError(f"columns names {sorted(twice)[0]!r} twice")
        return self


class Shape(Section):
    """What the first rows have to look like."""

    columns: tuple[str, ...] = Field((), description="columns (or paths) that are there")
    count: int | None = Field(None, ge=1, description="number of columns of a text file")
    fits: dict[str, str] = Field(default_factory=dict, description="path → pattern of its texts")

    @model_validator(mode="after")
    def _patterns(self) -> "Shape":
        for pattern in self.fits.values():
            check_pattern(pattern, groups=None)
        return self


class Source(Layout, _Events):
    """One `[source]`: which files, how they are laid out, what they mean."""

    match: Words = Field((), description="globs on the file's name; none: any file")
    note: str = Field("", description="what a reader has to know")
    where: tuple[Where, ...] = Field((), description="records that make events at all")
    emit: tuple[Emit, ...] = Field((), description="several events of one record")
    shape: Shape = Field(default_factory=Shape)

    @field_validator("where", mode="before")
    @classmethod
    def _listed(cls, given: Any) -> Any:
        return _many(given)

    @model_validator(mode="after")
    def _whole(self) -> "Source":
        for rule in self.rules():
            have = rule.values()
            for name in ("user_id", "item_id", "event_type", "event_time"):
                if name not in have:
                    raise ValueError(f"says nothing of {name}: name its column, or a constant")
            _check_types(have["event_type"])
            _check_time(have["event_time"])
            for name in ("dwell_ms",):
                if name in have and have[name].unit is None:
                    raise ValueError(f"{name} needs a unit (ms, s, m, clock): it is never guessed")
        return self

    def rules(self) -> tuple[Emit, ...]:
        """The events that a record may make, each with all that it needs."""
        common = {name: getattr(self, name) for name in (*COLUMNS, "context", "explode")}
        rules = []
        for emit in self.emit or (Emit(),):
            own = {name: getattr(emit, name) for name in emit.model_fields_set}
            own["context"] = {**self.context, **emit.context}
            rules.append(Emit.model_construct(**{"when": (), **common, **own}))
        return tuple(rules)

    def read_paths(self) -> list[tuple[Step, ...]]:
        """All paths into the records."""
        return [parse_path(text) for text in self._texts()]

    def _texts(self) -> list[str]:
        texts = [where.column for where in self.where]
        texts += [*self.shape.fits]
        for rule in self.rules():
            texts += [where.column for where in rule.when]
            texts += [explode.column for explode in rule.explode]
            for value in (*rule.values().values(), *rule.context.values()):
                texts += value.paths()
        return [text for text in dict.fromkeys(texts) if text not in _OWN]

    def tree(self) -> Tree:
        """What is read of a record; columns at the top."""
        paths = self.read_paths()
        tree = tree_of(paths)
        dotted = {text for text in self._texts() if "." in text}  # a column may be named so
        return {**tree, **{text: {} for text in sorted(dotted)}}

    def uses(self, own: str) -> bool:
        """Whether `$record`, `$file` or `$row` is named, or meant by leaving event_id out."""
        for rule in self.rules():
            if own == "$record" and rule.event_id is None:
                return True
            values = (*rule.values().values(), *rule.context.values())
            if any(own in value.paths() for value in values):
                return True
        return False


def _check_types(value: Value) -> None:
    given = value.map.values() if value.map is not None else [value.constant]
    for word in given:
        if word is not None and word not in EVENT_TYPES:
            raise ValueError(f"event_type {word!r} is none of {', '.join(EVENT_TYPES)}")


def _check_time(value: Value) -> None:
    if value.unit is None and not value.format and value.zone is None and not value.first:
        raise ValueError(
            "event_time needs a unit (s, ms, us, ns) or a format (iso, or as strptime has it)"
            " with its zone: neither is ever guessed"
        )
    for pattern in value.format:
        if pattern != "iso" and value.zone is None:
            raise ValueError(
                f"event_time has the format {pattern!r}, which says no zone: add one, as zone ="
                ' "UTC"'
            )
