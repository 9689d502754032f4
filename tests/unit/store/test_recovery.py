"""CURRENT after a crash, a loss, a rollback."""

import pytest
from manifests import manifest

from models.store.manifest import Verdict
from models.store.recovery import mend_current
from models.store.store import Store


@pytest.fixture
def store(tmp_path):
    """Versions 1 to 5 on record, of which the gate refused the last."""
    made = Store(tmp_path / "store")
    made.create({})
    refused = Verdict(served=False, reasons=["too bad"])
    made.put_manifests([manifest(n) for n in range(1, 5)] + [manifest(5, gate=refused)])
    return made


@pytest.mark.parametrize(
    ("current", "after", "expected"),
    [
        (None, None, 4),  # lost
        (9, None, 4),  # of a version that is not on record
        (2, None, 2),  # rolled back
        (2, 4, 2),  # rolled back, and the newest version is of a run that came to its end
        (2, 3, 4),  # version 4 is an interrupted run's
        (4, 0, 4),
        (None, 4, 4),
    ],
)
def test_the_newest_accepted_version_is_served_where_it_should_be(store, current, after, expected):
    if current:
        store.serve(current)
    mend_current(store, after)
    assert store.current() == expected


def test_an_empty_store_stays_without(tmp_path):
    store = Store(tmp_path / "store")
    store.create({})
    mend_current(store, 0)
    assert store.current() is None
