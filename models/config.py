"""The model's part of the job file: frozen, validated; no TensorFlow here."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["DriftConfig", "HeadWeights", "ModelConfig", "Section"]


class Section(BaseModel):
    """A table of the job file: unknown keys and bad values are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DriftConfig(Section):
    """`[model.drift]`: what is done when the stream turns (`models.training.drift_detector`).

    Rows are trained on again by `models.training.rehearsal`.
    """

    detector: Literal["none", "adwin", "page_hinkley"] = Field(
        "none", description="of river, on the mean of 1 - NDCG@20; needs the extra 'drift'"
    )
    rows: int = Field(
        200, ge=1, description="predicted rows behind each value that the detector is given"
    )
    confidence: float = Field(
        0.002, gt=0, lt=1, description="adwin: chance of a false alarm that is put up with"
    )
    threshold: float = Field(
        0.5, gt=0, description="page_hinkley: summed rise of the loss that is an alarm"
    )
    batches: int = Field(10, ge=1, description="micro-batches for which a drift counts")
    replay: float = Field(
        1.0, ge=0, le=20, description="extra rows of the log for each row trained meanwhile"
    )
    limit: float = Field(
        0.1, ge=0, le=1, description="extra rows at most this share of all rows trained so far"
    )


class HeadWeights(Section):
    """`[model.head_weights]`: what each ranking head's loss weighs; 0 = it learns nothing."""

    click: float = Field(1.0, ge=0, le=100, description="clicked, of what was shown or clicked")
    like: float = Field(1.0, ge=0, le=100, description="liked, of what was liked or disliked")
    purchase: float = Field(1.0, ge=0, le=100, description="bought, of what was looked at")
    dwell: float = Field(1.0, ge=0, le=100, description="ln(1 + seconds)")
    rating: float = Field(1.0, ge=0, le=100, description="in the log's own units, standardised")


class ModelConfig(Section):
    """Shape, training and determinism of the retrieval + ranking model."""

    seed: int = Field(0, ge=0, le=2**52, description="seed of weights and of every draw")
    dim: int = Field(
        48,
        ge=4,
        le=512,
        description="width of the two towers' output; to change it, keep table_rate × dim",
    )

    # The user tower.
    sequence: Literal["transformer", "mean", "none"] = Field(
        "transformer",
        description="what says how much each past item counts, beside its place, type, age and "
        "dwell; mean: nothing, for a quarter less of a micro-batch (docs/training.md)",
    )
    history: int = Field(
        16, ge=1, le=200, description="newest past events that the tower reads; costs grow with it"
    )
    history_content: bool = Field(
        True,
        description="past items are read by their content, too: a new item like those that a "
        "user had is near them from its first event on",
    )
    attention_dim: int = Field(
        16,
        ge=4,
        le=512,
        description="width of the Transformer, to which past items are brought; 32 found no more "
        "on simulated streams, .6 % more on one log, for an eighth of a micro-batch",
    )
    attention_heads: int = Field(2, ge=1, le=16, description="of it; divides attention_dim")
    attention_layers: int = Field(1, ge=1, le=8, description="of the Transformer")
    attribute_buckets: int = Field(
        8_192, ge=16, le=2**24, description="rows of the hashed attribute and context values"
    )
    attributes: int = Field(32, ge=0, le=256, description="attributes of a user that are read")
    contexts: int = Field(16, ge=0, le=64, description="context entries of a row that are read")

    # The item tower.
    text_buckets: int = Field(16_384, ge=16, le=2**24, description="rows of the hashed subwords")
    text_tokens: int = Field(
        8,
        ge=0,
        le=512,
        description="categories and words of an item that are read, its duration beside them; "
        "0 = nothing of its content",
    )
    text_spread: float = Field(
        0.1,
        ge=0,
        le=1,
        description="standard deviation of a fresh word's vector: items that share words are "
        "near each other before anything is learned; 0 = words begin as nothing",
    )
    likeness_dim: int = Field(
        64,
        ge=0,
        le=1_024,
        description="columns of a served vector in which items that share rare words are alike, "
        "unlearned: what a user had finds new items by them at once; 0 = none",
    )
    likeness_fresh: float = Field(
        1.0,
        ge=0,
        le=100,
        description="by how much more likeness counts for an item without an event; halves at "
        "its third: then its own vector says more",
    )
    transition_dim: int = Field(
        64,
        ge=0,
        le=64,
        description="columns of a served vector in which counts of what followed what are kept, "
        "unlearned: what users go on to is found from the first time on; 0 = none",
    )
    text_model: str | None = Field(
        None,
        min_length=1,
        description="SavedModel folder or Keras file that turns strings into vectors; kept frozen",
    )
    text_model_sha256: str = Field(
        "",
        pattern="^([0-9a-f]{64})?$",
        description="of its files; filled in, so that a store refuses another model",
    )
    half_lives_h: tuple[float, ...] = Field(
        (1.0, 12.0),
        min_length=2,
        max_length=16,
        description="hours in which a decayed count halves; stream features, short to long, beside "
        "the count without decay (.25, 3 and 48 beside them bring nothing)",
    )
    start_half_life_h: float = Field(
        1.0, gt=0, description="the model starts as popularity with this half-life, in hours"
    )

    # Training.
    step_rows: int = Field(32, ge=1, le=65_536, description="rows of one padded training step")
    wide_rows: int = Field(
        256,
        ge=0,
        le=65_536,
        description="rows of a step while that many are left: a fifth of the cost a row; 0 = never",
    )
    negatives: int = Field(2_048, ge=1, le=2**20, description="items that a positive competes with")
    hot_share: float = Field(
        0.6, ge=0, le=1, description="of the negatives: the top items of the last hours, exactly"
    )
    hot_half_life_h: float = Field(12.0, gt=0, description="hours; what 'top' is counted over")
    table_rate: float = Field(0.075, gt=0, le=10, description="sparse Adagrad's rate on the tables")
    table_accumulator: float = Field(
        1e-5,
        gt=0,
        le=10,
        description="Adagrad's start: the lower, the more a row learns from its first few events; "
        "Keras' .1 learns too slowly from a stream",
    )
    dense_rate: float = Field(2e-3, gt=0, le=1, description="Adam's rate on the dense layers")
    passes: int = Field(1, ge=1, le=20, description="times a micro-batch is gone through")
    replay: float = Field(
        0.0, ge=0, le=20, description="rows of the log that are trained on again, for each new one"
    )
    replay_batches: int = Field(
        50, ge=1, le=100_000, description="newest micro-batches that rows are replayed from"
    )
    drift: DriftConfig = Field(default_factory=DriftConfig)
    confidence_power: float = Field(
        0.0, ge=0, le=1, description="a positive weighs confidence ** this; 0 = all the same"
    )
    dislike_weight: float = Field(
        0.5, ge=0, le=10, description="of a row that is a dislike and nothing better"
    )
    skip_weight: float = Field(
        0.1,
        ge=0,
        le=10,
        description="of a row that was shown and no more, or left within brief_dwell_s, as a "
        "dislike; neither brought anything on four simulated streams",
    )
    brief_dwell_s: float = Field(
        2.0, ge=0, le=86_400, description="seconds; who leaves a view sooner has skipped it"
    )
    head_weights: HeadWeights = Field(default_factory=HeadWeights)
    overlap: int = Field(
        1,
        ge=1,
        le=1_000,
        description="windows an event falls in, by features.window: a row weighs 1 / overlap",
    )

    # How it is computed.
    devices: int = Field(
        1, ge=1, le=64, description="accelerators (else processors) that share a step's rows"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32", description="of the towers; weights, loss and counts stay float32"
    )
    jit: bool = Field(
        False, description="compile the step with XLA; on a CPU it gains nothing (.92 to 1.03×)"
    )

    # What is kept.
    user_limit: int = Field(
        2**22, ge=4, le=2**30, description="users known at once; the longest silent go first"
    )
    item_limit: int = Field(
        2**20, ge=4, le=2**30, description="items known at once; the longest silent go first"
    )
    user_sightings: int = Field(
        1, ge=1, le=1_000, description="rows of a user before their id has a vector of its own"
    )
    item_sightings: int = Field(
        1, ge=1, le=1_000, description="rows of an item before its id has a vector of its own"
    )
    expiry_days: int = Field(
        0, ge=0, le=36_600, description="days without a row forget an id; 0 = only when full"
    )
    seen_per_user: int = Field(
        4_096, ge=1, le=2**20, description="newest items that are left out of a user's results"
    )
    key_limit: int = Field(
        2**14, ge=16, le=2**24, description="attribute and context values with a popularity"
    )
    key_pairs_limit: int = Field(
        2**17, ge=16, le=2**28, description="pairs (attribute or context value, item) counted"
    )
    refresh_turns: int = Field(
        16, ge=1, le=10_000, description="micro-batches in which every item's vector is renewed"
    )
    delta_limit: int = Field(
        4_096, ge=0, description="items beside those of the batch whose faded counts are published"
    )

    # Prediction and its baselines.
    evaluate: bool = Field(True, description="predict every micro-batch before training on it")
    baseline_half_lives_h: tuple[float, ...] = Field(
        (0.25, 0.5, 1.0, 2.0, 3.0, 6.0, 12.0, 24.0, 72.0, 168.0, 720.0, 2_160.0, 8_760.0),
        min_length=1,
        max_length=32,
        description="hours; the popularity baseline is the best of them and of no decay",
    )
    baseline_smoothing: tuple[float, ...] = Field(
        (1.0, 5.0, 20.0, 50.0, 100.0, 300.0),
        min_length=1,
        max_length=16,
        description="m of (T + m·p)/(R + m): how much popularity a transition is mixed with",
    )
    baseline_rows: int = Field(
        256, ge=1, description="rows of a micro-batch on which the baselines' grid is tuned"
    )
    transitions_limit: int = Field(
        2**20, ge=16, le=2**28, description="pairs (last item, next item) that are counted"
    )

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.attention_dim % self.attention_heads:
            raise ValueError(
                f"attention_dim {self.attention_dim} is not a multiple of attention_heads "
                f"{self.attention_heads}; change one"
            )
        for field in ("step_rows", "wide_rows"):
            if getattr(self, field) % self.devices:
                raise ValueError(
                    f"{field} {getattr(self, field)} cannot be shared evenly by devices "
                    f"{self.devices}; choose a multiple of it"
                )
        if list(self.half_lives_h) != sorted(set(self.half_lives_h)) or self.half_lives_h[0] <= 0:
            raise ValueError("half_lives_h must be above 0 and rise; reorder them")
        if min(self.baseline_half_lives_h) <= 0 or min(self.baseline_smoothing) <= 0:
            raise ValueError("baseline_half_lives_h and baseline_smoothing must be above 0")
        if self.drift.detector != "none" and not self.evaluate:
            raise ValueError(
                f"drift.detector {self.drift.detector!r} needs predictions; set evaluate = true"
            )
        for field in ("start_half_life_h", "hot_half_life_h"):
            if getattr(self, field) not in self.half_lives_h:
                raise ValueError(
                    f"{field} {getattr(self, field)} is not among half_lives_h; add it"
                )
        return self

    @property
    def stream_features(self) -> tuple[str, ...]:
        """Names of an item's stream features F, in the order of a served vector."""
        counts = tuple(f"log_count_{h:g}h" for h in self.half_lives_h)
        return (*counts, "log_count_ever", "age", "recency", "dislikes")

    @property
    def content_columns(self) -> int:
        """Table rows that describe an item: its duration's, then `text_tokens`."""
        return self.text_tokens and 1 + self.text_tokens

    @property
    def likeness(self) -> int:
        """What an item is like by its words; 0 where past items are read by id alone."""
        reads = self.text_tokens and self.history_content and self.sequence != "none"
        return self.likeness_dim if reads else 0

    @property
    def transitions(self) -> int:
        """What came before an item; 0 where no past is read."""
        return self.transition_dim if self.sequence != "none" else 0

    @property
    def fixed(self) -> int:
        """Width of t: columns of a served vector that are not learned."""
        return self.likeness + self.transitions

    @property
    def vector_dim(self) -> int:
        """Width of a served vector: `[v, b, F, t]` of an item, `[u, 1, w, q]` of a user."""
        return self.dim + 1 + len(self.stream_features) + self.fixed
