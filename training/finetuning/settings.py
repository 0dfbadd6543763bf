"""The settings of a fine-tuning run. What cannot be, or contradicts itself, is refused when they are made."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mesh.errors import InvalidInput
from mesh.settings import problems


class FinetuneSettings(BaseModel):
    """Defaults fine-tune all weights of a small model on chats."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(description="A checkpoint, a folder in Hugging Face's form, or a GGUF file.")
    tokenizer: Path | None = Field(default=None, description="The tokenizer's folder, where the model's has none.")
    data: tuple[Path, ...] = Field(min_length=1, description="JSON lines: chats, instructions, or preferences.")
    method: Literal["sft", "dpo"] = Field(default="sft", description="On answers, or on preferences between two.")

    epochs: float = Field(default=1.0, gt=0)
    steps: int | None = Field(default=None, ge=1, description="Instead of epochs.")
    batch_rows: int = Field(default=8, ge=1, description="Rows a step.")
    micro_batch: int = Field(default=4, ge=1, description="Rows computed at once; the rest accumulates.")
    max_tokens: int = Field(
        default=1024, ge=16, description="Of a row; longer ones are left out, as cut answers teach to stop."
    )
    learning_rate: float = Field(default=2e-5, gt=0)
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)
    validation_share: float = Field(default=0.05, ge=0, lt=0.5)
    seed: int = Field(default=1, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="auto: bfloat16 on CUDA.")
    device: Literal["auto", "cpu", "cuda"] = "auto"

    lora_rank: int = Field(default=0, ge=0, description="0: all weights are trained.")
    lora_alpha: int = Field(default=32, ge=1)
    lora_dropout: float = Field(default=0.0, ge=0, lt=1)
    quantize: Literal["none", "nf4"] = Field(
        default="none", description="nf4: QLoRA, which needs CUDA and bitsandbytes."
    )
    dpo_beta: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        given = self.model_fields_set
        if self.batch_rows % self.micro_batch:
            raise ValueError(f"batch_rows, {self.batch_rows}, is no multiple of micro_batch, {self.micro_batch}.")
        if self.steps is not None and "epochs" in given:
            raise ValueError("steps and epochs are both set; set one of them.")
        if not self.lora_rank and (unused := given & {"lora_alpha", "lora_dropout"}):
            raise ValueError(f"{min(unused)} is set, and lora_rank is 0: nothing would use it.")
        if self.quantize != "none" and not self.lora_rank:
            raise ValueError(
                "quantize is set, and lora_rank is 0: quantized weights cannot be trained, only a LoRA over them."
            )
        if self.method == "sft" and "dpo_beta" in given:
            raise ValueError("dpo_beta is set, which the method sft does not have.")
        return self


def finetune_settings(**values: Any) -> FinetuneSettings:
    """InvalidInput with a line for all that is wrong."""
    try:
        return FinetuneSettings(**values)
    except ValidationError as error:
        raise InvalidInput(problems(error)) from error
