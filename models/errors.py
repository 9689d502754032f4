"""What can go wrong, as a tree one can read.

`RilletError`
├── `RequestError`   what was asked for cannot be done: exit status 2
│   └── `StoreError`     the store is missing, foreign, in use or damaged
└── `JobError`       the job was asked rightly and failed: exit status 1

A message is one line that says the value, the expectation and the cure.
`pipelines.errors` adds what can go wrong on the way in.
"""

__all__ = ["JobError", "RequestError", "RilletError", "StoreError"]


class RilletError(Exception):
    """Anything Rillet raises on purpose; its text is meant for the user."""

    exit_status = 1


class RequestError(RilletError):
    """The request was wrong: nothing was started."""

    exit_status = 2


class StoreError(RequestError):
    """The store is missing, of another version, in use, or damaged."""


class JobError(RilletError):
    """The job failed while it ran; what it had committed stays."""
