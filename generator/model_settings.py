"""The settings of one model: what it is, which engine runs it, and where its servers are."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

REMOTE_ENGINES = ("openai", "triton")
"""Those whose models are behind servers of their own."""
_SCHEMES = {"openai": ("http", "https"), "triton": ("grpc", "grpcs")}
_TRITON_PORT = 8001
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
        description="What `murphey models pull` fetches, or a folder, a GGUF file or a hub id; with the engines openai "
        "and triton the model's name on its servers.",
    )
    engine: Literal["auto", "openvino", "transformers", "openai", "triton"] = Field(
        default="auto",
        description="auto: openvino for GGUF files and OpenVINO IR on a CPU, transformers otherwise. openai: vLLM, "
        "trtllm-serve or any OpenAI-compatible server. triton: TensorRT-LLM or vLLM in NVIDIA Triton, over gRPC.",
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
        description="openai and triton engines: the model's servers, which share the load: base URLs such as "
        "http://gpu-1:8000/v1; for triton grpc://gpu-1:8001, or grpcs:// with TLS, each one server.",
    )
    api_key: SecretStr | None = Field(default=None, description="openai and triton engines: sent as the bearer token.")
    dialect: Literal["auto", "vllm", "trtllm", "openai", "plain"] = Field(
        default="auto",
        description="openai engine: the kind of server, which decides what may be asked of it; auto asks it.",
    )
    tokenizer: str = Field(
        default="",
        description="openai and triton engines: the model's tokenizer as a folder, GGUF file or hub id; counts without "
        "asking the servers, and keeps control tokens in documents from being read as such. triton needs it: it also has "
        "the chat template and the context.",
    )
    revision: str = Field(
        default="",
        description="openai and triton engines: a name for the weights that the servers have now; a part of the version.",
    )
    connect_timeout_s: float = Field(
        default=5.0, gt=0, description="openai and triton engines: for a connection to a server."
    )
    silence_timeout_s: float = Field(
        default=120.0,
        gt=0,
        description="openai and triton engines: a server that sends nothing for so long has failed.",
    )

    health_interval_s: float = Field(
        default=5.0, gt=0, description="openai and triton engines: how often servers are asked how they are."
    )

    @field_validator("urls")
    @classmethod
    def _base_urls(cls, urls: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        engine = info.data.get("engine")
        return tuple(dict.fromkeys(_base_url(url, engine if engine == "triton" else "openai") for url in urls))

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        """Settings that only another engine has are a mistake, not a wish."""
        remote = self.engine in REMOTE_ENGINES
        wrong = _OF_AN_ENGINE_HERE if remote else _OF_SERVERS
        wrong += ("dialect",) if self.engine == "triton" else ()
        for name in wrong:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name} is set, which the engine {self.engine} does not have.")
        if remote and not (self.urls and "model" in self.model_fields_set):
            raise ValueError(f"the engine {self.engine} needs urls, and model: the name that its servers know.")
        if self.engine == "triton" and not self.tokenizer:
            raise ValueError("the engine triton needs tokenizer: a folder, a GGUF file or a hub id of the model.")
        return self


def _base_url(url: str, engine: str) -> str:
    """An openai one without a slash at the end, and with /v1 where it has no path; a triton one with its port."""
    parts, schemes = urlsplit(url), _SCHEMES[engine]
    if parts.scheme not in schemes or not parts.hostname or parts.query or parts.fragment:
        path = " and nothing else" if engine == "triton" else ", and at most a path"
        raise ValueError(f"{parts.scheme or url}: a URL is {schemes[0]}:// or {schemes[1]}://, a host{path}.")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"the URL of {parts.hostname} holds a password; set api_key.")
    path = parts.path.rstrip("/")
    if engine == "openai":
        return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"
    if path:
        raise ValueError(f"the URL of {parts.hostname} holds a path; a Triton server's is grpc://HOST:PORT.")
    return f"{parts.scheme}://{parts.netloc if parts.port else f'{parts.netloc}:{_TRITON_PORT}'}"
