"""Questions to a tiny store, written by hand: every expected number is derived here.

Vectors have a dim of 2, no bias and one stream feature: [v₀, v₁, b, F] of an
item and [u₀, u₁, 1, w] of a user, so that scores can be added up in the head.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import RequestError, StoreError
from models.network.head_scores import score_heads
from models.schema import EMBEDDINGS, ITEMS, USERS
from models.serve.recommend import export, history, recommend, versions, worth
from models.serve.served_version import Served
from models.store.embeddings import write_embeddings
from models.store.manifest import Manifest, Verdict
from models.store.store import Store
from pipelines.cli.tables import show_answer, show_versions

NOON = datetime(2025, 1, 6, 12, tzinfo=UTC)
ITEM_VECTORS = {
    "a": [1, 0, 0, 0],
    "b": [0, 1, 0, 0],
    "c": [2, 0, 0, 0],
    "d": [0, 0, 0.5, 0],
    "future": [9, 9, 9, 9],  # published after the version's newest event
    "new": [0.9, 0.1, 0, 0],  # has a vector from a delta, is not in the serving folder yet
    "gone": [9, 9, 9, 9],  # deleted by a delta
}
USER_VECTORS = {"ann": [1, 0.1, 1, 0], "bob": [0, 1, 1, 0]}
SERVING_ITEMS = ["a", "b", "c", "d", "future", "gone"]
POPULARITY = [4.0, 3.0, 2.0, 1.0, 90.0, 90.0]


def heads(click_weight: float = 0.0) -> dict[str, np.ndarray]:
    """Heads that say 0 for everything, but click by the item's stat."""
    d, s, h = 4, 1, 3
    zero = {
        "w1": np.zeros((3 * d + 2 * s, h)),
        "b1": np.zeros(h),
        "w2": np.zeros((h, 5)),
        "b2": np.zeros(5),
        "skip": np.zeros((2 * s, 5)),
        "scale": np.ones(5),
        "shift": np.array([-30.0, -30, -30, 0, 3]),
    }
    zero["skip"][1, 0] = click_weight
    return {name: array.astype(np.float32) for name, array in zero.items()}


def embeddings(vectors: dict[str, list[float]], entity: str, *, deleted: bool = False) -> pa.Table:
    n = len(vectors)
    flat = pa.array(np.array(list(vectors.values()), np.float32).reshape(-1))
    columns = [
        pa.array([entity] * n),
        pa.array(list(vectors)),
        pa.FixedSizeListArray.from_arrays(flat, 4).cast(pa.list_(pa.float32())),
        pa.array([1] * n, pa.int64()),
        pa.array([NOON] * n, EMBEDDINGS.field("updated_at").type),
        pa.array([deleted] * n),
    ]
    return pa.Table.from_arrays(columns, schema=EMBEDDINGS)


def manifest(version: int, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "version": version,
        "parent": version - 1 or None,
        "batch_sha256": "0" * 64,
        "rows": 10 * version,
        "windows": 1,
        "first_window_start": NOON - timedelta(minutes=1),
        "newest_event_time": NOON,
        "watermark": NOON + timedelta(minutes=1),
        "metrics": {
            "evaluated": 8,
            "loss": 1.5,
            "recall@20": 0.5,
            "ndcg@20": 0.25,
            "baselines": {
                "popularity": {"recall@20": 0.375, "ndcg@20": 0.125, "half_life_h": 3.0},
                "transitions": {"recall@20": None, "ndcg@20": 0.2, "m": 50.0},
            },
        },
        "gate": Verdict(served=True),
        "digest": "ab" * 32,
        "snapshot": 1,
        "checkpoint": False,
        "created_at": NOON,
        "published_at": NOON + timedelta(minutes=2),
        "seconds": 1.0,
    }
    return Manifest(**{**fields, **changes})


def write_serving(
    folder: Path, click_weight: float, examples: Sequence[int] = (1, 1, 1, 1, 1)
) -> None:
    items, stats = len(SERVING_ITEMS), [[x] for x in (0.0, 0, 1, 0, 0, 0)]
    meta = {
        "format": 1,
        "version": 1,
        "dim": 2,
        "vector_dim": 4,
        "examples": examples,
        "stats": ["n_click"],
        "user_default": [0.0],
        "item_default": [0.0],
    }
    (folder / "serving.json").write_text(json.dumps(meta))
    np.savez(folder / "heads.npz", **heads(click_weight))
    fixed = pa.list_(pa.float32(), 1)
    pq.write_table(
        pa.table(
            {
                "item_id": SERVING_ITEMS,
                "popularity": pa.array(POPULARITY[:items], pa.float32()),
                "stats": pa.array(stats, fixed),
            }
        ),
        folder / "items.parquet",
    )
    ms = int(NOON.timestamp() * 1000)
    ints = pa.list_(pa.int32())
    users = {
        "user_id": ["ann", "old"],
        "seen": pa.array([[2, 1], [0]], ints),
        "recent_items": pa.array([[2, -1, 1], [0]], ints),
        "recent_types": [["click", "view", "dislike"], ["view"]],
        "recent_times": pa.array([[ms - 3000, ms - 2000, ms - 1000], [ms]], pa.list_(pa.int64())),
        "stats": pa.array([[0.0], [0.0]], fixed),
    }
    pq.write_table(pa.table(users), folder / "users.parquet")
    popularity = {
        "key": ["", "user:country=de", "context:device=phone"],
        "weight": pa.array([10.0, 50.0, 50.0], pa.float32()),
        "items": pa.array([[0, 1, 2, 3], [3], [1]], ints),
        "scores": pa.array([[4, 3, 2, 1], [50.0], [50.0]], pa.list_(pa.float32())),
    }
    pq.write_table(pa.table(popularity), folder / "popularity.parquet")


def make_store(root: Path, *, click_weight: float = 0.0, catalogue: bool = True) -> Store:
    store = Store(root)
    root.mkdir()
    store.create({})
    snapshot = {name: ITEM_VECTORS[name] for name in SERVING_ITEMS}
    users = embeddings(USER_VECTORS, "user")
    added = embeddings({"new": ITEM_VECTORS["new"]}, "item")
    removed = embeddings({"gone": ITEM_VECTORS["gone"]}, "item", deleted=True)
    write_embeddings(
        store,
        [
            ("snapshot", 1, pa.concat_tables([embeddings(snapshot, "item"), users])),
            ("delta", 2, pa.concat_tables([added, removed])),
        ],
    )
    store.put_serving(1, lambda folder: write_serving(folder, click_weight))
    store.put_manifests([manifest(1), manifest(2)])
    store.serve(2)
    if catalogue:
        items = [
            {"item_id": i, "title": f"The {i}", "published_at": NOON - timedelta(days=1)}
            for i in "abcd"
        ] + [{"item_id": "future", "title": "Not yet", "published_at": NOON + timedelta(days=1)}]
        pq.write_table(pa.Table.from_pylist(items, ITEMS), store.catalogue_path("items"))
        people = [{"user_id": "eve", "attributes": [("country", "de")]}]
        pq.write_table(pa.Table.from_pylist(people, USERS), store.catalogue_path("users"))
    return store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "store")


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
    plain = recommend(make_store(tmp_path / "plain"), "bob", 3)
    moved = recommend(make_store(tmp_path / "moved", click_weight=60.0), "bob", 3)
    assert ids(plain) == ["b", "d", "new"]  # 1, .5, .1; a and c 0
    assert ids(moved) == ["b", "d", "c"]  # c: 0 + .405 beats .1
    c = moved.items[2]
    assert c.heads == {"click": 1.0, "like": 0.0, "purchase": 0.0, "dwell": 0.0, "rating": 3.0}
    logits = np.array([1, 0.5, 0.1, 0, 0])
    share = np.log(np.exp(logits).sum())
    assert c.value == pytest.approx(0 - share + np.log(1.5), abs=1e-5)
    assert moved.items[0].value == pytest.approx(1 - share, abs=1e-5)


def test_a_head_that_saw_no_example_says_nothing(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", click_weight=60.0)
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
    answer = recommend(make_store(tmp_path / "store", catalogue=False), "ann", 1)
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


def test_versions_tell_figures_and_freshness(store: Store) -> None:
    store.put_manifests([manifest(3, gate=Verdict(served=False, reasons=["loss is nan"]))])
    first, second, third = json.loads(json.dumps(versions(store)))
    assert (first["current"], second["current"], third["served"]) == (False, True, False)
    assert second["recall@20"] == {"model": 0.5, "popularity": 0.375}
    assert second["ndcg@20"] == {"model": 0.25, "popularity": 0.125, "transitions": 0.2}
    assert second["newest_event_time"] == "2025-01-06T12:00:00+00:00"
    assert third["reasons"] == ["loss is nan"]


def test_export_writes_the_served_vectors(store: Store, tmp_path: Path) -> None:
    told = export(store, tmp_path / "deep" / "out.parquet")
    table = pq.read_table(tmp_path / "deep" / "out.parquet")
    assert table.column_names == EMBEDDINGS.names
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 4)
    assert (told["version"], told["users"], told["items"], told["dim"]) == (2, 2, 6, 4)
    by_id = {(row["entity"], row["id"]): row["embedding"] for row in table.to_pylist()}
    assert len(by_id) == 8
    assert by_id["item", "new"] == pytest.approx(ITEM_VECTORS["new"])
    assert ("item", "gone") not in by_id


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda root: recommend(root / "nothing", "ann"), StoreError, "there is no store"),
        (lambda root: recommend(root / "store", "ann", 0), RequestError, "ask for 1 to 1000"),
        (lambda root: recommend(root / "store", ""), RequestError, "give a user's id"),
        (lambda root: versions(root / "nothing"), StoreError, "there is no store"),
        (lambda root: export(root / "store", root), RequestError, "is a folder"),
        (lambda root: export(root / "store", root / "x", 9), StoreError, "no version 9"),
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
    assert versions(store) == []
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


def test_tables_show_what_matters(store: Store) -> None:
    answer = show_answer(recommend(store, "ann", 2))
    assert "The a" in answer
    assert "version 2" in answer
    shown = show_versions(versions(store))
    assert "2025-01-06 12:00" in shown
    for figure in ("0.500", "0.375", "0.250"):
        assert figure in shown
    rows = versions(store)
    assert [row["fresh_s"] for row in rows] == [120.0] * len(rows)
    assert "2 min" in shown
    assert "2 min" not in show_versions([{**row, "fresh_s": 10**8} for row in rows])
    assert show_versions([]).strip() == "no versions yet"


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
