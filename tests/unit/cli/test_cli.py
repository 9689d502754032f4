"""The command's manners: help that teaches, one line for a mistake, exit status 2."""

import subprocess
import sys

import pytest

from pipelines.cli.common import echo_json


def test_no_command_shows_help(rillet):
    done = rillet("--help")
    assert done.status == 0
    assert "A first tour" in done.stdout


@pytest.mark.parametrize("command", ["features", "run", "simulate", "local"])
def test_help_of_a_command(rillet, command):
    done = rillet(command, "--help")
    assert done.status == 0
    assert "Usage: rillet" in done.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["features", "--events", "x", "--out", "o", "--windw", "fixed:1s"],
            ["--windw", "--window"],
        ),
        (["features", "--events", "x", "--out", "o", "--window", "1s"], ["'1s'", "fixed:60s"]),
        (["features", "--events", "x"], ["--out"]),
        (["run", "--events", "x"], ["--store"]),
        (["fly"], ["fly"]),
        (["retrain", "--store", "x", "--tolerance", "nan"], ["--tolerance", "not a finite number"]),
        (["simulate", "--out", "o", "--late", "nan"], ["--late", "not a finite number"]),
        (["local", "up", "--timeout", "inf"], ["--timeout", "not a finite number"]),
        (["features", "--events", "nowhere.parquet", "--out", "o"], ["nowhere.parquet"]),
        (["run", "--events", "nowhere.parquet", "--store", "s"], ["nowhere.parquet"]),
        (["run", "--events", "x", "--store", "s", "--config", "no.toml"], ["no.toml"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(rillet, tmp_path, args, words):
    done = rillet(*args)
    assert done.status == 2
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rillet: ")
    for word in words:
        assert word in lines[0]
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_what_json_does_not_know_is_not_printed():
    with pytest.raises(ValueError, match="not JSON compliant"):
        echo_json({"value": float("nan")})


def test_beam_options_pass(rillet):
    done = rillet(
        "features",
        "--events",
        "nowhere.parquet",
        "--out",
        "o",
        "--direct_num_workers=2",
        "--runner=DirectRunner",
    )
    assert "nowhere.parquet" in done.stderr


def test_beam_is_imported_without_what_is_not_used():
    code = (
        "import sys; from pipelines.cli.common import import_beam; import_beam();"
        "import pipelines.passthrough_beam_args, pipelines.bounded.features_job;"
        "print('apache_beam' in sys.modules, 'pymongo' in sys.modules);"
        "import pymongo; print(pymongo.__name__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split() == ["True", "False", "pymongo"]
