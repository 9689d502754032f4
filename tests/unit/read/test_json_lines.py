"""JSON lines: the fast path accepts a line exactly when the slow one finds no fault in it."""

import json
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.arrow.ipc import without_dictionaries
from pipelines.read.parse import json_lines as lines_module
from pipelines.read.parse.event_rules import Event, Fault, parse_line
from pipelines.read.parse.json_lines import LINES, parse_lines
from pipelines.schema import DEAD_LETTERS, EVENT_TYPES, EVENTS

NOW = 1_750_000_000_000  # 2025-06-15T15:06:40Z
GOOD = {
    "event_id": "e1",
    "user_id": "u1",
    "item_id": "i1",
    "event_type": "view",
    "event_time": "2025-06-15T12:00:00.123Z",
    "dwell_ms": 1200,
    "value": 2.5,
    "session_id": "s1",
    "platform": "web",
    "context": {"country": "de", "hour": "7"},
}


def raw(lines, positions=None, end=b"\n"):
    payload = pa.array([line + end for line in lines], pa.binary())
    at = pa.array(positions or range(len(lines)), pa.int64())
    return pa.RecordBatch.from_arrays([payload, at], schema=LINES.with_metadata({"source": "f"}))


def events_of(batch):
    rows = []
    for row in without_dictionaries(batch).to_pylist():
        row["event_time"] = row["event_time"].timestamp() * 1_000
        row["context"] = None if row["context"] is None else dict(row["context"])
        rows.append(Event(**row))
    return rows


def reference(lines):
    events, faults = [], []
    for number, line in enumerate(lines):
        result = parse_line(line, NOW)
        if isinstance(result, Fault):
            faults.append((number, *result))
        else:
            events.append(result[0])
    extra = sum(r[1] for r in (parse_line(x, NOW) for x in lines) if not isinstance(r, Fault))
    return events, faults, extra


def assert_agrees(lines):
    parsed = parse_lines(raw(lines), NOW)
    events, faults, extra = reference(lines)
    assert parsed.read == len(lines) == len(parsed.valid) + len(parsed.dead)
    assert Counter(map(repr, events_of(parsed.valid))) == Counter(
        repr(e._replace(event_time=float(e.event_time))) for e in events
    )
    dead = parsed.dead.to_pylist()
    assert [(d["position"], d["reason"], d["detail"]) for d in dead] == faults
    assert [d["payload"] for d in dead] == [lines[number][: 1 << 20] for number, *_ in faults]
    assert parsed.extra_fields == extra
    assert parsed.dead.schema == DEAD_LETTERS
    parsed.valid.validate(full=True)


@pytest.fixture(params=[2, 10_000], ids=["by template", "one by one"], autouse=True)
def _few(request, monkeypatch):
    monkeypatch.setattr(lines_module, "_FEW", request.param)
    monkeypatch.setattr(lines_module, "_MANY", 6)
    monkeypatch.setattr(lines_module, "_SAMPLE", 3)


def variants(count=8, **changes):
    return [
        json.dumps(GOOD | {"event_id": f"e{i}", "dwell_ms": i * 7} | changes).encode()
        for i in range(count)
    ]


def test_good_lines_become_events():
    parsed = parse_lines(raw(variants()), NOW)
    assert parsed.valid.num_rows == 8
    assert parsed.dead.num_rows == 0
    first = min(events_of(parsed.valid))
    assert first == Event(
        "e0", "u1", "i1", "view", 1749988800123, 0, 2.5, "s1", "web", {"country": "de", "hour": "7"}
    )


def test_event_types_are_coded_in_the_order_of_the_schema():
    lines = [x for t in EVENT_TYPES[::-1] for x in variants(3, event_type=t)]
    column = parse_lines(raw(lines), NOW).valid.column("event_type")
    assert column.dictionary.to_pylist() == list(EVENT_TYPES)
    assert Counter(column.to_pylist()) == dict.fromkeys(EVENT_TYPES, 3)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_end_is_no_part_of_the_line(end):
    lines = [*variants(), b"nope"]
    parsed = parse_lines(raw(lines, end=end), NOW)
    assert parsed.valid.num_rows == 8
    assert parsed.dead.column("payload").to_pylist() == [b"nope"]


def test_no_lines():
    parsed = parse_lines(raw([]), NOW)
    assert (parsed.read, parsed.valid.num_rows, parsed.dead.num_rows) == (0, 0, 0)


def test_a_slice_of_a_batch():
    batch = raw([*variants(), b"nope"], positions=list(range(10, 19))).slice(3)
    parsed = parse_lines(batch, NOW)
    assert sorted(e.event_id for e in events_of(parsed.valid)) == ["e3", "e4", "e5", "e6", "e7"]
    assert parsed.dead.column("position").to_pylist() == [18]


def without(name):
    return json.dumps({k: v for k, v in GOOD.items() if k != name}).encode()


def with_(**changes):
    return json.dumps(GOOD | changes).encode()


def text(old, new):
    return json.dumps(GOOD).encode().replace(old, new)


BAD = [
    ("bad_json", b"nope"),
    ("bad_json", b""),
    ("bad_json", b"[1, 2]"),
    ("bad_json", b"12"),
    ("bad_json", b"null"),
    ("bad_json", b'"text"'),
    ("bad_json", json.dumps(GOOD).encode()[:-1]),
    ("bad_json", json.dumps(GOOD).encode() + b"}"),
    ("bad_json", json.dumps(GOOD).encode() * 2),
    ("bad_json", text(b'"u1"', b'"u\xff1"')),
    ("bad_json", text(b'"u1"', b'"u\xed\xa0\x801"')),
    ("bad_json", text(b'"u1"', b'"\\ud800"')),
    ("bad_json", text(b'"u1"', b'"u\x001"')),
    ("bad_json", text(b'"u1"', b'"u\x011"')),
    ("bad_json", text(b"1200", b"01200")),
    ("bad_json", text(b"2.5", b".5")),
    ("bad_json", text(b"2.5", b"+2.5")),
    ("bad_json", text(b"2.5", b"0x25")),
    ("bad_json", b'{"a":' * 100_000),
    ("bad_json", b"[" * 100_000),
    ("bad_json", b'{"a":' * 100 + b"1" + b"}" * 100),
    *(("missing_field", without(name)) for name in list(GOOD)[:5]),
    *(("missing_field", with_(**{name: None})) for name in list(GOOD)[:5]),
    *(("bad_type", with_(**{n: v})) for n in list(GOOD)[:4] for v in (1, 1.5, True, [], {})),
    *(("bad_type", with_(event_time=v)) for v in (1.5, True, [], {"$date": 1})),
    *(("bad_type", with_(dwell_ms=v)) for v in ("12", True, [1], {}, 1.5)),
    *(("bad_type", with_(value=v)) for v in ("2.5", False, [1], {})),
    *(("bad_type", with_(**{n: v})) for n in ("session_id", "platform") for v in (1, True, [])),
    *(("bad_type", with_(context=v)) for v in ("de", 1, True, ["de"], {"hour": 7}, {"a": {}})),
    *(("bad_value", with_(event_type=v)) for v in ("VIEW", "", "viewed", "view ")),
    *(("bad_value", with_(**{n: v})) for n in list(GOOD)[:3] for v in ("", "x" * 257, "a\0b")),
    ("bad_value", with_(user_id="é" * 129)),
    *(("bad_value", with_(dwell_ms=v)) for v in (-2, -2.0, 86_400_001, 10**30, 1e300)),
    *(("bad_value", text(b"2.5", v)) for v in (b"Infinity", b"-Infinity", b"1e999")),
    *(("bad_value", text(b"1200", v)) for v in (b"Infinity", b"1e999")),
    ("bad_value", with_(value=10**400)),
    ("bad_value", with_(context={str(i): "x" for i in range(33)})),
    ("bad_value", with_(other=float("nan"))),
    *(
        ("bad_time", with_(event_time=v))
        for v in (
            "yesterday",
            "",
            "2025-06-15",
            "2025-06-15T12:00:00",
            "2025-06-15T12:00:00.123",
            "2025-06-15T12:00Z",
            "2025-06-15T12:00:00+0200",
            "2025-06-15T12:00:00+24:00",
            "2025-06-15T12:00:00.Z",
            "2025-02-30T12:00:00Z",
            "2025-13-01T12:00:00Z",
            "2025-06-15T24:00:00Z",
            "2025-06-15T12:60:00Z",
            "2025-06-15T12:00:60Z",
            "2025-06-15T12:00:00Z ",
            "２025-06-15T12:00:00Z",
            "1989-12-31T23:59:59.999Z",
            "1989-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "2025-06-16T15:06:40.001Z",
            631_151_999_999,
            -1,
            0,
            NOW + 86_400_001,
            1_750_000_000,
            10**30,
            "1750000000000",
        )
    ),
    ("too_large", with_(other="x" * (1 << 20))),
    ("too_large", b"x" * ((1 << 20) + 1)),
]


@pytest.mark.parametrize(("reason", "line"), BAD, ids=lambda v: v if isinstance(v, str) else v[:60])
def test_bad_lines_and_their_reasons(reason, line):
    lines = [line, *variants(), line, *variants(3), line]
    parsed = parse_lines(raw(lines), NOW)
    dead = parsed.dead.to_pylist()
    assert [(d["reason"], d["position"]) for d in dead] == [(reason, 0), (reason, 9), (reason, 13)]
    assert parsed.valid.num_rows == 11
    letter = dead[0]
    assert letter["payload"] == line[: 1 << 20]
    assert letter["source"] == "f"
    assert letter["detail"].partition(":")[0]
    assert len(letter["detail"]) < 400
    assert "\n" not in letter["detail"]


UNKNOWN = [
    *(text(b"1200", v) for v in (b"-1", b"-1.0", b"NaN", b'"(not set)"')),
    *(text(b"2.5", v) for v in (b"NaN", b'"(not set)"')),
    *(with_(**{n: v}) for n in ("session_id", "platform") for v in ("", "(not set)")),
]


@pytest.mark.parametrize("line", UNKNOWN, ids=lambda v: v[:0] or v.decode()[120:200])
@pytest.mark.parametrize("count", [1, 9])
def test_values_that_say_that_they_are_none_are_null_and_counted(line, count):
    lines = [line.replace(b'"e1"', b'"n%d"' % i) for i in range(count)] + variants()
    parsed = parse_lines(raw(lines), NOW)
    assert (parsed.dead.num_rows, parsed.unknown_values) == (0, count)
    named = ("dwell_ms", "value", "session_id", "platform")
    nulls = [parsed.valid.column(name).null_count for name in named]
    assert sorted(nulls) == [0, 0, 0, count]
    assert_agrees(lines)


def test_a_quoted_number_is_no_number_beside_one_that_is_not_set():
    lines = [text(b"1200", v) for v in 6 * [b'"(not set)"'] + [b'"12"']]
    parsed = parse_lines(raw(lines), NOW)
    assert (parsed.valid.num_rows, parsed.unknown_values) == (6, 6)
    assert parsed.dead.column("reason").to_pylist() == ["bad_type"]


FINE = [
    *(with_(event_time=v) for v in (631_152_000_000, NOW + 86_400_000, NOW)),
    *(
        with_(event_time=v)
        for v in (
            "1990-01-01T00:00:00Z",
            "2025-06-16T15:06:40Z",
            "2025-06-15T12:00:00.1Z",
            "2025-06-15T12:00:00.123456789Z",
            "2025-06-15t12:00:00z",
            "2025-06-15 12:00:00+02:00",
            "2025-06-15T12:00:00-11:30",
            "2025-06-15T12:00:00.999999-00:00",
            "2024-02-29T12:00:00Z",
        )
    ),
    *(with_(dwell_ms=v) for v in (0, 86_400_000, 1500.0, -0.0, None)),
    *(with_(value=v) for v in (0, -1, 1e308, 10**30, -0.0, None, 5)),
    *(text(b"2.5", v) for v in (b"1E2", b"1e-400", b"0.1e+1", b"123456789012345678901234567890")),
    *(without(n) for n in list(GOOD)[5:]),
    *(with_(**{n: None}) for n in list(GOOD)[5:]),
    *(with_(context=v) for v in ({}, {"a": None}, {"": ""}, {"a": "x", "b": None, "c": "z"})),
    with_(context={str(i): "x" for i in range(32)}),
    with_(context={str(i): None for i in range(40)}),
    *(
        with_(user_id=v)
        for v in ("x" * 256, "é" * 128, "日本", " ", 'q"uote', "back\\slash", "\x7f")
    ),
    with_(session_id="", platform="", extra=[1, {"a": [True, None, "x"]}], more={"user_id": "no"}),
    with_(extra="x", extra2=1, extra3=-0.5e-7, extra4=None, extra5=True),
    text(b"1200", b"1.2e3"),
    text(b'"value"', b'"value": 7, "value"'),
    b"  " + text(b", ", b" ,\t") + b" ",
    json.dumps(GOOD, separators=(",", ":")).encode(),
    json.dumps(GOOD | {"platform": "wéb"}, ensure_ascii=False).encode(),
    json.dumps(dict(reversed(GOOD.items()))).encode(),
    text(b'"context": {', b'"context": { '),
    with_(other=10**500),
    text(b"2.5", b'2.5, "other": 1e999'),
]


@pytest.mark.parametrize("line", FINE, ids=lambda v: v[:80])
def test_unusual_but_good_lines(line):
    assert not isinstance(parse_line(line, NOW), Fault)
    assert_agrees([line, *variants(), line, line, line])


def test_every_bad_line_among_good_ones():
    assert_agrees([x for _, line in BAD for x in (line, *variants(2))])


def test_times_are_floored_to_the_millisecond():
    lines = [
        with_(event_id="a", event_time="2025-06-15T12:00:00.0019Z"),
        with_(event_id="b", event_time="2025-06-15T12:00:00.000999+00:00"),
    ]
    times = {e.event_id: e.event_time for e in events_of(parse_lines(raw(lines * 3), NOW).valid)}
    assert times == {"a": 1749988800001, "b": 1749988800000}


def test_extra_fields_are_counted():
    assert parse_lines(raw(variants(5, a=1, b={"c": [1, 2]})), NOW).extra_fields == 10


def test_extra_fields_of_dead_letters_are_not_counted():
    lines = [*variants(5, more=1), with_(more=1, event_type="x"), with_(more=1, user_id=None)]
    assert_agrees(lines)
    assert parse_lines(raw(lines), NOW).extra_fields == 5


def test_a_line_made_to_be_slow_is_not():
    hostile = b'{"a":' * 70 + b'\\"' * 300_000  # quadratic: hours
    assert parse_line(hostile, NOW).reason == "bad_json"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["view", "", "2025-06-15T12:00:00Z", 1_740_000_000_000, 5e-324]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
RECORDS = st.dictionaries(st.sampled_from([*EVENTS.names, "x", "y"]), JSON, max_size=4).map(
    lambda odd: GOOD | odd
)
STYLES = st.builds(
    lambda separators, ascii_only, sort: {
        "separators": separators,
        "ensure_ascii": ascii_only,
        "sort_keys": sort,
    },
    st.sampled_from([(", ", ": "), (",", ":"), (" , ", " : ")]),
    st.booleans(),
    st.booleans(),
)


def dump(record, style):
    return json.dumps(record, **style).encode("utf-8", "surrogatepass")


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORDS, min_size=1, max_size=12), STYLES)
def test_any_json_values(records, style):
    assert_agrees([dump(record, style) for record in records for _ in range(2)])


MUTATIONS = st.tuples(
    st.floats(0, 1),
    st.integers(0, 3),
    st.sampled_from(list(b'"{}[],:\\ \t\r\x00\xff-+.eE0123456789aun')),
)


def mutate(line, mutations):
    for where, cut, byte in mutations:
        at = int(where * len(line))
        line = line[:at] + bytes([byte]) + line[at + cut :]
    return line.replace(b"\n", b" ")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(RECORDS, st.lists(MUTATIONS, max_size=2)), min_size=1, max_size=10), STYLES
)
def test_any_damage_to_a_line(pairs, style):
    damaged = [mutate(dump(record, style), mutations) for record, mutations in pairs]
    intact = [dump(GOOD | {"event_id": str(i)}, style) for i in range(3)]
    assert_agrees([*intact, *(line.rstrip(b"\r") for line in damaged), *intact])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes(lines):
    assert_agrees([line.replace(b"\n", b" ").rstrip(b"\r") for line in lines])
