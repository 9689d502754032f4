"""The mend of the job server's jar, on archives made here."""

import zipfile
from pathlib import Path

import pytest

from pipelines.errors import RequestError
from pipelines.local.services.job_server_patch import NAME, patch_state_names

APPENDS = bytes.fromhex("2ab6000e120fb6000e")


def made(path: Path, code: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/first", b"1" * 1_000)
        archive.writestr(NAME, code)
        archive.writestr("z/last", b"2")
    return path


def test_four_bytes_change_and_nothing_else(tmp_path: Path) -> None:
    jar = made(tmp_path / "all.jar", b"before" + APPENDS + b"after")
    patch_state_names(jar)
    with zipfile.ZipFile(jar) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(["a/first", NAME, "z/last"])
        assert archive.read(NAME) == b"before" + bytes(4) + APPENDS[4:] + b"after"
        assert archive.read("a/first") == b"1" * 1_000
        assert archive.read("z/last") == b"2"


@pytest.mark.parametrize("code", [b"another version", 2 * APPENDS])
def test_a_class_that_is_not_the_known_one_is_refused(tmp_path: Path, code: bytes) -> None:
    jar = made(tmp_path / "all.jar", code)
    before = jar.read_bytes()
    with pytest.raises(RequestError, match=r"all\.jar has a .*Handler\.class that is not Beam"):
        patch_state_names(jar)
    assert jar.read_bytes() == before
