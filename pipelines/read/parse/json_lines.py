"""A batch of JSON lines → events and dead letters.

Lines are grouped by shape and read by template; what fits none, and what breaks
a rule, is looked at line by line (`rules.parse_line`).
"""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pipelines.arrow.ipc import concat
from pipelines.read.parse import line_template as templates
from pipelines.read.parse.column_rules import (
    CODED_EVENTS,
    Columns,
    assemble,
    bools_of,
    from_events,
    join,
    known,
    parse_times,
    whole_numbers,
)
from pipelines.read.parse.event_rules import (
    MAX_LINE_BYTES,
    Event,
    Fault,
    extra_fields,
    load_line,
    parse_line,
    read_line,
)
from pipelines.read.parse.parsed import Parsed, dead_letters

__all__ = ["LINES", "parse_lines"]

LINES = pa.schema(
    [
        pa.field("payload", pa.binary(), nullable=False),  # a line; its end may be there
        pa.field("position", pa.int64(), nullable=False),  # byte or offset in the source; from 0
    ]
)
"""Unparsed JSON records; the schema's metadata has the `source`."""

_QUOTE, _BACKSLASH, _SPACE, _ASCII = ord('"'), ord("\\"), ord(" "), 128
_FEW = 100  # lines; a template for fewer costs more than it saves
_MANY = 4_096  # lines; a template for more is tried on a sample first
_SAMPLE = 128
_MAX_MISSES = 16  # lines of a group that made no template
_MAX_QUOTES = 512  # in a line read by template


@dataclass(frozen=True)
class _Text:
    """The lines of a batch in one buffer."""

    data: pa.Buffer
    letters: np.ndarray  # the same bytes, uint8
    starts: np.ndarray  # int32 [lines]
    ends: np.ndarray  # int32 [lines]; line ends are left out

    def line(self, index: int) -> bytes:
        return self.letters[self.starts[index] : self.ends[index]].tobytes()


@dataclass
class _Slow:
    """Lines read one by one."""

    now_ms: int
    events: list[Event] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)
    extra: int = 0
    unknown: int = 0

    def read(self, text: _Text, index: int) -> bool:
        """Whether the line is an event."""
        result = read_line(text.line(index), self.now_ms)
        if isinstance(result, Fault):
            self.faults[index] = result
            return False
        event, extra, unknown = result
        self.events.append(event)
        self.extra += extra
        self.unknown += unknown
        return True


def parse_lines(batch: pa.RecordBatch, now_ms: int) -> Parsed:
    """JSON lines (schema LINES) → events, in no particular order, and dead letters.

    Args:
        batch: below 2 GiB of payload.
        now_ms: the reader's clock, epoch milliseconds.
    """
    text = _text(batch.column("payload"))
    slow = _Slow(now_ms)
    slots, extra = _by_template(text, slow)
    columns, unknown = known(_columns(slots))
    valid, ok = assemble(
        join(columns, from_events(slow.events)) if slow.events else columns, now_ms
    )
    late = _Slow(now_ms)  # what the columns' rules refused: to be explained, seldom accepted
    for index in slots.column("line").filter(pa.array(~ok[: len(slots)])).to_pylist():
        if not late.read(text, index):  # extra fields count in events alone
            extra -= extra_fields(load_line(text.line(index))[0])
    if late.events:
        more, _ = assemble(from_events(late.events), now_ms)
        valid = concat([valid, more], CODED_EVENTS)
    faults = dict(sorted((slow.faults | late.faults).items()))
    positions = batch.column("position")
    dead = dead_letters(
        [text.line(index) for index in faults],
        list(faults.values()),
        [positions[index].as_py() for index in faults],
        source=(batch.schema.metadata or {}).get(b"source", b"").decode(),
        now_ms=now_ms,
    )
    written = int(unknown[ok[: len(slots)]].sum()) + slow.unknown + late.unknown
    return Parsed(valid, dead, batch.num_rows, extra + slow.extra, written)


def _text(payload: pa.BinaryArray) -> _Text:
    _, offsets, data = payload.buffers()
    data = data if data is not None else pa.py_buffer(b"")
    letters = np.frombuffer(data, np.uint8) if data.size else np.empty(0, np.uint8)
    if not len(payload):
        none = np.empty(0, np.int32)
        return _Text(data, letters, none, none)
    spans = np.frombuffer(offsets, np.int32)[payload.offset : payload.offset + len(payload) + 1]
    starts, ends = spans[:-1], spans[1:]
    for end in b"\n\r":
        last = letters[np.maximum(ends - 1, 0)]
        ends = ends - ((last == end) & (ends > starts)).astype(np.int32)
    return _Text(data, letters, starts, ends)


def _by_template(text: _Text, slow: _Slow) -> tuple[pa.RecordBatch, int]:
    """All lines → (those read by template, schema SLOTS; their extra fields); others to `slow`."""
    if not len(text.starts):
        return templates.NONE, 0
    low, high = int(text.starts[0]), int(text.ends[-1])
    quotes = np.flatnonzero(text.letters[low:high] == _QUOTE)
    if low:
        quotes += low
    first = np.searchsorted(quotes, text.starts).astype(np.int32)
    counts = np.diff(first, append=np.int32(len(quotes)))
    counts[_odd_lines(text) | (counts > _MAX_QUOTES)] = 0
    index = _Index(text, quotes, first)
    parts, extra, slowly = [], 0, [np.flatnonzero(counts == 0)]
    for group in _groups(counts):
        pending, misses = group, 0
        while len(pending) >= _FEW and misses < _MAX_MISSES:
            template = index.learn(pending, slow.now_ms)
            if template is not None:
                part, fits = templates.read(template, index.of(pending))
                parts.append(_numbered(part, pending[fits]))
                extra += template.extra * part.num_rows
                pending = pending[~fits]
            if template is None or not fits[0]:
                slowly.append(pending[:1])
                pending = pending[1:]
                misses += 1
        slowly.append(pending)
    for line in np.concatenate(slowly).tolist():
        slow.read(text, line)
    return concat([templates.NONE, *parts], templates.SLOTS), extra


@dataclass(frozen=True)
class _Index:
    """Where the quotes are."""

    text: _Text
    quotes: np.ndarray  # int64; of all lines
    first: np.ndarray  # int32 [lines]; of the line's first quote, in `quotes`

    def of(self, lines: np.ndarray) -> templates.Lines:
        """Some lines, as a template takes them."""
        text = self.text
        starts, ends = text.starts[lines], text.ends[lines]
        return templates.Lines(text.data, self.quotes, self.first[lines], starts, ends)

    def learn(self, lines: np.ndarray, now_ms: int) -> templates.Template | None:
        """The template of the first line; None if a sample says that few others fit it."""
        line = self.text.line(int(lines[0]))
        if isinstance(parse_line(line, now_ms), Fault):
            return None
        template = templates.learn_template(line)
        if template is None or len(lines) < _MANY:
            return template
        fits = templates.matching_lines(template, self.of(lines[:: len(lines) // _SAMPLE]))
        return template if fits.sum() * 16 >= len(fits) else None


def _groups(counts: np.ndarray) -> list[np.ndarray]:
    """Lines by their number of quotes, each in order; count 0: none of them."""
    order = np.argsort(counts.astype(np.int16), kind="stable")  # radix sort
    sizes = np.bincount(counts)
    ends = np.cumsum(sizes)
    return [
        order[end - size : end]
        for count, (size, end) in enumerate(zip(sizes, ends, strict=True))
        if count and size
    ]


def _numbered(part: pa.RecordBatch, lines: np.ndarray) -> pa.RecordBatch:
    at = part.schema.get_field_index("line")
    return part.set_column(at, part.schema.field(at), pa.array(lines, pa.int64()))


def _odd_lines(text: _Text) -> np.ndarray:
    """Bool `[lines]`: with a backslash, control character, bad UTF-8, odd quotes, or too long."""
    odd = text.ends - text.starts > MAX_LINE_BYTES
    low, high = int(text.starts[0]), int(text.ends[-1])
    letters = text.letters[low:high]
    breaks = int(np.sum(text.starts[1:] - text.ends[:-1]))  # bytes of line ends
    controls = letters < _SPACE
    if np.count_nonzero(controls) > breaks:
        odd |= _lines_with(text, np.flatnonzero(controls) + low)
    escapes = letters == _BACKSLASH
    if escapes.any():
        odd |= _lines_with(text, np.flatnonzero(escapes) + low)
    if not _is_utf8(text):
        suspects = np.flatnonzero(_lines_with(text, np.flatnonzero(letters >= _ASCII) + low))
        odd[suspects] |= np.array([not _decodes(text.line(int(i))) for i in suspects])
    return odd


def _lines_with(text: _Text, places: np.ndarray) -> np.ndarray:
    """Bool `[lines]`: whether one of the places (ascending) lies within the line."""
    return np.searchsorted(places, text.starts) < np.searchsorted(places, text.ends)


def _is_utf8(text: _Text) -> bool:
    bounds = pa.py_buffer(np.append(text.starts, text.ends[-1]))
    whole_numbers = pa.Array.from_buffers(pa.string(), len(text.starts), [None, bounds, text.data])
    try:
        whole_numbers.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _decodes(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _columns(slots: pa.RecordBatch) -> Columns:
    """Values as they were written → values."""
    times, ok = parse_times(slots.column("event_time"))
    digits = slots.column("time_ms")
    if digits.null_count < len(slots):
        known = bools_of(digits.is_valid())
        times = np.where(known, digits.cast(pa.int64()).fill_null(0).to_numpy(), times)
        ok |= known
    dwell, sound = whole_numbers(slots.column("dwell_ms").cast(pa.float64()))
    same = ("event_id", "user_id", "item_id", "event_type", "session_id", "platform", "context")
    return Columns(
        time_ms=times,
        dwell_ms=dwell,
        value=slots.column("value").cast(pa.float64()),
        ok=ok & sound,
        **{name: slots.column(name) for name in same},
    )
