"""JSON lines of one shape, parsed column by column.

A log is written by few programs, so nearly every line is another line with other
values in it. A *template* is one line taken apart: fixed pieces (braces, keys,
colons) and slots (values). To read all lines of that shape takes no parser: the
places of their quotes are known, so each slot lies between two of them, and the
lines really are of that shape when all fixed pieces are equal, byte for byte.

What is not fixed is checked: a text in a slot holds no quote, backslash or
control character (the caller's lines have none, but for their quotes), and a
bare slot is a number, true, false or null. So a line that fits is valid JSON, but for NaN
where a number is expected, which many programs write.
"""

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.read.parse.event_rules import FIELDS, NOT_SET
from pipelines.schema import CONTEXT

__all__ = ["NONE", "SLOTS", "Lines", "Template", "learn_template", "matching_lines", "read"]

SLOTS = pa.schema(
    [
        pa.field("event_id", pa.string()),
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("event_type", pa.string()),
        pa.field("event_time", pa.string()),  # RFC 3339
        pa.field("time_ms", pa.string()),  # digits: event_time as a number
        pa.field("dwell_ms", pa.string()),  # digits
        pa.field("value", pa.string()),  # digits
        pa.field("session_id", pa.string()),
        pa.field("platform", pa.string()),
        pa.field("context", CONTEXT),
        pa.field("line", pa.int64()),  # which of the caller's lines it is
    ]
)
"""What `read` yields: values as they are written, null where there is none."""

NONE = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in SLOTS], schema=SLOTS)
"""No lines."""

_TOKEN = re.compile(rb'"[^"]*"|[^\s"{}\[\]:,]+|[{}\[\]:,]')
_BARE = r"null|true|false|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_NUMERIC = {"dwell_ms", "value"}


@dataclass
class _Slot:
    """One value of the line."""

    name: str | None  # column of SLOTS; None: an extra field's
    quoted: bool
    key: str | None = None  # within the context


@dataclass
class Template:
    """A line taken apart: a piece, a slot, a piece, …; one more piece than slots."""

    pieces: list[bytes] = field(default_factory=list)
    slots: list[_Slot] = field(default_factory=list)
    extra: int = 0  # top-level fields that no column is for
    has_context: bool = False


def learn_template(line: bytes) -> Template | None:
    """Take a line apart.

    Args:
        line: a valid event without backslashes (`rules.parse_line` has said so).

    Returns:
        None when such lines are better read one by one: a key given twice, or two
        bare values with no quote between them (as in an array of numbers).
    """
    template, start, keys = Template(), 0, set()
    path: list[str | None] = []  # the key that leads into each open bracket
    key: str | None = None
    tokens = [(m.start(), m.end()) for m in _TOKEN.finditer(line)]
    for number, (begin, end) in enumerate(tokens):
        token = line[begin:end]
        if token in b"{[":
            path.append(key)
            template.has_context |= path == [None, "context"]
            key = None
        elif token in b"}]":
            path.pop()
        elif token in b":,":
            continue
        elif token[:1] == b'"' and line[slice(*tokens[number + 1])] == b":":
            key = token[1:-1].decode()
            if len(path) == 1 or path == [None, "context"]:
                if (len(path), key) in keys:
                    return None
                keys.add((len(path), key))
        else:
            quoted = token[:1] == b'"'
            template.pieces.append(line[start : begin + quoted])
            template.slots.append(_slot(path, key, quoted))
            start = end - quoted
    template.pieces.append(line[start:])
    template.extra = sum(depth == 1 and name not in FIELDS for depth, name in keys)
    return template if _anchored(template) else None


def _slot(path: list[str | None], key: str | None, quoted: bool) -> _Slot:
    if path == [None, "context"]:
        return _Slot("context", quoted, key)
    if len(path) != 1 or key not in FIELDS:
        return _Slot(None, quoted)
    return _Slot("time_ms" if key == "event_time" and not quoted else key, quoted)


def _anchored(template: Template) -> bool:
    """Whether each piece after a bare slot can be found: by a quote in it, or the line's end."""
    return all(
        slot.quoted or b'"' in template.pieces[i] or i == len(template.slots)
        for i, slot in enumerate(template.slots, start=1)
    )


@dataclass(frozen=True)
class Lines:
    """Lines with as many quotes as a template, and no backslash or control character."""

    data: pa.Buffer  # the bytes that hold them; below 2 GiB
    quotes: np.ndarray  # places of all quotes in it, int64, ascending
    first: np.ndarray  # int32 [lines]; where a line's quotes begin in `quotes`
    starts: np.ndarray  # int32 [lines], ascending; places of the first bytes
    ends: np.ndarray  # int32 [lines]; places just after the last bytes


@dataclass(frozen=True)
class _Match:
    """The lines that fit, taken apart."""

    segments: pa.Array  # binary; pieces and slots by turns, and what lies between two lines
    at: np.ndarray  # int32 [matched]; where a line's segments begin
    rows: np.ndarray  # int64 [matched]; which of the lines


def matching_lines(template: Template, lines: Lines) -> np.ndarray:
    """Bool `[lines]`: those that have the template's shape."""
    fitting = np.zeros(len(lines.starts), bool)
    fitting[_match(template, lines).rows] = True
    return fitting


def read(template: Template, lines: Lines) -> tuple[pa.RecordBatch, np.ndarray]:
    """The lines that fit → (their values, schema SLOTS; bool `[lines]`: which they are).

    The column `line` counts in the order of the lines given.
    """
    match = _match(template, lines)
    fitting = np.zeros(len(lines.starts), bool)
    fitting[match.rows] = True
    return _columns(template, match), fitting


def _match(template: Template, lines: Lines) -> _Match:
    bounds, sound = _bounds(template, lines)
    rows = np.flatnonzero(sound)
    if len(rows) < len(sound):
        bounds = bounds[rows]
    buffers = [None, pa.py_buffer(bounds), lines.data]
    segments = pa.Array.from_buffers(pa.binary(), max(bounds.size - 1, 0), buffers)
    at = np.arange(len(rows), dtype=np.int32) * np.int32(bounds.shape[1])
    for check in (_same_pieces, _good_bare):
        good = check(template, segments, at)
        if not good.all():
            at, rows = at[good], rows[good]
    return _Match(segments, at, rows)


def _bounds(template: Template, lines: Lines) -> tuple[np.ndarray, np.ndarray]:
    """Where pieces start and end, int32 `[lines, 2·pieces]`, and where that makes sense.

    A piece is found by its first quote, or by the end of the line if it has none.
    """
    counts = [piece.count(b'"') for piece in template.pieces]
    passed = np.cumsum([0, *counts[:-1]], dtype=np.int32)
    before = np.array([max(piece.find(b'"'), 0) for piece in template.pieces], np.int32)
    lengths = np.array([len(piece) for piece in template.pieces], np.int32)
    passed[-1] = min(passed[-1], sum(counts) - 1)  # stay within the line's quotes
    begins = lines.quotes[lines.first[:, None] + passed].astype(np.int32)
    begins -= before
    if not counts[-1]:
        begins[:, -1] = lines.ends - lengths[-1]
    bounds = np.empty((len(begins), 2 * len(lengths)), np.int32)
    bounds[:, ::2] = begins
    np.add(begins, lengths, out=bounds[:, 1::2])
    sound = (begins[:, 0] == lines.starts) & (bounds[:, -1] == lines.ends)
    sound &= (begins[:, 1:] >= bounds[:, 1:-1:2]).all(axis=1)
    return bounds, sound


def _same_pieces(template: Template, segments: pa.Array, at: np.ndarray) -> np.ndarray:
    """Bool `[lines]`: all fixed pieces are the template's."""
    if not len(at):
        return np.ones(0, bool)
    want = np.frombuffer(b"".join(template.pieces), np.uint8)
    places = at[:, None] + np.arange(0, 2 * len(template.pieces), 2, dtype=np.int32)
    got = pc.take(segments, pa.array(places.ravel()), boundscheck=False)
    grid = np.frombuffer(got.buffers()[2], np.uint8)[: len(at) * len(want)]
    return (grid.reshape(len(at), len(want)) == want).all(axis=1)


def _texts(segments: pa.Array, places: np.ndarray) -> pa.Array:
    return pc.take(segments, pa.array(places), boundscheck=False).view(pa.string())


def _good_bare(template: Template, segments: pa.Array, at: np.ndarray) -> np.ndarray:
    """Bool `[lines]`: every bare slot holds what may stand there."""
    good = np.ones(len(at), bool)
    for i, slot in enumerate(template.slots):
        if slot.quoted and slot.name not in _NUMERIC:
            continue
        texts = _texts(segments, at + np.int32(2 * i + 1))
        if slot.quoted:
            fits = pc.equal(texts, NOT_SET)
        elif slot.name is None:
            fits = pc.match_substring_regex(texts, f"^({_BARE})$")
        elif slot.name == "time_ms":
            fits = pc.match_substring_regex(texts, "^-?(0|[1-9][0-9]{0,17})$")
        elif slot.name in _NUMERIC:
            fits = pc.match_substring_regex(
                texts, r"^(null|NaN|-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?)$"
            )
        else:
            fits = pc.equal(texts, "null")
        good &= fits.to_numpy(zero_copy_only=False)
    return good


def _columns(template: Template, match: _Match) -> pa.RecordBatch:
    segments, at = match.segments, match.at
    columns = {"line": pa.array(match.rows, pa.int64())}
    for i, slot in enumerate(template.slots):
        if slot.name in (None, "context"):
            continue
        if slot.quoted and slot.name in _NUMERIC:  # not set, as NaN is
            columns[slot.name] = pa.array(["NaN"]).take(pa.array(np.zeros(len(at), np.int32)))
        elif slot.quoted:
            columns[slot.name] = _texts(segments, at + np.int32(2 * i + 1))
        elif slot.name in _NUMERIC or slot.name == "time_ms":
            texts = _texts(segments, at + np.int32(2 * i + 1))
            null = pc.equal(texts, "null")
            columns[slot.name] = pc.if_else(null, pa.scalar(None, pa.string()), texts)
    if template.has_context:
        columns["context"] = _context(template, segments, at)
    arrays = [columns[f.name] if f.name in columns else pa.nulls(len(at), f.type) for f in SLOTS]
    return pa.RecordBatch.from_arrays(arrays, schema=SLOTS)


def _context(template: Template, segments: pa.Array, at: np.ndarray) -> pa.Array:
    slots = [(i, s) for i, s in enumerate(template.slots) if s.name == "context" and s.quoted]
    offsets = np.arange(len(at) + 1, dtype=np.int32) * np.int32(len(slots))
    keys = pa.array([slot.key for _, slot in slots], pa.string())
    which = np.tile(np.arange(len(slots), dtype=np.int32), len(at))
    places = at[:, None] + np.array([2 * i + 1 for i, _ in slots], np.int32)
    items = _texts(segments, places.ravel())
    return pa.MapArray.from_arrays(pa.array(offsets), keys.take(pa.array(which)), items)
