"""The served vectors as one file."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from served_store import ITEM_VECTORS, served_store

from models.errors import RequestError, StoreError
from models.schema import EMBEDDINGS
from models.serve.export import export_embeddings
from models.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return served_store(tmp_path / "store")


def test_export_writes_the_served_vectors(store: Store, tmp_path: Path) -> None:
    told = export_embeddings(store, tmp_path / "deep" / "out.parquet")
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
        (lambda root: export_embeddings(root / "store", root), RequestError, "is a folder"),
        (lambda root: export_embeddings(root / "store", root / "x", 9), StoreError, "no version 9"),
    ],
)
def test_a_wrong_question_is_explained_in_a_line(
    store: Store, tmp_path: Path, call: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as raised:
        call(tmp_path)
    assert "\n" not in str(raised.value)
