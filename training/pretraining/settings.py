"""The settings of a pretraining run. What cannot be, or contradicts itself, is refused when they are made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mesh.errors import InvalidInput
from mesh.settings import problems
from training.presets import Shape, shape_of
from training.toml_files import read_toml_with

FREE = {
    "micro_batch", "compile", "log_every_steps", "eval_every_steps", "checkpoint_every_steps", "keep_last",
    "keep_every_steps", "sample_every_steps", "sample_prompts", "sample_tokens", "tensorboard", "wandb", "parallel",
    "data", "activation_checkpointing",
}  # fmt: skip
"""What may be another when a run goes on: the loss does not depend on it. `data` is known by its fingerprint."""


class PretrainSettings(BaseModel):
    """Defaults train a toy on a laptop."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(description="Folder of token shards.")
    preset: str = Field(default="nano", description="Shape of the model: nano, small, medium, 1b, 2b or 7b.")
    hidden: int | None = Field(default=None, ge=32, description="Instead of the preset's, as the next six.")
    layers: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    feed_forward: int | None = Field(default=None, ge=32)
    context_tokens: int | None = Field(default=None, ge=8)
    tied_embeddings: bool | None = None

    steps: int = Field(ge=1, description="Optimizer steps.")
    batch_sequences: int = Field(default=32, ge=1, description="Sequences a step, over all processes.")
    micro_batch: int = Field(default=8, ge=1, description="Sequences a process computes at once; the rest accumulates.")
    sequence_tokens: int | None = Field(default=None, ge=8, description="Tokens a sequence; the model's context.")
    document_masks: bool = Field(default=True, description="Documents of a sequence do not see each other.")

    learning_rate: float = Field(default=1e-3, gt=0)
    lowest_rate: float = Field(default=0.1, ge=0, le=1, description="At the end, as a share of learning_rate.")
    schedule: Literal["cosine", "wsd"] = "cosine"
    decay_share: float = Field(default=0.2, gt=0, le=1, description="Of the steps, wsd only.")
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=0.1, ge=0, description="On matrices.")
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    clip_norm: float = Field(default=1.0, gt=0, description="The gradient's norm at most.")
    seed: int = Field(default=1, ge=0)

    precision: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto: bfloat16 on CUDA.")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    parallel: Literal["ddp", "fsdp"] = Field(default="ddp", description="Between several processes.")
    compile: bool = Field(default=False, description="torch.compile.")
    activation_checkpointing: bool = Field(default=False, description="Less memory, a third more time.")

    log_every_steps: int = Field(default=1, ge=1)
    eval_every_steps: int = Field(default=200, ge=1)
    eval_sequences: int = Field(default=64, ge=1)
    checkpoint_every_steps: int = Field(default=500, ge=1)
    keep_last: int = Field(default=2, ge=1, description="Checkpoints kept, beside the best one.")
    keep_every_steps: int = Field(default=0, ge=0, description="These are kept too; 0: none.")
    sample_every_steps: int = Field(default=0, ge=0, description="0: no samples.")
    sample_prompts: tuple[str, ...] = ("The",)
    sample_tokens: int = Field(default=48, ge=1)
    tensorboard: bool = True
    wandb: Literal["off", "offline", "online"] = "off"

    @property
    def shape(self) -> Shape:
        """The model's shape."""
        return shape_of(
            self.preset, hidden=self.hidden, layers=self.layers, heads=self.heads, kv_heads=self.kv_heads,
            feed_forward=self.feed_forward, context_tokens=self.context_tokens, tied_embeddings=self.tied_embeddings,
        )  # fmt: skip

    @property
    def length(self) -> int:
        """Tokens a sequence."""
        return self.sequence_tokens or self.shape.context_tokens

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        try:
            shape = self.shape
        except InvalidInput as error:
            raise ValueError(error.message) from error
        if self.length > shape.context_tokens:
            raise ValueError(
                f"sequence_tokens is {self.length}, beyond the model's context_tokens, {shape.context_tokens}."
            )
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps is {self.warmup_steps}; it must be less than steps, {self.steps}.")
        if self.batch_sequences % self.micro_batch:
            raise ValueError(
                f"batch_sequences, {self.batch_sequences}, is no multiple of micro_batch, {self.micro_batch}."
            )
        if self.schedule == "cosine" and "decay_share" in self.model_fields_set:
            raise ValueError("decay_share is set, which the schedule cosine does not have.")
        return self

    def of_the_curve(self) -> dict[str, Any]:
        """What the loss curve depends on, beside the data."""
        return self.model_dump(mode="json", exclude=FREE)


def pretrain_settings(**values: Any) -> PretrainSettings:
    """InvalidInput with a line for all that is wrong."""
    try:
        return PretrainSettings(**values)
    except ValidationError as error:
        raise InvalidInput(problems(error)) from error


def read_settings(path: Path, changes: Sequence[str] = ()) -> PretrainSettings:
    """From a TOML file; `changes` are of the form `steps=100`. NotFound for no file; InvalidInput for what is wrong in it."""
    return pretrain_settings(**read_toml_with(path, changes))
