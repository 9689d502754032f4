"""Questions to a tiny store: every expected number is derived here."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from served_store import NOON, heads, served_store, write_serving

from models.errors import RequestError, StoreError
from models.network.numpy_heads import score_heads
from models.serve.recommend import history, recommend, worth
from models.serve.served_version import Served
from models.store.store import Store
from pipelines.cli.tables import show_answer


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return served_store(tmp_path / "store")


def ids(answer: Any) -> list[str]:
    return [item.item_id for item in answer.items]


def test_a_known_user_gets_the_nearest_unseen_items(store: Store) -> None:
    answer = recommend(store, "ann", 3)
    # u·v: a 1, new .9 + .01, d .5; c and b were seen, future is not out, gone is gone.
    assert ids(answer) == ["a", "new", "d"]
    assert [item.score for item in answer.items] == pytest.approx([1, 0.91, 0.5])
    assert [item.title for item in answer.items] == ["The a", None, "The d"]
    assert answer.source == "model"
    assert (answer.version, answer.newest_event_time) == (2, NOON)
    assert answer.user_event_time == NOON - timedelta(seconds=1)
    assert "version 2" in answer.why
    assert [item.rank for item in answer.items] == [1, 2, 3]


def test_seen_items_come_when_asked_for(store: Store) -> None:
    answer = recommend(store, "ann", 2, include_seen=True)
    assert ids(answer) == ["c", "a"]  # 2 and 1
    assert [item.seen for item in answer.items] == [True, False]


def test_heads_move_an_item_up(tmp_path: Path) -> None:
    # c's click is σ(60 − 30) = 1, so it is worth 1.5: ln 1.5 = .405 more. For bob d has .5, c 0.
    plain = recommend(served_store(tmp_path / "plain"), "bob", 3)
    moved = recommend(served_store(tmp_path / "moved", click_weight=60.0), "bob", 3)
    assert ids(plain) == ["b", "d", "new"]  # 1, .5, .1; a and c 0
    assert ids(moved) == ["b", "d", "c"]  # c: 0 + .405 beats .1
    c = moved.items[2]
    assert c.heads == {"click": 1.0, "like": 0.0, "purchase": 0.0, "dwell": 0.0, "rating": 3.0}
    logits = np.array([1, 0.5, 0.1, 0, 0])
    share = np.log(np.exp(logits).sum())
    assert c.value == pytest.approx(0 - share + np.log(1.5), abs=1e-5)
    assert moved.items[0].value == pytest.approx(1 - share, abs=1e-5)


def test_a_head_that_saw_no_example_says_nothing(tmp_path: Path) -> None:
    store = served_store(tmp_path / "store", click_weight=60.0)
    folder = store.serving_path(1)
    write_serving(folder, 60.0, examples=[0, 0, 0, 0, 7])
    found = recommend(store, "bob", 3)
    assert ids(found) == ["b", "d", "new"]  # as without c's click
    assert found.items[0].heads == {"rating": 3.0}


def test_because_names_the_nearest_recent_item(store: Store) -> None:
    # Of what ann liked only c = (2, 0) is left: cosine 1 with a; 0 with d = (0, 0).
    answer = recommend(store, "ann", 3)
    assert [item.because for item in answer.items] == ["c", "c", None]


def test_a_stranger_gets_recent_popularity(store: Store) -> None:
    answer = recommend(store, "nobody", 10)
    assert answer.source == "popularity"
    assert ids(answer) == ["a", "b", "c", "d"]  # by decayed counts; future and gone left out
    assert answer.items[0].score == pytest.approx(4 / 190)
    assert "does not know this user" in answer.why
    assert "6 fewer than asked for" in answer.why
    assert answer.segments == ()
    assert answer.user_event_time is None


def test_a_stranger_is_served_by_what_is_known_of_them(store: Store) -> None:
    # Germans: (50 + 50·1/190) / 100 for d, (0 + 50·4/190) / 100 for a.
    answer = recommend(store, "nobody", 2, attributes={"country": "de", "shoe": "43"})
    assert ids(answer) == ["d", "a"]
    assert answer.items[0].score == pytest.approx(0.5 + 0.5 / 190)
    assert answer.segments == ("user:country=de",)
    assert "among country=de" in answer.why
    # With the telephone as well, d and b are averaged: each half of the above.
    both = recommend(store, "nobody", 2, attributes={"country": "de"}, context={"device": "phone"})
    assert ids(both) == ["b", "d"]
    assert both.items[0].score == pytest.approx((0.5 + 0.5 * 3 / 190 + 0.5 * 3 / 190) / 2)


def test_the_catalogue_knows_a_stranger(store: Store) -> None:
    assert recommend(store, "eve", 1).segments == ("user:country=de",)
    assert recommend(store, "eve", 1, attributes={"country": "at"}).segments == ()


def test_a_user_without_a_vector_keeps_what_they_have_seen(store: Store) -> None:
    assert ids(recommend(store, "old", 2)) == ["b", "c"]
    assert ids(recommend(store, "old", 2, include_seen=True)) == ["a", "b"]


def test_a_store_without_catalogue_has_no_titles(tmp_path: Path) -> None:
    answer = recommend(served_store(tmp_path / "store", catalogue=False), "ann", 1)
    # Nobody says that `future` is not out: u·v = 9 + .9 + 9.
    assert ids(answer) == ["future"]
    assert answer.items[0].title is None


def test_history_is_newest_first(store: Store) -> None:
    rows = history(Served.load(store), "ann", 5)
    assert [(row["item_id"], row["type"], row["title"]) for row in rows] == [
        ("b", "dislike", "The b"),
        ("c", "click", "The c"),
    ]
    assert rows[0]["time"] == NOON - timedelta(seconds=1)
    assert history(Served.load(store), "nobody") == []


def test_answers_are_json(store: Store) -> None:
    answer = json.loads(json.dumps(recommend(store, "ann", 1).to_json()))
    assert answer["newest_event_time"] == "2025-01-06T12:00:00+00:00"
    assert answer["items"][0]["item_id"] == "a"
    assert answer["source"] == "model"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda root: recommend(root / "nothing", "ann"), StoreError, "there is no store"),
        (lambda root: recommend(root / "store", "ann", 0), RequestError, "ask for 1 to 1000"),
        (lambda root: recommend(root / "store", ""), RequestError, "give a user's id"),
    ],
)
def test_a_wrong_question_is_explained_in_a_line(
    store: Store, tmp_path: Path, call: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        call(tmp_path)
    assert "\n" not in str(raised.value)


def test_nothing_served_yet_is_explained(tmp_path: Path) -> None:
    store = Store(tmp_path / "empty")
    store.root.mkdir()
    store.create({})
    with pytest.raises(StoreError, match="no served version yet"):
        recommend(store, "ann")


def test_a_damaged_serving_folder_is_explained(store: Store) -> None:
    (store.serving_path(1) / "users.parquet").write_bytes(b"not parquet")
    with pytest.raises(StoreError, match="cannot be read"):
        recommend(store, "ann")


def test_a_damaged_catalogue_is_named(store: Store) -> None:
    store.catalogue_path("items").write_bytes(b"not parquet")
    with pytest.raises(StoreError, match=r"items\.parquet cannot be read"):
        recommend(store, "ann")


def test_worth_is_the_confidence_of_the_expected_row() -> None:
    # 1 + .5 click + like + 4 purchase + .5 ln(1 + dwell): DESIGN's confidence of one row.
    told = worth(np.array([[0.5, 0.25, 0.1, np.e - 1, 4.0]]))
    assert told.tolist() == pytest.approx([1 + 0.25 + 0.25 + 0.4 + 0.5])


def test_heads_of_the_fixture_do_what_the_tests_say() -> None:
    one = np.ones((1, 4), np.float32)
    scores = score_heads(heads(60.0), one, one, np.zeros((1, 1)), np.ones((1, 1)))
    assert scores[0].tolist() == pytest.approx([1, 0, 0, 0, 3], abs=1e-6)


def test_a_table_shows_what_matters(store: Store) -> None:
    answer = show_answer(recommend(store, "ann", 2))
    assert "The a" in answer
    assert "version 2" in answer


def test_a_version_pruned_while_it_is_read_is_looked_up_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.serve import served_version

    read, calls = served_version._folder, []

    def gone_at_first(folder: Path) -> dict[str, Any]:
        calls.append(folder)
        if len(calls) == 1:
            raise FileNotFoundError(2, "gone", str(folder))
        return read(folder)

    monkeypatch.setattr(served_version, "_folder", gone_at_first)
    assert recommend(store, "ann", 1).version == 2
    assert len(calls) == 2
