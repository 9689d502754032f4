"""What a Kafka URI may say."""

from pathlib import Path

import pytest

from pipelines.errors import SourceError
from pipelines.read.kafka.source_spec import KafkaSource
from pipelines.read.partition_progress import Partition

BOUNDS = {0: (10, 50), 1: (0, 7), 2: (3, 3)}


def test_the_plain_form() -> None:
    source = KafkaSource.parse("kafka://one:9092,two:9092/clicks")
    assert (source.brokers, source.topic) == ("one:9092,two:9092", "clicks")
    assert source.endless
    settings = source.consumer_settings()
    assert settings["bootstrap.servers"] == "one:9092,two:9092"
    assert settings["enable.auto.commit"] is False


def test_every_option_has_its_unit() -> None:
    source = KafkaSource.parse(
        "kafka://h:1/t?disorder=2s&idle=1m&readers=3&poll=200ms&batch=500&discover=5s&until=now"
    )
    assert (source.disorder_ms, source.idle_ms, source.readers) == (2_000, 60_000, 3)
    assert (source.poll_s, source.batch, source.discover_s) == (0.2, 500, 5.0)
    assert not source.endless


def test_settings_with_a_dot_go_to_the_client_and_a_file_keeps_secrets(tmp_path: Path) -> None:
    secrets = tmp_path / "client.properties"
    secrets.write_text("# ours\nsasl.username = me\nsasl.password=a=b\n\nssl.ca.location=/x\n")
    source = KafkaSource.parse(
        f"kafka://h:1/t?config={secrets}&security.protocol=SASL_SSL&ssl.ca.location=/y"
    )
    settings = source.consumer_settings()
    assert settings["sasl.username"] == "me"
    assert settings["sasl.password"] == "a=b"
    assert settings["ssl.ca.location"] == "/y"
    assert settings["security.protocol"] == "SASL_SSL"


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [
        ("kafka://host:9092", "no Kafka source; write kafka://host:port/topic"),
        ("kafka:///topic", "no Kafka source"),
        ("kafka://h:1/a/b", "no Kafka source"),
        ("kafka://me:secret@h:1/t", "holds a password"),
        ("kafka://h:1/t?strat=latest", "no option strat: did you mean start"),
        ("kafka://h:1/t?idle=soon", "idle=soon: 'soon' is not a duration"),
        ("kafka://h:1/t?readers=0", "readers=0: a whole number from 1"),
        ("kafka://h:1/t?until=tomorrow", "only until=now is known"),
        ("kafka://h:1/t?start=1700000000", "start=1700000000000 is meant"),
        ("kafka://u:pa@ss/word@h:1/t", "the address holds a password"),
        ("kafka://u:pa/ss@h:1/t", "the address holds a password"),
        ("kafka://h:1/t?start=yesterday", "start=yesterday is no place in a topic"),
        ("kafka://h:1/t?config=/no/such/file", "cannot be read.*check config="),
    ],
)
def test_what_is_wrong_is_said_with_the_cure(uri: str, complaint: str) -> None:
    with pytest.raises(SourceError, match=complaint) as caught:
        KafkaSource.parse(uri)
    assert "secret" not in str(caught.value)


def test_a_broken_settings_file_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a.b=1\nnonsense\n")
    with pytest.raises(SourceError, match="line 2 is not name=value"):
        KafkaSource.parse(f"kafka://h:1/t?config={tmp_path / 'c'}")


def parts(uri: str, starts: dict[int, int] | None = None) -> dict[int, Partition]:
    return KafkaSource.parse(f"kafka://h:1/t?{uri}").place(BOUNDS, starts or {})


def test_where_reading_starts() -> None:
    assert {n: p.next for n, p in parts("start=earliest").items()} == {0: 10, 1: 0, 2: 3}
    assert {n: p.next for n, p in parts("start=latest").items()} == {0: 50, 1: 7, 2: 3}
    # Deleted offsets are not waited for; partitions that are not named start at the earliest.
    assert {n: p.next for n, p in parts("start=0:2,1:4").items()} == {0: 10, 1: 4, 2: 3}
    # −1: no record is as young as that.
    found = parts("start=2026-01-01T00:00:00Z", {0: 33, 1: -1, 2: -1})
    assert {n: p.next for n, p in found.items()} == {0: 33, 1: 7, 2: 3}


def test_an_instant_may_be_written_in_two_ways() -> None:
    as_text = KafkaSource.parse("kafka://h:1/t?start=1970-01-01T00:00:01.500Z")
    assert as_text.instant_ms == KafkaSource.parse("kafka://h:1/t?start=1500").instant_ms == 1500
    assert KafkaSource.parse("kafka://h:1/t?start=0:5").instant_ms is None


def test_where_reading_ends() -> None:
    assert {n: p.end for n, p in parts("").items()} == {0: None, 1: None, 2: None}
    assert {n: p.end for n, p in parts("until=now").items()} == {0: 50, 1: 7, 2: 3}
    ahead = parts("start=1:100&until=now")
    assert ahead[1] == Partition(100, 100)
    assert ahead[1].done


@pytest.mark.parametrize("uri", ["kafka://u:s3@cret/x@h:1/t", "kafka://u:1/s3cret@h:1/t"])
def test_nothing_of_a_password_is_told(uri: str) -> None:
    with pytest.raises(SourceError) as told:
        KafkaSource.parse(uri)
    assert "cret" not in str(told.value)


def test_a_file_of_settings_may_have_an_at_in_its_name(tmp_path) -> None:
    (tmp_path / "me@home").write_text("sasl.password=x\n")
    source = KafkaSource.parse(f"kafka://h:1/t?config={tmp_path}/me@home")
    assert source.settings == {"sasl.password": "x"}
