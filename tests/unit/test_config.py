import pytest

from pipelines.config import WindowSpec, load_job, parse_duration
from pipelines.errors import RequestError


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("0", 0),
        (0, 0),
        ("250ms", 250),
        ("60s", 60_000),
        ("1h30m", 5_400_000),
        ("90d", 7_776_000_000),
    ],
)
def test_duration(text, ms):
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "text", ["", "60", "s", "-5s", "5 m", "1h30", "0.3ms", "99999d", True, None]
)
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match=r"(duration|range)"):
        parse_duration(text)


def test_windows():
    assert WindowSpec.parse("fixed:5m").overlap == 1
    sliding = WindowSpec.parse("sliding:10m/4m")
    assert (sliding.size_ms, sliding.period_ms, sliding.overlap) == (600_000, 240_000, 3)
    assert WindowSpec.parse(str(sliding)) == sliding
    assert WindowSpec.parse("session:30m").kind == "session"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "60s",
        "fixed:",
        "fixed:0s",
        "fixed:1m/1m",
        "sliding:10m",
        "sliding:1m/10m",
        "sliding:10d/1s",
        "tumbling:1m",
        60,
    ],
)
def test_what_is_no_window(text):
    with pytest.raises(RequestError, match=r"features\.window"):
        load_job(None, {"features": {"window": text}})


def test_job_file_under_the_command_line(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text('[features]\nwindow = "fixed:10s"\nhistory = 5\n[batch]\nmin_rows = 7\n')
    job = load_job(file, {"features": {"history": 3, "retention": None}})
    assert job.features.window.size_ms == 10_000
    assert (job.features.history, job.batch.min_rows) == (3, 7)
    assert job.features.retention == 90 * 86_400_000


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[features]\nhistory = -1", ["features.history", "-1", "greater than or equal to 0"]),
        ("[feature]\nhistory = 1", ["feature", "no such setting"]),
        ("[batch]\nmin_rows = 10\nmax_rows = 5", ["batch", "max_rows 5", "min_rows 10"]),
        ("[features\n", ["not TOML", "line 1"]),
        ('[features]\nsession_gap = "soon"', ["features.session_gap", "'soon'"]),
        ("[features.confidence]\nview = nan", ["features.confidence.view", "finite"]),
        ("[features]\nwindow = 60", ["features.window", "'60'", "write fixed:60s"]),
        ("model = 3", ["model: it is a section", "write [model]", "got 3"]),
        ("[model]\ndrift = 3", ["write [model.drift]", "got 3"]),
        ("[model]\noverlap = 5", ["model.overlap", "[features] window", "got 5", "leave it out"]),
        (
            f"[model]\ntext_model_sha256 = '{'0' * 64}'",
            ["model.text_model_sha256", "of no text_model", "leave it out"],
        ),
    ],
)
def test_a_bad_job_file_is_one_line_with_value_and_cure(tmp_path, toml, words):
    file = tmp_path / "job.toml"
    file.write_text(toml)
    with pytest.raises(RequestError) as caught:
        load_job(file)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_option_over_what_is_no_section(tmp_path):
    file = tmp_path / "job.toml"
    file.write_text("features = 3\n")
    with pytest.raises(RequestError, match=r"write \[features\]"):
        load_job(file, {"features": {"history": 3}})


def test_a_missing_job_file(tmp_path):
    with pytest.raises(RequestError, match=r"nowhere\.toml cannot be read"):
        load_job(tmp_path / "nowhere.toml")
