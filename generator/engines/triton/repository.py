"""Writes a Triton model repository that serves a checkpoint by TensorRT-LLM's `llmapi` model.

The checkpoint is read as far as can go wrong later on a GPU: its form, whether it can be cut for tensor parallelism, and how
it is quantized. Quantizing it is not done here: TensorRT-LLM's PyTorch path takes what ModelOpt has made.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any, Literal

from mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput, NotFound

Quantization = Literal["none", "fp8", "nvfp4", "int4_awq"]
KvCacheDtype = Literal["auto", "fp8", "nvfp4"]
MODEL = "tensorrt_llm"
_TEMPLATES = Path(__file__).parent / "templates"
_NAMES = {"w4a16_awq": "int4_awq", "awq": "int4_awq", "fp8": "fp8", "nvfp4": "nvfp4"}
"""What checkpoints call it, and we."""


@dataclass(frozen=True)
class Layout:
    """How the model is to lie on the GPUs. `kv_cache_share` is of the memory that is free once the weights are loaded."""

    tensor_parallel: int = 1
    quantization: Quantization | None = None
    kv_cache_share: float = 0.9
    kv_cache_dtype: KvCacheDtype = "auto"


def render(checkpoint: Path, on_server: str, layout: Layout, out: Path) -> list[Path]:
    """Writes the repository to `out`, whole or not at all, and returns its files. `on_server` is the checkpoint's path there.

    NotFound, InvalidInput or FailedPrecondition when the checkpoint cannot be served so; AlreadyExists when `out` holds files.
    """
    _check(checkpoint, layout)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AlreadyExists(f"{out} is there and not empty. Name another folder, or remove it.", field="out")
    files = files_of(on_server, layout)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".rendering-") as scratch:
        made = Path(scratch) / "made"
        for name, text in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        made.rename(out)
    return [out / name for name in files]


def files_of(on_server: str, layout: Layout) -> dict[str, str]:
    """The files of a repository by their names."""
    values = {
        "model": json.dumps(on_server, ensure_ascii=False),  # JSON is YAML
        "tensor_parallel": str(layout.tensor_parallel),
        "kv_cache_share": f"{layout.kv_cache_share:g}",
        "kv_cache_dtype": layout.kv_cache_dtype,
    }
    return {
        f"{MODEL}/config.pbtxt": _template("config.pbtxt"),
        f"{MODEL}/1/model.py": _template("model.py"),
        f"{MODEL}/1/model.yaml": Template(_template("model.yaml")).substitute(values),
    }


def start_command(repository: str, layout: Layout) -> str:
    """What starts Triton with it, inside NVIDIA's container."""
    launcher = "trtllm-llmapi-launch " if layout.tensor_parallel > 1 else ""
    return f"{launcher}tritonserver --model-repository {repository} --disable-auto-complete-config"


def _template(name: str) -> str:
    return (_TEMPLATES / name).read_text()


def _check(checkpoint: Path, layout: Layout) -> None:
    if layout.tensor_parallel < 1:
        raise InvalidInput(
            f"tensor_parallel is {layout.tensor_parallel}; it must be 1 or more.", field="tensor_parallel"
        )
    if not 0 < layout.kv_cache_share < 1:
        message = f"kv_cache_share is {layout.kv_cache_share:g}; it must be above 0 and below 1."
        raise InvalidInput(message, field="kv_cache_share")
    config = _json(checkpoint / "config.json", checkpoint)
    if not config.get("architectures"):
        raise InvalidInput(f"{checkpoint}/config.json names no architecture.", field="checkpoint")
    if not any(checkpoint.glob("*.safetensors")):
        raise NotFound(f"{checkpoint} holds no *.safetensors. TensorRT-LLM reads no other weights.", field="checkpoint")
    if not (checkpoint / "tokenizer_config.json").exists():
        raise NotFound(f"{checkpoint} holds no tokenizer: tokenizer_config.json is missing.", field="checkpoint")
    _check_heads(config, layout.tensor_parallel)
    _check_quantization(checkpoint, _quantization(checkpoint, config), layout.quantization)


def _check_heads(config: Mapping[str, Any], tensor_parallel: int) -> None:
    heads = config.get("num_attention_heads")
    if not isinstance(heads, int):
        return
    kv_heads = config.get("num_key_value_heads") or heads
    shared = kv_heads % tensor_parallel == 0 or tensor_parallel % kv_heads == 0
    if heads % tensor_parallel or not shared:
        fits = [str(n) for n in range(1, heads + 1) if heads % n == 0 and (kv_heads % n == 0 or n % kv_heads == 0)]
        raise InvalidInput(
            f"tensor_parallel is {tensor_parallel}; a model with {heads} heads and {kv_heads} for keys and values can be "
            f"cut into {', '.join(fits)}.",
            field="tensor_parallel",
        )


def _quantization(checkpoint: Path, config: Mapping[str, Any]) -> str:
    """Of ModelOpt's own file, or what Hugging Face's config has; `none` of a checkpoint that is not quantized."""
    own = checkpoint / "hf_quant_config.json"
    told = _json(own, checkpoint).get("quantization", {}) if own.exists() else config.get("quantization_config") or {}
    algorithm = str(told.get("quant_algo") or told.get("quant_method") or "none").lower()
    return _NAMES.get(algorithm, algorithm)


def _check_quantization(checkpoint: Path, found: str, wanted: Quantization | None) -> None:
    if wanted is None or wanted == found:
        return
    if wanted == "none":
        raise FailedPrecondition(f"{checkpoint} is quantized to {found}. Name the checkpoint that it was made from.")
    raise FailedPrecondition(
        f"{checkpoint} is not quantized to {wanted}, but {found}. Quantize it by ModelOpt (examples/llm_ptq: "
        f"scripts/huggingface_example.sh --model {checkpoint} --quant {wanted} --export_fmt hf) and name what it makes."
    )


def _json(path: Path, checkpoint: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise NotFound(f"{checkpoint} is no checkpoint: {path.name} is missing.", field="checkpoint") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}", field="checkpoint") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{path} holds no JSON object.", field="checkpoint")
    return found
