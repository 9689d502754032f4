"""The job file: what a run does, as frozen, validated values.

Every field states its unit, its range and the reason for its default. A job
file is TOML with one table per section::

    [features]
    window = "fixed:60s"
    session_gap = "30m"

    [batch]
    max_wait = "10m"

    [model]
    dim = 32
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from models.config import ModelConfig, Section
from models.network.text_fingerprint import fingerprint
from models.training.drift_detector import check_extra
from pipelines.errors import RequestError

__all__ = [
    "BatchConfig",
    "CleanConfig",
    "ConfidenceWeights",
    "DurationMs",
    "FeatureConfig",
    "JobConfig",
    "WindowSpec",
    "load_job",
    "parse_duration",
]

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SESSION_STEPS = 20
_SESSION_STEP_MS = 10_000
"""A session is told a twentieth of its gap after its end at the latest, or ten seconds."""
MAX_DURATION_MS = 3_660 * 86_400_000  # ten years: longer is a slip of the unit


def parse_duration(text: str | int) -> int:
    """`"90d"`, `"1h30m"`, `"250ms"` or `0` → milliseconds (int).

    >>> parse_duration("1h30m"), parse_duration("0"), parse_duration("1.5s")
    (5400000, 0, 1500)

    Raises:
        ValueError: the text is not a duration; the message names the form.
    """
    if isinstance(text, bool) or not isinstance(text, str | int):
        raise ValueError(f"a duration is text such as '60s' or '1h30m', got {text!r}")
    text = str(text).strip()
    if text == "0":
        return 0
    parts = _DURATION.findall(text)
    if not parts or "".join(n + unit for n, unit in parts) != text:
        raise ValueError(
            f"{text!r} is not a duration; write a number with ms, s, m, h or d, such as '90s'"
        )
    total = sum(float(n) * _UNITS_MS[unit] for n, unit in parts)
    if total != int(total) or total > MAX_DURATION_MS:
        raise ValueError(f"{text!r} is out of range; whole milliseconds up to 3660d are accepted")
    return int(total)


DurationMs = Annotated[int, BeforeValidator(parse_duration)]
"""Milliseconds, written in a job file as `"30m"`."""


class WindowSpec(Section):
    """How event time is cut: `fixed:60s`, `sliding:10m/1m` or `session:30m`."""

    kind: Literal["fixed", "sliding", "session"]
    size_ms: int = Field(gt=0, description="length; of a session: the gap that ends it")
    period_ms: int = Field(gt=0, description="distance between starts; fixed: the size")

    @classmethod
    def parse(cls, text: str) -> "WindowSpec":
        """Read the command line's form.

        >>> WindowSpec.parse("sliding:10m/1m").overlap
        10

        Raises:
            ValueError: not one of the three forms.
        """
        kind, _, rest = text.partition(":")
        size, slash, period = rest.partition("/")
        if kind not in {"fixed", "sliding", "session"} or (slash != "") != (kind == "sliding"):
            raise ValueError(
                f"{text!r} is not a window; write fixed:60s, sliding:10m/1m or session:30m"
            )
        size_ms = parse_duration(size)
        period_ms = parse_duration(period) if slash else size_ms
        if size_ms < 1 or period_ms < 1:
            raise ValueError(f"{text!r} has an empty window; sizes start at 1ms")
        if period_ms > size_ms:
            raise ValueError(f"{text!r} would skip events; the period must not exceed the size")
        if size_ms > 1_000 * period_ms:
            raise ValueError(f"{text!r} copies every event over 1000 times; lengthen the period")
        return cls(kind=kind, size_ms=size_ms, period_ms=period_ms)

    @property
    def overlap(self) -> int:
        """Largest number of windows that one instant falls in."""
        return -(-self.size_ms // self.period_ms)

    @property
    def tick_ms(self) -> int:
        """Event time from one tick to the next; at each, a stream settles what is before it.

        Windows of a fixed length end at ticks; a session is told at the next one.
        """
        if self.kind == "session":
            return min(max(self.size_ms // _SESSION_STEPS, 1), _SESSION_STEP_MS)
        return self.period_ms

    @property
    def tick_offset_ms(self) -> int:
        """Ticks are at this instant after the epoch, and every `tick_ms`."""
        return 0 if self.kind == "session" else self.size_ms % self.period_ms

    def __str__(self) -> str:
        """Render as it is written on the command line, in milliseconds."""
        tail = f"/{self.period_ms}ms" if self.kind == "sliding" else ""
        return f"{self.kind}:{self.size_ms}ms{tail}"


def _window(value: Any) -> Any:
    return value if isinstance(value, WindowSpec | dict) else WindowSpec.parse(str(value))


class ConfidenceWeights(Section):
    """Weights × counts in a row's confidence, after Hu, Koren and Volinsky (ICDM 2008)."""

    dwell: float = Field(0.5, ge=0, description="per ln(1 + seconds of dwell)")
    impression: float = Field(0.0, ge=0, description="being shown says nothing")
    view: float = Field(0.1, ge=0)
    click: float = Field(0.5, ge=0)
    like: float = Field(1.0, ge=0)
    dislike: float = Field(0.0, ge=0, description="never evidence for an item")
    share: float = Field(1.0, ge=0)
    cart: float = Field(2.0, ge=0)
    purchase: float = Field(4.0, ge=0)
    rating: float = Field(0.5, ge=0)


class FeatureConfig(Section):
    """From events to feature rows (`pipelines.features.aggregate`)."""

    window: Annotated[WindowSpec, BeforeValidator(_window)] = Field(
        default_factory=lambda: WindowSpec.parse("fixed:60s"),
        description="a minute: as fresh as recommendations are asked to be",
    )
    session_gap: DurationMs = Field(
        1_800_000, ge=0, le=86_400_000, description="30m: the web's usual session timeout"
    )
    retention: DurationMs = Field(
        90 * 86_400_000, ge=0, description="90d without an event forgets a user; 0 = never"
    )
    history: int = Field(50, ge=0, le=1_000, description="past events that a row carries")
    dedupe_horizon: DurationMs = Field(
        86_400_000, ge=0, description="24h of event time in which an event_id counts once"
    )
    allowed_lateness: DurationMs = Field(
        3_600_000, ge=0, description="1h: later events of a fired window are dead letters"
    )
    confidence: ConfidenceWeights = Field(default_factory=ConfidenceWeights)
    shards: int = Field(
        8, ge=1, le=4_096, description="pieces of the user space; the rows do not depend on it"
    )


class CleanConfig(Section):
    """Which events are quarantined (`pipelines.clean.quarantine`); none, if nothing is given."""

    max_events: int = Field(
        0, ge=0, description="events of a user within `per`, impressions left out; 0 = any number"
    )
    per: DurationMs = Field(
        60_000, gt=0, description="60s: what a person does in a minute is easily told"
    )
    max_dwell: DurationMs = Field(
        0, ge=0, le=86_400_000, description="longest given dwell that is believed; 0 = any"
    )
    min_click_dwell: DurationMs = Field(
        0, ge=0, le=86_400_000, description="clicks with a shorter given dwell are slips; 0 = none"
    )

    @property
    def on(self) -> bool:
        """Whether any rule is given."""
        return bool(self.max_events or self.max_dwell or self.min_click_dwell)


class BatchConfig(Section):
    """When pending rows become a micro-batch (`pipelines.batches.micro_batch`)."""

    min_rows: int = Field(1_000, ge=1, description="enough rows to be worth a version")
    max_rows: int = Field(8_192, ge=1, description="bounds the memory of a step")
    max_wait: DurationMs = Field(
        600_000, ge=0, description="10m of event time: the oldest row waits no longer"
    )

    @model_validator(mode="after")
    def _ordered(self) -> "BatchConfig":
        if self.max_rows < self.min_rows:
            raise ValueError(
                f"max_rows {self.max_rows} is below min_rows {self.min_rows}; raise it"
            )
        return self


class StoreConfig(Section):
    """What the store keeps (`models.store.store`)."""

    checkpoint_every: int = Field(
        20, ge=1, description="micro-batches between full checkpoints; a restart replays fewer"
    )
    snapshot_every: int = Field(
        20, ge=1, description="micro-batches between full embedding snapshots; deltas between"
    )
    keep_checkpoints: int = Field(2, ge=1, description="the newest and one to fall back on")
    keep_snapshots: int = Field(5, ge=1, description="as far back as a rollback may go")


class JobConfig(Section):
    """The whole job file."""

    features: FeatureConfig = Field(default_factory=FeatureConfig)
    clean: CleanConfig = Field(default_factory=CleanConfig)
    batch: BatchConfig = Field(default_factory=BatchConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    source: Any = Field(
        None, exclude=True, description="how a foreign log is read (`pipelines.read.mapping.spec`)"
    )
    identities: str | None = Field(
        None, exclude=True, description="file of who is who among the platforms' users"
    )
    source_name: str = Field("", exclude=True, description="of the preset, for messages")


def load_job(path: Path | None, overrides: dict[str, dict[str, Any]] | None = None) -> JobConfig:
    """Read a job file (TOML) and lay the command line's values over it.

    Args:
        path: the file; None for the defaults.
        overrides: section → field → value, as given on the command line.

    Raises:
        RequestError: the file is missing or not TOML, or a value is refused;
            the message names the field, the value received and the range.
    """
    tables: dict[str, Any] = {}
    if path is not None:
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RequestError(
                f"job file {path} cannot be read: {error.strerror}; check --config"
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RequestError(f"job file {path} is not TOML: {error}; mend that line") from None
    for section, fields in (overrides or {}).items():
        given = {name: value for name, value in fields.items() if value is not None}
        if given and isinstance(table := tables.get(section, {}), dict):
            tables[section] = {**table, **given}
    try:
        config = JobConfig.model_validate(tables)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = "there is no such setting"
        elif first["type"] == "model_type":
            message = f"it is a section: write [{where}] and its settings below it"
        raise RequestError(
            f"{where}: {message} (got {first['input']!r}); correct the job file or the option"
        ) from None
    _check(config)
    return _with_fingerprint(config)


def _check(config: JobConfig) -> None:
    """What no section can know by itself."""
    if "overlap" in config.model.model_fields_set:
        raise RequestError(
            f"model.overlap: it follows from [features] window (got {config.model.overlap!r}); "
            "leave it out of the job file"
        )
    step = config.features.window.tick_ms
    if config.clean.max_events and step % config.clean.per:
        raise RequestError(
            f"clean.per: {config.clean.per}ms does not divide {step}ms, the step in which events "
            f"of {config.features.window} are settled; choose a divisor of it"
        )
    check_extra(config.model.drift)


def _with_fingerprint(job: JobConfig) -> JobConfig:
    """With what the files of `model.text_model` are, so that a store can refuse others."""
    model = job.model
    if model.text_model is None:
        if model.text_model_sha256:
            raise RequestError(
                f"model.text_model_sha256 {model.text_model_sha256} is of no text_model: "
                "name that, too, or leave it out of the job file"
            )
        return job
    found, named = fingerprint(Path(model.text_model)), model.text_model_sha256
    if named and named != found:
        raise RequestError(
            f"model.text_model {model.text_model!r} has the fingerprint {found}, the job file "
            f"names {named}: correct either"
        )
    told = model.model_copy(update={"text_model_sha256": found})
    return job.model_copy(update={"model": told})
