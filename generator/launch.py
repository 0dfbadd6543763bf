"""Which engine runs a model, and with which options; the engine's own libraries are not loaded here."""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Any

from generator.engines.base import EngineLaunch
from generator.model_settings import ModelSettings
from generator.prepare import PreparedModel, fingerprint
from mesh.errors import InvalidInput


async def engine_launch(settings: ModelSettings, source: Path | str, prepared: PreparedModel) -> EngineLaunch:
    """InvalidInput when the settings ask for what the engine cannot do."""
    engine = choose_engine(settings, source)
    weights = prepared.card.source_version or await asyncio.to_thread(fingerprint, source)
    options = {
        "path": str(source),
        "kv_cache_gb": settings.kv_cache_gb,
        "context_tokens": min(prepared.card.context_tokens, settings.context_tokens or prepared.card.context_tokens),
        "max_running_requests": settings.max_running_requests,
        "max_batch_tokens": settings.max_batch_tokens,
        "stop_token_ids": frozenset(prepared.card.stop_token_ids),
    }
    add = _openvino_options if engine == "openvino" else _transformers_options
    options |= add(settings, prepared, weights)
    return EngineLaunch(
        f"generator.engines.{engine}:load", options, str(prepared.tokenizer), frozenset(prepared.card.stop_token_ids)
    )


def choose_engine(settings: ModelSettings, source: Path | str) -> str:
    """`auto`: openvino where it can read the model and a CPU is to run it."""
    if settings.engine != "auto":
        return settings.engine
    readable = isinstance(source, Path) and (source.suffix == ".gguf" or (source / "openvino_model.xml").is_file())
    plain = settings.dtype == "auto" and settings.quantization == "none"
    on_cpu = settings.device == "cpu" or (settings.device == "auto" and not Path("/dev/nvidiactl").exists())
    return "openvino" if readable and plain and on_cpu else "transformers"


def _openvino_options(settings: ModelSettings, prepared: PreparedModel, weights: str) -> dict[str, Any]:
    for field in ("dtype", "quantization"):
        if getattr(settings, field) not in ("auto", "none"):
            message = (
                f"{field} is {getattr(settings, field)}; the openvino engine runs a model's weights as they are stored."
            )
            raise InvalidInput(message, field=field)
    card = prepared.card
    return {
        "device": "cpu" if settings.device == "auto" else settings.device,
        "kv_heads_total": card.layers * card.kv_heads,
        "head_size": card.head_size,
        "version": f"{weights}-openvino-{version('openvino-genai')}",
    }


def _transformers_options(settings: ModelSettings, prepared: PreparedModel, weights: str) -> dict[str, Any]:
    card = prepared.card
    return {
        "device": settings.device,
        "tokenizer": str(prepared.tokenizer),
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "kv_values_a_token": 2 * card.layers * card.kv_heads * card.head_size,
        "version": f"{weights}-transformers-{version('transformers')}-{settings.dtype}-{settings.quantization}",
    }
