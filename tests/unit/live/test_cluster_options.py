"""Beam's options of a live job: what is added, and that what was said stays."""

from pathlib import Path

import pytest

from pipelines.errors import RequestError
from pipelines.live.cluster_options import argument_value, flink_to_monitor, live_args
from pipelines.read.kafka.source_spec import KafkaSource

ENDLESS = KafkaSource("h:1", "t")
ENDING = KafkaSource("h:1", "t", until="now")
ELSEWHERE = ["--runner=PortableRunner", "--job_endpoint=10.0.0.1:8099"]


def test_the_default_runner_takes_no_stream() -> None:
    with pytest.raises(RequestError, match=r"add \?until=now.*or run it on Flink"):
        live_args([], ENDLESS)


def test_a_flink_that_is_not_up_is_named_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RILLET_LOCAL", str(tmp_path))
    with pytest.raises(RequestError, match=r"Flink is not up in .*rillet local up"):
        live_args(["--runner=FlinkRunner"], ENDLESS)


def test_what_a_stream_needs_is_added_and_what_was_said_stays() -> None:
    args = live_args([*ELSEWHERE, "--checkpointing_interval=9000", "--job_name", "mine"], ENDLESS)
    assert args.count("--streaming") == 1
    assert argument_value("checkpointing_interval", args) == "9000"
    assert argument_value("job_name", args) == "mine"
    assert argument_value("max_bundle_time_mills", args) == "50"
    assert not any(arg.startswith("--environment_type") for arg in args)  # no workers from here


def test_jobs_have_names_to_be_found_by() -> None:
    first, second = (argument_value("job_name", live_args(ELSEWHERE, ENDLESS)) for _ in range(2))
    assert first.startswith("rillet-")
    assert first != second


def test_only_a_stream_that_ends_lets_its_sources_go() -> None:
    name = "shutdown_sources_after_idle_ms"  # without it a finished job stays; with it, an endless
    assert argument_value(name, live_args(ELSEWHERE, ENDING)) == "2000"  # one has no checkpoints
    assert argument_value(name, live_args(ELSEWHERE, ENDLESS)) == ""


@pytest.mark.parametrize(
    "said", [["--job_endpoint=localhost:8099"], ["--job_endpoint", "127.0.0.1:1"]]
)
def test_workers_of_a_job_server_here_run_here(said: list[str]) -> None:
    args = live_args(["--runner=PortableRunner", *said], ENDLESS)
    assert argument_value("environment_type", args) == "LOOPBACK"


@pytest.mark.parametrize(
    ("args", "master"),
    [
        (["--flink_master=10.0.0.1:8081"], "10.0.0.1:8081"),
        (["--flink_master=[local]"], ""),
        (ELSEWHERE, ""),
        ([], ""),
    ],
)
def test_where_a_job_can_be_watched(
    args: list[str], master: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RILLET_LOCAL", str(tmp_path))
    assert flink_to_monitor(args) == master
