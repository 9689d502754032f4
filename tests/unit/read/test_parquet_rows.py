"""Parquet rows: every type a column may have, and what becomes of bad values."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.arrow.ipc import without_dictionaries
from pipelines.read.parse.event_rules import Event, Fault, check
from pipelines.read.parse.parquet_rows import column_problem, parse_rows, rows_schema
from pipelines.schema import CONTEXT, DEAD_LETTERS, EVENTS

NOW = 1_750_000_000_000
MOMENT = 1_749_988_800_123  # 2025-06-15T12:00:00.123Z


def rows(count=3, **changes):
    columns = {
        "event_id": pa.array([f"e{i}" for i in range(count)]),
        "user_id": pa.array(["u1"] * count),
        "item_id": pa.array(["i1"] * count),
        "event_type": pa.array(["view"] * count),
        "event_time": pa.array([MOMENT] * count, pa.timestamp("ms", "UTC")),
        **changes,
    }
    columns = {name: column for name, column in columns.items() if column is not None}
    batch = pa.RecordBatch.from_pydict(columns)
    schema = rows_schema(batch.schema, source="f", position=100, extra=2)
    return batch.replace_schema_metadata(schema.metadata)


def parsed_times(column):
    parsed = parse_rows(rows(len(column), event_time=column), NOW)
    return parsed.valid.column("event_time").cast(pa.int64()).to_pylist()


def test_the_columns_that_a_file_may_lack_are_null():
    parsed = parse_rows(rows(), NOW)
    assert parsed.read == parsed.valid.num_rows == 3
    assert parsed.extra_fields == 6
    assert without_dictionaries(parsed.valid).schema.equals(EVENTS)
    assert parsed.valid.column("context").null_count == 3


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.timestamp("s", "UTC"), MOMENT // 1000),
        (pa.timestamp("ms", "UTC"), MOMENT),
        (pa.timestamp("us", "UTC"), MOMENT * 1000 + 999),
        (pa.timestamp("ns", "UTC"), MOMENT * 1_000_000 + 999_999),
        (pa.timestamp("us"), MOMENT * 1000),
        (pa.timestamp("ms", "Europe/Berlin"), MOMENT),
        (pa.int64(), MOMENT),
        (pa.uint64(), MOMENT),
        (pa.string(), "2025-06-15T14:00:00.123+02:00"),
        (pa.large_string(), "2025-06-15T12:00:00.1239Z"),
        (pa.dictionary(pa.int8(), pa.string()), "2025-06-15T12:00:00.123Z"),
    ],
    ids=str,
)
def test_kinds_of_time(kind, value):
    expected = MOMENT if kind != pa.timestamp("s", "UTC") else MOMENT // 1000 * 1000
    assert parsed_times(pa.array([value] * 3, kind)) == [expected] * 3


def test_times_before_1970_are_floored_too():
    column = pa.array([-1], pa.timestamp("us"))
    dead = parse_rows(rows(1, event_time=column), NOW).dead
    assert json.loads(dead.column("payload")[0].as_py())["event_time"] == -1


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([None] * 3, pa.timestamp("us")), "missing_field"),
        (pa.array([None] * 3, pa.null()), "missing_field"),
        (pa.array([631_151_999] * 3, pa.timestamp("s")), "bad_time"),
        (pa.array([2**62] * 3, pa.timestamp("s")), "bad_time"),
        (pa.array([-(2**62)] * 3, pa.timestamp("s")), "bad_time"),
        (pa.array([2**62] * 3, pa.timestamp("us")), "bad_time"),
        (pa.array([2**63 + 5] * 3, pa.uint64()), "bad_time"),
        (pa.array([NOW + 86_400_001] * 3, pa.int64()), "bad_time"),
        (pa.array(["2025-06-15T12:00:00"] * 3), "bad_time"),
    ],
    ids=str,
)
def test_bad_times(column, reason):
    assert_dead(rows(event_time=column), reason)


def assert_dead(batch, reason):
    parsed = parse_rows(batch, NOW)
    assert parsed.valid.num_rows == 0
    assert parsed.dead.schema == DEAD_LETTERS
    assert parsed.dead.column("reason").to_pylist() == [reason] * batch.num_rows
    positions = parsed.dead.column("position").to_pylist()
    assert positions == list(range(100, 100 + batch.num_rows))
    for payload in parsed.dead.column("payload").to_pylist():
        assert isinstance(json.loads(payload), dict)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int8(), pa.string()),
        pa.dictionary(pa.int64(), pa.large_string()),
    ],
    ids=str,
)
def test_kinds_of_text(kind):
    names = ("event_id", "user_id", "item_id", "event_type", "session_id", "platform")
    batch = rows(2, **{name: pa.array(["view", "click"], kind) for name in names})
    parsed = parse_rows(batch, NOW)
    for name in names:
        assert sorted(parsed.valid.column(name).to_pylist()) == ["click", "view"]
    assert without_dictionaries(parsed.valid).schema.equals(EVENTS)


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("user_id", ["", "x" * 257, "a\0b"], "bad_value"),
        ("item_id", ["", "é" * 129, "\0"], "bad_value"),
        ("event_id", ["", "", ""], "bad_value"),
        ("event_type", ["seen", "", "VIEW"], "bad_value"),
        ("user_id", [None, None, None], "missing_field"),
    ],
)
def test_bad_texts(name, values, reason, coded):
    column = pa.array(values, pa.string())
    assert_dead(rows(**{name: column.dictionary_encode() if coded else column}), reason)


@pytest.mark.parametrize("coded", [False, True])
def test_text_that_is_not_utf8(coded):
    column = pa.array([b"\xff", b"u", b"\xed\xa0\x80"], pa.binary()).view(pa.string())
    parsed = parse_rows(rows(user_id=column.dictionary_encode() if coded else column), NOW)
    assert parsed.valid.column("user_id").to_pylist() == ["u"]
    assert parsed.dead.column("reason").to_pylist() == ["bad_type", "bad_type"]
    assert parsed.dead.column("position").to_pylist() == [100, 102]


@pytest.mark.parametrize(
    "kind",
    [pa.int8(), pa.uint16(), pa.int64(), pa.uint64(), pa.float32(), pa.float64(),
     pa.decimal128(10, 2), pa.dictionary(pa.int8(), pa.int64())],
    ids=str,
)  # fmt: skip
def test_kinds_of_dwell(kind):
    exact = Decimal("7.00") if pa.types.is_decimal(kind) else 7
    parsed = parse_rows(rows(2, dwell_ms=pa.array([exact, None], kind)), NOW)
    assert parsed.valid.column("dwell_ms").to_pylist() == [7, None]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array([-2, 86_400_001, 2**62]), "bad_value"),
        (pa.array([-2.0, 86_400_001.0, 1e300]), "bad_value"),
        (pa.array([float("inf"), -float("inf")]), "bad_value"),
        (pa.array([1.5, 0.1, 86_400_000.5]), "bad_type"),
        (pa.array([2**64 - 1], pa.uint64()), "bad_value"),
        (pa.array([Decimal("1.50")], pa.decimal128(5, 2)), "bad_type"),
    ],
    ids=str,
)
def test_bad_dwell(column, reason):
    assert_dead(rows(len(column), dwell_ms=column), reason)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([5, None], pa.int32()),
        pa.array([5, None], pa.float32()),
        pa.array([Decimal(5), None], pa.decimal128(5, 1)),
        pa.array([None, None], pa.null()),
    ],
    ids=str,
)
def test_kinds_of_value(column):
    parsed = parse_rows(rows(2, value=column), NOW)
    expected = [None if v is None else 5.0 for v in column.to_pylist()]
    assert parsed.valid.column("value").to_pylist() == expected


def test_values_that_are_not_finite():
    assert_dead(rows(2, value=pa.array([float("inf"), -float("inf")])), "bad_value")


@pytest.mark.parametrize(
    "dwell",
    [
        pa.array([-1, 7, None]),
        pa.array([-1.0, 7.0, None]),
        pa.array([float("nan"), 7.0, None]),
        pa.array([-1, 7, None]).dictionary_encode(),
    ],
    ids=str,
)
@pytest.mark.parametrize("text", [pa.string(), pa.dictionary(pa.int8(), pa.string())], ids=str)
def test_values_that_say_that_they_are_none_are_null_and_counted(dwell, text):
    values = pa.array([float("nan"), -1.0, None])
    sessions, platforms = pa.array(["", "s", None]), pa.array(["web", None, "(not set)"])
    batch = rows(
        dwell_ms=dwell,
        value=values,
        session_id=sessions.cast(text),
        platform=platforms.cast(text),
    )
    parsed = parse_rows(batch, NOW)
    valid = without_dictionaries(parsed.valid)
    assert valid.column("dwell_ms").to_pylist() == [None, 7, None]
    assert valid.column("value").to_pylist() == [None, -1.0, None]
    assert valid.column("session_id").to_pylist() == [None, "s", None]
    assert valid.column("platform").to_pylist() == ["web", None, None]
    assert parsed.unknown_values == parsed.counts["unknown_values"] == 4


def test_ids_have_to_be_there():
    parsed = parse_rows(rows(1, user_id=pa.array([""]), dwell_ms=pa.array([-1])), NOW)
    assert (parsed.dead.num_rows, parsed.unknown_values) == (1, 0)
    assert "unknown_values" not in parsed.counts


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[("a", "x")], None, []], CONTEXT),
        pa.array([[("a", "x"), ("b", None)], None, []], CONTEXT),
        pa.array([[("a", "x")], None, []], pa.map_(pa.large_string(), pa.large_string())),
        pa.array([{"a": "x", "b": None}, None, {"a": None, "b": None}]),
    ],
    ids=str,
)
def test_kinds_of_context(column):
    parsed = parse_rows(rows(context=column), NOW)
    assert parsed.valid.column("context").to_pylist() == [[("a", "x")], None, []]


def test_a_context_with_too_many_entries():
    entries = [[(str(i), "x") for i in range(33)]] * 3
    assert_dead(rows(context=pa.array(entries, CONTEXT)), "bad_value")


@pytest.mark.parametrize(
    ("name", "kind", "fine"),
    [
        ("user_id", pa.string(), True),
        ("user_id", pa.null(), True),
        ("user_id", pa.int64(), False),
        ("user_id", pa.list_(pa.string()), False),
        ("user_id", pa.binary(), False),
        ("event_type", pa.dictionary(pa.int8(), pa.int64()), False),
        ("event_time", pa.float64(), False),
        ("event_time", pa.date32(), False),
        ("event_time", pa.int32(), False),
        ("event_time", pa.bool_(), False),
        ("dwell_ms", pa.string(), False),
        ("dwell_ms", pa.bool_(), False),
        ("value", pa.string(), False),
        ("context", pa.string(), False),
        ("context", pa.map_(pa.string(), pa.int64()), False),
        ("context", pa.struct([("a", pa.int64())]), False),
    ],
)
def test_impossible_types(name, kind, fine):
    problem = column_problem(name, kind)
    assert (problem is None) == fine
    if not fine:
        assert name in problem
        assert str(kind.value_type if pa.types.is_dictionary(kind) else kind) in problem
        with pytest.raises(ValueError, match=name):
            parse_rows(rows(0, **{name: pa.array([], kind)}), NOW)


def test_good_and_bad_rows_of_a_slice():
    batch = rows(6, user_id=pa.array(["a", "", "b", None, "c", "d"])).slice(1, 4)
    parsed = parse_rows(batch, NOW)
    assert sorted(parsed.valid.column("user_id").to_pylist()) == ["b", "c"]
    assert parsed.dead.column("reason").to_pylist() == ["bad_value", "missing_field"]


def test_words_that_no_row_uses_are_dropped():
    words = pa.array([f"u{i}" for i in range(1000)])
    codes = pa.array([7, 999, 7], pa.int32())
    coded = pa.DictionaryArray.from_arrays(codes, words)
    gaps = pa.DictionaryArray.from_arrays(pa.array([None, 999, 7], pa.int32()), words)
    valid = parse_rows(rows(user_id=coded, platform=gaps), NOW).valid
    assert valid.column("user_id").dictionary.to_pylist() == ["u7", "u999"]
    assert valid.column("user_id").to_pylist() == ["u7", "u999", "u7"]
    assert valid.column("platform").to_pylist() == [None, "u999", "u7"]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["u", "", None, "\0", "x" * 257]),
            st.sampled_from(["view", "rating", "x", None]),
            st.sampled_from([MOMENT, None, 0, 2**60, -(2**60)]),
            st.none() | st.integers(-5, 10**8),
            st.none() | st.floats(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_columns_and_records_agree(values):
    users, types, times, dwells, numbers = zip(*values, strict=True)
    parsed = parse_rows(
        rows(
            len(values),
            user_id=pa.array(users, pa.string()),
            event_type=pa.array(types, pa.string()),
            event_time=pa.array(times, pa.timestamp("ms")),
            dwell_ms=pa.array(dwells, pa.int64()),
            value=pa.array(numbers, pa.float64()),
        ),
        NOW,
    )
    names = ("event_id", "user_id", "item_id", "event_type", "event_time", "dwell_ms", "value")
    records = [
        dict(zip(names, (f"e{i}", u, "i1", t, m, d, v), strict=True))
        for i, (u, t, m, d, v) in enumerate(values)
    ]
    results = [check(record, NOW) for record in records]
    assert parsed.valid.column("event_id").to_pylist() == [
        r.event_id for r in results if isinstance(r, Event)
    ]
    assert parsed.dead.column("reason").to_pylist() == [
        r.reason for r in results if isinstance(r, Fault)
    ]


def test_real_times_survive():
    moments = np.arange("1990-01-01", "2025-06-01", 11_111, dtype="datetime64[m]")
    texts = [str(m) + ":07Z" for m in moments]
    expected = [int(m) * 60_000 + 7_000 for m in moments.astype(np.int64)]
    assert parsed_times(pa.array(texts)) == expected
    assert datetime.fromtimestamp(expected[0] / 1000, UTC).year == 1990
