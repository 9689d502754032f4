import pytest

from pipelines.errors import RequestError
from pipelines.passthrough_beam_args import check_beam_args, is_local, pipeline_options


def test_beams_own_options_pass():
    args = ["--runner=DirectRunner", "--direct_num_workers", "2", "--streaming"]
    assert check_beam_args(args) == args


def test_a_stray_option_is_refused_with_the_nearest_name():
    with pytest.raises(RequestError, match=r"--windw: did you mean --window\?"):
        check_beam_args(["--windw=1s"], ["--window"])


def test_a_stray_word_is_refused_on_every_runner():
    for runner in ("DirectRunner", "FlinkRunner"):
        with pytest.raises(RequestError, match=r"events\.parquet"):
            check_beam_args([f"--runner={runner}", "events.parquet"])


def test_a_cluster_brings_options_that_python_does_not_know():
    args = ["--runner=PortableRunner", "--job_endpoint=localhost:1", "--max_bundle_time_mills=50"]
    assert check_beam_args(args) == args


def test_the_local_runner_is_the_one_in_this_process():
    assert is_local([])
    assert is_local(["--runner", "directrunner"])
    assert not is_local(["--runner=FlinkRunner"])
    options = pipeline_options(["--runner=DirectRunner"]).get_all_options()
    assert options["runner"].endswith("FnApiRunner")


def test_defaults_yield_to_what_is_given():
    options = pipeline_options(["--direct_num_workers=3"], direct_num_workers=1, job_name="x")
    assert options.get_all_options()["direct_num_workers"] == 3
    assert options.get_all_options()["job_name"] == "x"


def test_a_runner_that_is_none_is_a_wrong_request():
    with pytest.raises(RequestError, match=r"--runner=Nope cannot be used: .*FlinkRunner"):
        pipeline_options(["--runner=Nope"])
    assert pipeline_options(["--runner=PortableRunner"]).get_all_options()["runner"]
