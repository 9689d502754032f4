"""What a simulated world is like: every knob with its unit, range and reason."""

from datetime import datetime
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from models.config import Section
from pipelines.errors import RequestError

__all__ = ["DRIFTS", "EventFormat", "SimulationSpec", "suffix"]

EventFormat = Literal["jsonl", "jsonl.gz", "parquet"]

DRIFTS: dict[str, dict[str, float]] = {
    "none": {"drift": 0.0, "item_half_life_h": 240.0},
    "mild": {"drift": 0.25, "item_half_life_h": 72.0},
    "strong": {"drift": 2.0, "item_half_life_h": 18.0},
}
"""Three speeds at which tastes turn and items fade.

`none`: tastes stand still, an item loses half its pull in ten days;
`mild`: a taste is renewed by 1 − e⁻¹ in four days, items fade in three;
`strong`: tastes turn within half a day, items fade in eighteen hours.
"""


class SimulationSpec(Section):
    """A simulated world. Two equal specs write the same bytes."""

    # The amount
    events: int = Field(100_000, ge=1, le=1_000_000_000, description="valid, distinct events")
    users: int = Field(1_000, ge=1, le=10_000_000, description="people, bots included")
    items: int = Field(1_500, ge=20, le=10_000_000, description="everything ever published")
    seed: int = Field(0, ge=0, lt=2**63, description="of every draw")
    format: EventFormat = Field("jsonl", description="of the events' file")
    start: datetime = Field(
        datetime.fromisoformat("2025-01-06T00:00:00+00:00"),
        description="first event time, with an offset; a fixed Monday: the same bytes any day",
    )
    events_per_user_day: float = Field(
        30.0, gt=0, le=10_000, description="sets the length: events / (users × this) days"
    )

    # Who and what comes and goes
    drift: float = Field(
        0.25, ge=0, le=1_000, description="1/day at which tastes forget themselves; 0: never"
    )
    trend: float = Field(
        0.5, ge=0, le=5, description="log-odds by which fashion, drifting too, moves topics"
    )
    shock: float = Field(
        0.0, ge=0, lt=1, description="share of the stream after which all tastes are redrawn; 0: no"
    )
    item_half_life_h: float = Field(
        72.0, gt=0, le=1e6, description="hours in which a typical item loses half its pull"
    )
    backlog: float = Field(
        0.5, gt=0, le=1, description="share of items out before the start; the rest appear evenly"
    )
    newcomers: float = Field(
        0.3, ge=0, lt=1, description="share of users who first come during the stream"
    )

    # What people are like
    taste_scale: float = Field(
        2.0, ge=0, le=5, description="log-odds: 2 gives a user's first topic a third of their time"
    )
    demographic_share: float = Field(
        0.3, ge=0, le=1, description="share of taste's variance that country and age explain"
    )
    steps: float = Field(6.0, ge=1, le=50, description="mean number of steps in a session")
    series_share: float = Field(
        0.45, ge=0, le=1, description="share of items that are episodes of a series"
    )
    follow_series: float = Field(
        0.25, ge=0, le=1, description="chance of a step to go on with a series begun, if one waits"
    )
    follow_routine: float = Field(
        0.25, ge=0, le=1, description="chance of the others to follow the two-step category rule"
    )
    feed: float = Field(
        0.55, ge=0, le=1, description="chance of the rest to come from a slate (else sought)"
    )
    slate: int = Field(5, ge=1, le=20, description="impressions in a slate")
    position_bias: float = Field(
        1.0, ge=0, le=5, description="position j is looked at in proportion to (1 + j)^-this"
    )
    dwell_known: float = Field(
        0.7, ge=0, le=1, description="share of views and clicks with dwell_ms; else to be observed"
    )

    # What is not taste
    bots: float = Field(0.01, ge=0, lt=1, description="share of users that are crawlers")
    accidents: float = Field(
        0.04, ge=0, le=1, description="chance of a step to be a slip of the finger, left at once"
    )
    duplicates: float = Field(0.01, ge=0, le=1, description="share of events written twice")
    late: float = Field(0.02, ge=0, le=1, description="share of events written out of order")
    late_max_s: float = Field(
        300.0, ge=1, le=86_400, description="seconds of event time a late line is behind, at most"
    )
    malformed: float = Field(
        0.002, ge=0, le=1, description="bad lines per event; a Parquet file holds none"
    )
    oversize: int = Field(1, ge=0, le=100, description="bad lines of over 1 MiB, if any are bad")

    @model_validator(mode="after")
    def _sane(self) -> "SimulationSpec":
        if self.start.tzinfo is None:
            raise ValueError(f"start {self.start} has no offset; write it as in 2025-01-06T00:00Z")
        if not 1990 <= self.start.year <= 2200:
            raise ValueError(f"start {self.start} is outside 1990 to 2200; choose a nearer date")
        return self

    @property
    def days(self) -> float:
        """Length of the stream in days of event time."""
        return self.events / (self.users * self.events_per_user_day)

    @property
    def start_ms(self) -> int:
        """First instant, milliseconds since the epoch (UTC)."""
        return int(self.start.timestamp() * 1000)

    @classmethod
    def of(cls, *, drift: str | float = "mild", **knobs: Any) -> "SimulationSpec":
        """A world at one of three speeds of drift, or at a number (1/day).

        A number sets the drift of tastes alone. Knobs that are None keep their
        default; those named win over the speed's own.

        >>> SimulationSpec.of(drift="strong", events=10).item_half_life_h
        18.0

        Raises:
            RequestError: an unknown speed or a refused value, in one line.
        """
        given = {name: value for name, value in knobs.items() if value is not None}
        try:
            speed = DRIFTS[drift] if drift in DRIFTS else {"drift": float(drift)}
            return cls.model_validate({**speed, **given})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "simulation"
            message = first["msg"].removeprefix("Value error, ")
            raise RequestError(f"{where}: {message} (got {first['input']!r})") from None
        except ValueError:
            raise RequestError(
                f"drift {drift!r} is not a speed; give none, mild, strong or a number per day"
            ) from None


def suffix(spec_format: str) -> str:
    """`events.jsonl`, `events.jsonl.gz` or `events.parquet`.

    >>> suffix("jsonl.gz")
    'events.jsonl.gz'
    """
    if spec_format not in get_args(EventFormat):
        raise RequestError(f"format {spec_format!r} is unknown; give jsonl, jsonl.gz or parquet")
    return f"events.{spec_format}"
