"""The generator's settings."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from mesh.settings import ServiceSettings


class GeneratorSettings(ServiceSettings):
    """Defaults serve a small real model on a CPU."""

    service: ClassVar[str] = "generator"

    model: str = Field(
        default="smollm2-135m-instruct",
        description="What `murphey models pull` fetches, or a folder, a GGUF file or a hub id.",
    )
    serve_as: str = Field(default="", description="The model's id in `models/{id}`; the default is made from `model`.")
    engine: Literal["auto", "openvino", "transformers"] = Field(
        default="auto", description="auto: openvino for GGUF files and OpenVINO IR on a CPU, transformers otherwise."
    )
    device: str = Field(
        default="auto", description="auto, cpu, cuda, cuda:1 …; auto takes a CUDA device where there is one."
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="transformers engine only."
    )
    quantization: Literal["none", "int8", "int4"] = Field(
        default="none", description="Weights; transformers engine only."
    )
    kv_cache_gb: float | None = Field(
        default=None,
        gt=0,
        description="Memory for keys and values, in 10^9 bytes; by default 0.75 on a CPU, what is free on CUDA.",
    )
    context_tokens: int | None = Field(
        default=None, ge=2, description="Less than the model's own context, to save memory."
    )
    max_running_requests: int = Field(default=64, ge=1, description="Requests that are decoded at the same time.")
    max_pending_tokens: int = Field(
        default=131_072,
        ge=1,
        description="Tokens, prompt and completion, of running and waiting requests; refused beyond.",
    )
    max_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Tokens a step at most: a longer prompt is split, so that others go on. 256 on a CPU.",
    )

    @property
    def prepared(self) -> Path:
        """Where tokenizers and templates of models are kept."""
        return self.models / ".prepared"
