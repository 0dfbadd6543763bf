"""The settings of one model: what it is, which engine runs it, and where its servers are."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

_OF_AN_ENGINE_HERE = ("device", "dtype", "quantization", "kv_cache_gb", "max_batch_tokens")
_OF_SERVERS = (
    "urls",
    "api_key",
    "dialect",
    "tokenizer",
    "revision",
    "connect_timeout_s",
    "silence_timeout_s",
    "health_interval_s",
)


class ModelSettings(BaseModel):
    """Defaults serve a small real model on a CPU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        default="smollm2-135m-instruct",
        description="What `murphey models pull` fetches, or a folder, a GGUF file or a hub id; with the engine openai "
        "the model's name on its servers.",
    )
    engine: Literal["auto", "openvino", "transformers", "openai"] = Field(
        default="auto",
        description="auto: openvino for GGUF files and OpenVINO IR on a CPU, transformers otherwise. openai: vLLM, "
        "trtllm-serve or any OpenAI-compatible server.",
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
        default=None,
        ge=2,
        description="Less than the model's own context, to save memory; what it is, where its servers do not tell.",
    )
    max_running_requests: int = Field(default=64, ge=1, description="Requests that are decoded at the same time.")
    max_pending_tokens: int = Field(
        default=131_072,
        ge=1,
        description="Tokens, prompt and completion, of running and waiting requests; refused beyond.",
    )
    max_wait_s: float = Field(
        default=60.0, ge=0, description="How long a request waits for a place at most before it is refused."
    )
    batch_share: float = Field(
        default=0.5, gt=0, le=1, description="Part of max_running_requests that the priority batch may take."
    )
    max_batch_tokens: int | None = Field(
        default=None,
        ge=16,
        description="Tokens a step at most: a longer prompt is split, so that others go on. 256 on a CPU.",
    )
    urls: tuple[str, ...] = Field(
        default=(),
        description="openai engine: base URLs of the model's servers, such as http://gpu-1:8000/v1; they share the load.",
    )
    api_key: SecretStr | None = Field(default=None, description="openai engine: sent as the bearer token.")
    dialect: Literal["auto", "vllm", "trtllm", "openai", "plain"] = Field(
        default="auto",
        description="openai engine: the kind of server, which decides what may be asked of it; auto asks it.",
    )
    tokenizer: str = Field(
        default="",
        description="openai engine: the model's tokenizer as a folder, GGUF file or hub id; counts without asking the "
        "servers, and keeps control tokens in documents from being read as such.",
    )
    revision: str = Field(
        default="",
        description="openai engine: a name for the weights that the servers have now; a part of the version.",
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, description="openai engine: for a connection to a server.")
    silence_timeout_s: float = Field(
        default=120.0, gt=0, description="openai engine: a server that sends nothing for so long has failed."
    )

    health_interval_s: float = Field(
        default=5.0, gt=0, description="openai engine: how often servers are asked how they are."
    )

    @field_validator("urls")
    @classmethod
    def _base_urls(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(_base_url(url) for url in urls))

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Settings that only another engine has are a mistake, not a wish."""
        wrong = _OF_AN_ENGINE_HERE if self.engine == "openai" else _OF_SERVERS
        for name in wrong:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is set, which the engine {self.engine} does not have.")
        if self.engine == "openai" and not (self.urls and "model" in self.model_fields_set):
            raise ValueError("the engine openai needs urls, and model: the name that its servers know.")
        return self


def _base_url(url: str) -> str:
    """Without a slash at the end, and with /v1 where it has no path. ValueError when it cannot be one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{parts.scheme or url}: a URL is http:// or https://, a host, and at most a path.")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the URL of {parts.hostname} holds a password; set api_key.")
    path = parts.path.rstrip("/") or "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"
