"""The bytes of a file, unpacked: gzip, zstd, bzip2, a zip with one member; told by first bytes."""

import bz2
import codecs
import gzip
import io
import zipfile
import zlib
from typing import BinaryIO

import pyarrow as pa

from pipelines.errors import SourceError

__all__ = ["DAMAGE", "Unpacked", "codec_of", "recoded", "unpacked"]

MAX_GROWTH = 250
"""Times that a file may grow when it is unpacked: logs grow 5 to 60 times, bombs a thousand."""

ALWAYS_BYTES = 256 << 20
"""So much is unpacked whatever the ratio."""

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"PK\x03\x04": "zip"}

DAMAGE = (EOFError, gzip.BadGzipFile, zlib.error, zipfile.BadZipFile, pa.ArrowException, OSError)
"""What the libraries raise of a file that is damaged or ends early."""


def codec_of(first: bytes) -> str | None:
    """The codec of a file by its first bytes; None: it is not packed."""
    return next((name for magic, name in _MAGIC.items() if first.startswith(magic)), None)


class Unpacked(io.RawIOBase):
    """A stream that stops at what can only be a bomb."""

    def __init__(self, inner: BinaryIO, path: str, packed: int) -> None:
        super().__init__()
        self._inner, self._path, self._packed = inner, path, packed
        self._read = 0

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes.

        Raises:
            SourceError: the file has grown beyond belief.
        """
        data = self._inner.read(size if size >= 0 else 8 << 20)
        self._read += len(data)
        if self._read > max(ALWAYS_BYTES, self._packed * MAX_GROWTH):
            raise SourceError(
                f"{self._path} grows over {MAX_GROWTH} times when unpacked ({self._packed} bytes"
                f" became {self._read}), which is the limit; unpack it yourself if it is sound"
            )
        return bytes(data)


def unpacked(file: BinaryIO, path: str, size: int) -> BinaryIO:
    """An open file → its bytes, unpacked where it is packed; stands at its beginning.

    Raises:
        SourceError: it is a zip of several members, or one with a password.
    """
    codec = codec_of(file.read(4))
    file.seek(0)
    if codec is None:
        return file
    inner: BinaryIO
    if codec == "gzip":
        inner = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    elif codec == "bzip2":
        inner = bz2.BZ2File(file)  # type: ignore[assignment]
    elif codec == "zstd":
        inner = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
    else:
        inner = _member(file, path)
    return Unpacked(inner, path, size)  # type: ignore[return-value]


def _member(file: BinaryIO, path: str) -> BinaryIO:
    try:
        archive = zipfile.ZipFile(file)
        names = [n for n in archive.namelist() if not n.endswith("/") and "__MACOSX" not in n]
        if len(names) != 1:
            told = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            raise SourceError(
                f"{path} holds {len(names)} files ({told}), expected one; unpack it and name the"
                " one to read"
            )
        member = archive.open(names[0])
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise SourceError(f"{path} is a zip that cannot be read ({error}); unpack it") from None
    inside = member.read(4)
    if codec_of(inside):
        raise SourceError(f"{path} holds {names[0]}, which is packed once more; unpack the zip")
    return archive.open(names[0])  # type: ignore[return-value]


class _Recoded(io.RawIOBase):
    """Text of another encoding as UTF-8; what does not decode becomes U+FFFD."""

    def __init__(self, inner: BinaryIO, encoding: str) -> None:
        super().__init__()
        self._inner = inner
        self._decoder = codecs.getincrementaldecoder(encoding)("replace")

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def read(self, size: int = -1) -> bytes:
        """About `size` bytes; none only at the end."""
        while True:
            data = self._inner.read(size if size >= 0 else 8 << 20)
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                return text.encode()


def recoded(stream: BinaryIO, encoding: str) -> BinaryIO:
    """A stream of text in any encoding → in UTF-8."""
    if codecs.lookup(encoding).name in {"utf-8", "ascii"}:
        return stream
    return _Recoded(stream, encoding)  # type: ignore[return-value]
