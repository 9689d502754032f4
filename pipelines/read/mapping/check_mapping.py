"""What is refused in a mapping before a record is read."""

import re
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["check_pattern", "check_zone", "named"]


def check_pattern(pattern: str, *, groups: int | None) -> None:
    """Refuse what is no pattern, or has not so many groups.

    Raises:
        ValueError: the reason.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        compiled = re.compile(pattern)
        pc.match_substring_regex(pa.array([""]), pattern)
    except (re.error, pa.ArrowInvalid) as error:
        first = str(error).partition("\n")[0]
        raise ValueError(f"pattern {pattern!r} cannot be used: {first}") from None
    if groups is not None and compiled.groups != groups:
        raise ValueError(f"pattern {pattern!r} needs {groups} group in (), what is taken")


def named(pattern: str) -> str:
    """The pattern with its one group named `taken`, as Arrow wants it."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?P<taken>", pattern, count=1)


def check_zone(zone: str) -> None:
    """Refuse a zone that the time zone database lacks.

    Raises:
        ValueError: it does.
    """
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"zone {zone!r} is unknown; write UTC or one such as Asia/Tokyo") from None
