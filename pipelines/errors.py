"""The errors of `models.errors`, and what can go wrong on the way in."""

from models.errors import JobError, RequestError, RilletError, StoreError

__all__ = ["JobError", "RequestError", "RilletError", "SourceError", "StoreError"]


class SourceError(RequestError):
    """A source is missing, unreadable, or not what it was said to be."""
