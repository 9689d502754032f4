"""How a text is laid out: delimiter, quotes, header; for a proposal, never used unseen."""

import re
from typing import Any

__all__ = ["dialect_of"]

_DELIMITERS = ("::", "\t", ",", ";", "|")
_TYPED = re.compile(r"\w+:(token|float|token_seq|float_seq)")
_NUMBER = re.compile(r"-?\d+([.,]\d+)?")


def dialect_of(first: bytes) -> dict[str, Any]:
    """The first bytes of a delimited text → settings of `Layout` that read it."""
    encoding = _encoding(first)
    text = first.decode(encoding, "replace").removeprefix("\ufeff")
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if len(lines) > 1 and not first.endswith(b"\n"):
        lines = lines[:-1]  # it may be cut
    delimiter = max(_DELIMITERS, key=lambda one: _evenness(lines, one))
    quoted = any(f'{delimiter}"' in line or line.startswith('"') for line in lines)
    balanced = all(line.count('"') % 2 == 0 for line in lines)
    found: dict[str, Any] = {"container": "csv", "delimiter": delimiter}
    if delimiter == "\t" and not (quoted and balanced):
        found["quote"] = ""
    if encoding != "utf-8":
        found["encoding"] = encoding
    fields = [field.strip().strip('"') for field in (lines or [""])[0].split(delimiter)]
    if all(_TYPED.fullmatch(field) for field in fields):
        found["header"] = "typed"
    elif not _is_header(fields):
        found["header"] = False
        found["columns"] = [f"column{n + 1}" for n in range(len(fields))]
    return found


def _encoding(first: bytes) -> str:
    if first[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    try:
        first[:-4].decode()
    except UnicodeDecodeError:
        return "latin-1"
    return "utf-8"


def _evenness(lines: list[str], delimiter: str) -> float:
    """How well a delimiter cuts the lines: fields of the first, if the others have as many."""
    counts = [line.count(delimiter) for line in lines]
    if not counts or counts[0] == 0:
        return 0.0
    same = sum(count == counts[0] for count in counts) / len(counts)
    return same + min(counts[0], 20) / 100 + 0.5 * (len(delimiter) > 1)


def _is_header(fields: list[str]) -> bool:
    return all(field and not _NUMBER.fullmatch(field) for field in fields) and len(
        set(fields)
    ) == len(fields)
