"""What can go wrong, and what a failed Beam job says, brought back to one line."""

import re

from models.errors import JobError, RequestError, RilletError, StoreError

__all__ = ["JobError", "RequestError", "RilletError", "SourceError", "StoreError", "explain"]


class SourceError(RequestError):
    """A source is missing, unreadable, or not what it was said to be."""


_STEP = re.compile(r" \[while running '(?P<step>[^']*)'\]")
_NAMES = "|".join(name for name in __all__ if name != "explain")
_OURS = re.compile(rf"^(?:\w+\.)*(?P<name>{_NAMES}): (?P<text>.*)$", re.MULTILINE)
_LAST = re.compile(r"^(?P<name>[A-Za-z_][\w.]*)(?:: (?P<text>.*))?$", re.MULTILINE)


def explain(error: BaseException) -> RilletError:
    """The error as one of Rillet's own, in one line, with its exit status.

    Args:
        error: what running a pipeline raised: an error of ours with the step's
            name appended, or a RuntimeError whose text is a worker's stack trace.
    """
    text = str(error)
    step = _STEP.findall(text)
    if isinstance(error, RilletError):
        return type(error)(*error.args) if not step else type(error)(_line(text))
    ours = _OURS.findall(text)
    if ours:
        name, message = ours[-1]
        kind: type[RilletError] = globals()[name]
        return kind(_line(message))
    where = f" in step {step[-1]}" if step else ""
    if isinstance(error, MemoryError) or "MemoryError" in text:
        return JobError(f"out of memory{where}: give the job more, or raise --shards")
    return JobError(f"the job failed{where}: {_what(error, text)} (see the trace with --debug)")


def _what(error: BaseException, text: str) -> str:
    """`ValueError: what happened`, also where only a worker's trace says so."""
    if "Traceback (most recent call last)" in text:
        found = _LAST.findall(_STEP.sub("", text).strip())
        if found:
            name, message = found[-1]
            return f"{name.rpartition('.')[2]}: {message}" if message else name
    return f"{type(error).__name__}: {_line(text)}"


def _line(text: str) -> str:
    return " ".join(_STEP.sub("", text).split())
