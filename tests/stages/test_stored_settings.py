"""A text model is looked at before a run writes anything, and a store keeps to one."""

import pytest

from models.errors import RequestError, StoreError
from models.network.text_encoder import text_encoder
from models.store.store import Store
from pipelines.bounded.between_runs import store_compatibility
from pipelines.bounded.between_runs.stored_settings import stored_job, stored_model
from pipelines.config import load_job


def job(path):
    return load_job(None, {"model": {"text_model": str(path)}})


def test_a_bad_path_ends_the_command_before_anything_is_written(rillet, tmp_path):
    (tmp_path / "job.toml").write_text('[model]\ntext_model = "nowhere"\n')
    (tmp_path / "events.jsonl").write_text(
        '{"event_id":"a","user_id":"u","item_id":"i","event_type":"click",'
        '"event_time":"2024-01-01T00:00:00Z"}\n'
    )
    done = rillet("run", "--events", "events.jsonl", "--store", "s", "--config", "job.toml")
    assert done.status == 2
    assert "'nowhere' cannot be read" in done.stderr
    assert "correct the path in the job file" in done.stderr
    assert not (tmp_path / "s").exists()


def test_a_store_refuses_other_files_but_not_another_place(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(content)
    store = Store(tmp_path / "store")
    with store_compatibility.hold_for_run(store, job(tmp_path / "a")):
        pass
    (store.root / "batches" / "000001.arrow").write_bytes(b"")
    store_compatibility.check(store, job(tmp_path / "b"))
    found = stored_model(store)  # for commands that have the store alone
    assert (found.text_model, len(found.text_model_sha256)) == (str(tmp_path / "a"), 64)
    with pytest.raises(StoreError, match=r"was made with model.text_model_sha256"):
        store_compatibility.check(store, job(tmp_path / "c"))


def test_without_its_place_a_text_model_is_not_left_out_unsaid():
    with pytest.raises(RequestError, match=r"fingerprint 0{12}… is needed.*retrain --config"):
        text_encoder(None, "0" * 64)


def test_a_store_that_recorded_an_overlap_goes_on(tmp_path):
    store, plain = Store(tmp_path / "store"), load_job(None)
    store.create(plain.model_dump(mode="json") | {"model": {"overlap": 5}})
    (store.root / "batches" / "000001.arrow").write_bytes(b"")
    store_compatibility.check(store, plain)


def test_a_fingerprint_in_the_job_file_binds(tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    named = {"text_model": str(tmp_path / "a"), "text_model_sha256": "0" * 64}
    with pytest.raises(RequestError, match="correct either"):
        load_job(None, {"model": named})


def test_the_job_that_a_store_was_made_with_comes_back_whole(tmp_path):
    features = {"window": "sliding:10m/1m", "retention": "36h", "dedupe_horizon": "0", "history": 7}
    job = load_job(None, {"features": features, "batch": {"max_wait": "90s", "min_rows": 3}})
    store = Store(tmp_path / "store")
    with store_compatibility.hold_for_run(store, job):
        (store.root / "batches" / "000001.arrow").write_bytes(b"")
        found = stored_job(store)
        assert found == job
        store_compatibility.check(store, found)
