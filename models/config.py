"""The model's part of the job file: frozen, validated; no TensorFlow here."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ModelConfig", "Section"]


class Section(BaseModel):
    """A table of the job file: unknown keys and bad values are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(Section):
    """Shape, training and determinism of the retrieval + ranking model."""

    seed: int = Field(0, ge=0, description="seed of weights and of every draw")
    dim: int = Field(32, ge=4, le=512, description="width of the two towers' output")
