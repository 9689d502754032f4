"""What the files of a text model are, so that a store can refuse others; no TensorFlow."""

import hashlib
from pathlib import Path

from models.errors import RequestError

__all__ = ["fingerprint"]


def fingerprint(path: Path) -> str:
    """SHA-256 over the names and bytes of a model's files, hexadecimal.

    Raises:
        RequestError: there is nothing at `path`, or it cannot be read.
    """
    files = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    digest = hashlib.sha256()
    try:
        for file in files:
            name = file.relative_to(path).as_posix() if path.is_dir() else ""
            with file.open("rb") as opened:
                content = hashlib.file_digest(opened, "sha256").hexdigest()
            digest.update(f"{name}\0{content}\n".encode())
    except OSError as error:
        raise RequestError(
            f"model.text_model {str(path)!r} cannot be read ({error.strerror}); expected a "
            "SavedModel folder or a .keras or .h5 file: correct the path in the job file"
        ) from None
    if not files:
        raise RequestError(
            f"model.text_model {str(path)!r} is an empty folder; expected a SavedModel folder or "
            "a .keras or .h5 file: correct the path in the job file"
        )
    return digest.hexdigest()
