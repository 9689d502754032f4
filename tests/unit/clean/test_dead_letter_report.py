"""Letters of a folder: counted, shown with their place, written out to be mended."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.clean.dead_letter_report import export, letters_of, report
from pipelines.errors import RequestError
from pipelines.read.parse.event_rules import Fault
from pipelines.read.parse.parsed import dead_letters


def letters(*rows, source="log"):
    """(reason, position, payload) → DEAD_LETTERS."""
    reasons, positions, payloads = zip(*rows, strict=True) if rows else ((), (), ())
    faults = [Fault(reason, f"detail of {reason}") for reason in reasons]
    return dead_letters(payloads, faults, positions, source=source, now_ms=0)


def folder(path, *batches):
    (path / "meta.json").write_text("{}")
    (path / "dead_letters").mkdir()
    for number, batch in enumerate(batches):
        pq.write_table(pa.Table.from_batches([batch]), path / "dead_letters" / f"{number}.parquet")
    return path


@given(st.lists(st.sampled_from(["bad_json", "bad_time", "too_late"])), st.integers(0, 3))
def test_every_letter_is_counted_once_and_examples_are_few(reasons, examples):
    rows = [(reason, n, b"x") for n, reason in enumerate(reasons)]
    halves = [letters(*rows[::2]), letters(*rows[1::2], source="other")]
    found = report(halves, examples)
    assert found.letters == len(reasons) == sum(found.sources.values())
    assert found.reasons == {reason: reasons.count(reason) for reason in set(reasons)}
    assert list(found.reasons.values()) == sorted(found.reasons.values(), reverse=True)
    shown = [one.reason for one in found.examples]
    assert all(shown.count(r) == min(examples, reasons.count(r)) for r in set(reasons))


def test_an_example_names_the_line_of_its_file(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_bytes(b'{"a":1}\nnonsense\r\n{}\n')
    batch = letters(("bad_json", 8, b"nonsense"), ("bad_type", 18, b"{}"), source=str(log))
    rows = letters(("bad_type", 3, b"{}"), source="some.parquet")
    found = report(letters_of(folder(tmp_path, batch, rows)), 5)
    assert [one.where for one in found.examples] == [
        f"{log}, line 3",
        "some.parquet, row 3",
        f"{log}, line 2",
    ]
    assert found.examples[-1].told() == {
        "reason": "bad_json",
        "detail": "detail of bad_json",
        "source": str(log),
        "position": 8,
        "line": 2,
        "payload": "nonsense",
    }


def test_an_export_has_one_record_a_line(tmp_path):
    spread = b'{\n "user_id": "\xc3\xbc", "n": 12345678901234567890123, "x": 1.50\n}'
    batch = letters(
        ("bad_type", 0, spread), ("bad_json", 9, b"a\r\nb"), ("bad_json", 20, b"\xff\x01")
    )
    done = export([batch], tmp_path / "mend.jsonl")
    assert (done.records, done.cut) == (3, 0)
    first, *others = (tmp_path / "mend.jsonl").read_bytes().split(b"\n")
    assert others == [b"a b", b"\xff\x01", b""]
    assert b"1.50" in first  # as it was written
    assert json.loads(first) == json.loads(spread)


def test_an_export_tells_of_records_that_are_not_whole(tmp_path):
    batch = letters(("too_large", 0, b"[" * (1 << 20)), ("bad_json", 1, b"["))
    assert export([batch], tmp_path / "mend.jsonl").cut == 1


def test_an_export_leaves_out_what_is_no_text(tmp_path):
    batch = letters(("bad_wire", 0, b"\x00\x00\x00\x00\x07abc"), ("bad_wire", 1, b"{}"))
    done = export([batch], tmp_path / "mend.jsonl")
    assert (done.records, done.binary) == (1, 1)
    assert (tmp_path / "mend.jsonl").read_bytes() == b"{}\n"


def test_an_export_to_a_folder_is_refused(tmp_path):
    with pytest.raises(RequestError, match="is a folder; name a file"):
        export([], tmp_path)


def test_only_letters_of_a_reason(tmp_path):
    place = folder(tmp_path, letters(("bad_json", 0, b"a"), ("bad_time", 1, b"b")))
    assert report(letters_of(place, "bad_time"), 3).reasons == {"bad_time": 1}
    assert report(letters_of(place, "bad_type"), 3).reasons == {}


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(RequestError, match="neither a store nor a folder"):
        letters_of(tmp_path)


def test_a_file_that_holds_no_letters_is_named(tmp_path):
    place = folder(tmp_path)
    (place / "dead_letters" / "x.parquet").write_bytes(b"no")
    with pytest.raises(RequestError, match=r"x\.parquet is no file of dead letters"):
        list(letters_of(place))
