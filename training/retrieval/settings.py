"""The settings of training a retrieval model."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mesh.errors import InvalidInput
from mesh.settings import problems


class RetrievalSettings(BaseModel):
    """Defaults fine-tune a small model on a CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["embedder", "reranker"] = Field(description="What is trained.")
    model: str = Field(description="A sentence-transformers model or any encoder: a folder or hub id.")
    triples: Path = Field(description="JSON lines of questions with positive and negative passages.")
    epochs: float = Field(default=1.0, gt=0)
    batch_rows: int = Field(default=16, ge=2, description="An embedder also contrasts the rows of a batch.")
    learning_rate: float = Field(default=2e-5, gt=0)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    max_tokens: int = Field(default=256, ge=8, description="Of question and passage, each for an embedder.")
    seed: int = Field(default=1, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"


def retrieval_settings(**values: Any) -> RetrievalSettings:
    """InvalidInput with a line for all that is wrong."""
    try:
        return RetrievalSettings(**values)
    except ValidationError as error:
        raise InvalidInput(problems(error)) from error
