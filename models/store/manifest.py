"""What is on record about one version: `store/versions/000042.json`."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from models.errors import StoreError

__all__ = ["WALL_CLOCK_FIELDS", "Manifest", "Verdict", "utc_ms"]

WALL_CLOCK_FIELDS = ("created_at", "published_at", "seconds")
"""The fields that may differ between two runs over the same log."""


def utc_ms(milliseconds: int) -> datetime:
    """Epoch milliseconds → an aware UTC time.

    >>> utc_ms(1_500).isoformat()
    '1970-01-01T00:00:01.500000+00:00'
    """
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)


class Verdict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The gate's word on a version: served or not, and why not."""

    served: bool
    reasons: list[str] = []


class Manifest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Version `version`: what went into it, how well it predicted, where its files are.

    Times are RFC 3339 in UTC; `seconds` is wall-clock time spent on the batch.
    """

    version: int
    parent: int | None
    """The accepted version that this one was trained from; None for the first of a line."""
    batch_sha256: str
    """Of the file of its micro-batch; of a retrained version: over those of the whole log."""
    rows: int
    windows: int
    """Distinct event-time windows among the rows."""
    first_window_start: datetime
    newest_event_time: datetime
    """The newest event time that it contains: of its rows' anchors, and of the versions before."""
    watermark: datetime
    """The newest window end: every earlier event that was not late is in."""
    metrics: dict[str, Any]
    """Prequential: what the parent predicted for these rows, beside the baselines."""
    gate: Verdict
    digest: str
    """SHA-256 over the parent's digest, the batch's hash and the published delta."""
    snapshot: int | None
    """The newest full set of embeddings in this lineage; later deltas lie over it."""
    checkpoint: bool
    """Whether the trainer was saved in full as of this version."""
    created_at: datetime
    published_at: datetime | None
    """When it became the served version; None where the gate refused it."""
    seconds: float
    through: int | None = None
    """The newest micro-batch it knows of, where that is not its own number: after a retrain."""
    retrain_of: int | None = None
    """Of a version that was trained anew from the whole log: the version that it replaced."""
    model: dict[str, Any] | None = None
    """Of a retrained version: the `[model]` settings that it and what follows are trained with."""

    @property
    def batch(self) -> int:
        """The newest micro-batch that the version knows of."""
        return self.version if self.through is None else self.through

    def encode(self) -> bytes:
        """Indented JSON with a final newline."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @classmethod
    def decode(cls, data: bytes, name: str) -> "Manifest":
        """Read what `encode` wrote.

        Raises:
            StoreError: it is damaged, or of another format.
        """
        try:
            return msgspec.json.decode(data, type=cls)
        except msgspec.DecodeError as error:
            raise StoreError(
                f"manifest {name} is damaged ({error}): restore it from a copy of the store"
            ) from None
