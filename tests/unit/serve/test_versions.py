"""What is told of a store's versions."""

import json
from pathlib import Path

import pytest
from served_store import served_manifest, served_store

from models.errors import StoreError
from models.serve.versions import describe_versions
from models.store.manifest import Verdict
from models.store.store import Store
from pipelines.cli.tables import show_versions


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return served_store(tmp_path / "store")


def test_versions_tell_figures_and_freshness(store: Store) -> None:
    store.put_manifests([served_manifest(3, gate=Verdict(served=False, reasons=["loss is nan"]))])
    first, second, third = json.loads(json.dumps(describe_versions(store)))
    assert (first["current"], second["current"], third["served"]) == (False, True, False)
    assert second["recall@20"] == {"model": 0.5, "popularity": 0.375}
    assert second["ndcg@20"] == {"model": 0.25, "popularity": 0.125, "transitions": 0.2}
    assert second["newest_event_time"] == "2025-01-06T12:00:00+00:00"
    assert third["reasons"] == ["loss is nan"]


def test_a_store_that_is_not_there_is_explained_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store") as raised:
        describe_versions(tmp_path / "nothing")
    assert "\n" not in str(raised.value)


def test_a_new_store_has_none(tmp_path: Path) -> None:
    store = Store(tmp_path / "empty")
    store.root.mkdir()
    store.create({})
    assert describe_versions(store) == []


def test_a_table_shows_what_matters(store: Store) -> None:
    rows = describe_versions(store)
    shown = show_versions(rows)
    assert "2025-01-06 12:00" in shown
    for figure in ("0.500", "0.375", "0.250"):
        assert figure in shown
    assert [row["fresh_s"] for row in rows] == [120.0] * len(rows)
    assert "2 min" in shown
    assert "2 min" not in show_versions([{**row, "fresh_s": 10**8} for row in rows])
    assert show_versions([]).strip() == "no versions yet"
