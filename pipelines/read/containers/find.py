"""What `--events` names where a mapping reads it: files of any name."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.errors import SourceError

__all__ = ["Found", "find"]


@dataclass(frozen=True, order=True)
class Found:
    """One file.

    Attributes:
        path: local, or with a scheme.
        size: bytes, as it lies there.
        partitions: column → value, of folders such as `event_type=click` below the source.
        chosen: whether the file itself was named, not a folder that it is in.
    """

    path: str
    size: int
    partitions: tuple[tuple[str, str], ...] = ()
    chosen: bool = True

    @property
    def name(self) -> str:
        """The file's name, without its folders."""
        return self.path.rsplit("/", 1)[-1]


def find(sources: Sequence[str]) -> list[Found]:
    """Files, globs and folders → the files, each once, in order of their paths.

    Raises:
        SourceError: a source is missing or matches nothing.
    """
    found: dict[str, Found] = {}
    for source in (given.removeprefix("file://") for given in sources):
        for file in _remote(source) if "://" in source else _local(source):
            key = file.path if "://" in file.path else str(Path(file.path).resolve())
            found.setdefault(key, file)
    if not found:
        raise SourceError("no source is given; name a file, a glob or a folder with --events")
    return [found[key] for key in sorted(found)]


def _local(source: str) -> list[Found]:
    if not source.strip():
        raise SourceError("--events is empty; give a file, a glob or a folder")
    path = Path(source)
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.is_file() and not _hidden(p, path)]
        if not files:
            raise SourceError(f"folder {source} holds no file; check the path")
        return [
            Found(str(p), p.stat().st_size, _partitions(p.relative_to(path).parts[:-1]), False)
            for p in files
        ]
    if path.exists():
        return [Found(str(path), path.stat().st_size, _partitions(path.parts[:-1]))]
    if not glob.has_magic(source):
        raise SourceError(f"{source} does not exist; check the path")
    matched = [Path(name) for name in sorted(glob.glob(source, recursive=True))]  # noqa: PTH207
    files = [p for p in matched if p.is_file() and p.name[0] not in "._"]
    if not files:
        raise SourceError(f"glob {source} matches no file; quote it and check the path")
    return [Found(str(p), p.stat().st_size, _partitions(p.parts[:-1])) for p in files]


def _hidden(path: Path, root: Path) -> bool:
    return any(part[0] in "._" for part in path.relative_to(root).parts)


def _partitions(folders: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """`event_type=click/` → (event_type, click), as Hive writes it."""
    from urllib.parse import unquote

    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return tuple((name, unquote(value)) for name, _, value in pairs if name and value)


def _remote(source: str) -> list[Found]:
    from apache_beam.io.filesystems import FileSystems

    try:
        found, chosen = FileSystems.match([source])[0].metadata_list, True
        if not found:
            inside = FileSystems.match([source.rstrip("/") + "/**"])[0].metadata_list
            found, chosen = [e for e in inside if e.path.rsplit("/", 1)[-1][0] not in "._"], False
    except Exception as error:  # noqa: BLE001 - each file system raises its own
        told = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise SourceError(
            f"{source} cannot be listed ({told}); check the path, your credentials, and that"
            " Beam's part for it is installed"
        ) from None
    if not found:
        raise SourceError(f"{source} matches no file; check the path")
    return [
        Found(e.path, int(e.size_in_bytes), _partitions(e.path.split("/")[:-1]), chosen)
        for e in found
    ]
