"""`rillet formats` and `rillet inspect`: from a person's file to a run."""

import json

import pytest

SHOP = (
    "when;customer;sku;action;price\n"
    "16.01.2025 08:00:00;7;a;viewed;€ 3.50\n"
    "16.01.2025 08:00:09;7;b;add to cart;€ 4\n"
    "16.01.2025 08:00:05;8;b;scrolled;\n"
)


def test_formats_are_listed_and_shown(rillet):
    listed = rillet("formats")
    assert listed.status == 0
    assert "movielens" in listed.stdout
    shown = rillet("formats", "show", "retailrocket")
    assert 'user_id = "visitorid"' in shown.stdout
    wrong = rillet("formats", "show", "retailrokcet")
    assert wrong.status == 2
    assert "did you mean retailrocket?" in wrong.stderr


def test_from_a_strangers_file_to_feature_rows(rillet, tmp_path):
    (tmp_path / "shop.csv").write_text(SHOP)
    found = json.loads(rillet("inspect", "shop.csv", "--json").stdout)
    assert found["container"] == "csv"
    assert found["layout"]["delimiter"] == ";"
    assert "CHECK: the zone" in found["mapping"]
    outcome = found["outcome"]
    assert (outcome["records"], outcome["events"]) == (3, 2)
    assert outcome["skipped"] == {"event_type": 1}
    assert outcome["first_time"] == "2025-01-16T08:00:00+00:00"
    (tmp_path / "job.toml").write_text(found["mapping"])
    done = rillet(
        "features", "--events", "shop.csv", "--config", "job.toml", "--out", "out", "--json"
    )
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["valid"] == 2


def test_a_known_format_is_named(rillet, tmp_path):
    (tmp_path / "ratings.csv").write_text(
        "userId,movieId,rating,timestamp\n1,2,3.5,1736150400\n1,3,4,1736150401\n"
    )
    told = rillet("inspect", "ratings.csv")
    assert "--format movielens" in told.stdout
    assert "2 events of 2 records" in told.stdout
    assert (
        json.loads(rillet("inspect", "ratings.csv", "--json").stdout)["formats"][0] == "movielens"
    )


def test_nested_json_is_exploded_in_the_proposal(rillet, tmp_path):
    order = {"user": "u", "at": "2025-01-06T08:00:00Z", "lines": [{"sku": "a"}, {"sku": "b"}]}
    (tmp_path / "orders.txt").write_text(json.dumps([order]))
    found = json.loads(rillet("inspect", "orders.txt", "--json").stdout)
    assert 'explode = "lines"' in found["mapping"]
    assert found["outcome"]["events"] == 2
    assert "event_type" in found["unknown"]


def test_names_of_objects_and_words_of_types_are_looked_at(rillet, tmp_path):
    record = {"user": {"id": 7}, "did": "addtocart", "sku": "a", "ts": 1736150400}
    (tmp_path / "log.jsonl").write_text(json.dumps(record) + "\n")
    mapping = json.loads(rillet("inspect", "log.jsonl", "--json").stdout)["mapping"]
    assert 'user_id = "user.id"' in mapping
    assert 'event_type = { column = "did", map = { addtocart = "cart" } }' in mapping
    assert 'unit = "s"' in mapping


def test_our_own_form_needs_no_mapping(rillet, tmp_path):
    event = {"event_id": "1", "user_id": "u", "item_id": "i", "event_type": "view"}
    line = json.dumps({**event, "event_time": "2025-01-06T08:00:00Z"})
    (tmp_path / "events.jsonl").write_text(line + "\n")
    assert "reads it as it is" in rillet("inspect", "events.jsonl").stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--format", "movilens"], "did you mean movielens?"),
        (["--format", "otto"], "does not fit format otto"),
        (["--format", "otto", "--config", "job.toml"], "leave one out"),
        ([], "rillet inspect"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(rillet, tmp_path, args, words):
    (tmp_path / "shop.csv").write_text(SHOP)
    (tmp_path / "job.toml").write_text('[source]\nuser_id = "customer"\n')
    done = rillet("features", "--events", "shop.csv", "--out", "out", *args)
    assert done.status == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_stream_takes_no_mapping(rillet):
    done = rillet(
        "run", "--events", "kafka://user:secret@h:1/t", "--store", "s", "--format", "otto"
    )
    assert done.status == 2
    assert "are for files that end" in done.stderr
    assert "secret" not in done.stderr
