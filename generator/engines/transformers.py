"""Runs any causal language model of the transformers library with its own continuous batching, on a CPU or with CUDA.

Takes a hub id, a folder, or a GGUF file (dequantized when it is read). The library decodes in a thread of its own and
releases the GIL while it computes; a step here collects what that thread has made.
"""

import queue
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig, GgufConfig, PreTrainedModel
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus
from transformers.utils import logging as library_logging

from generator.engines.base import EngineInfo, EngineRequest, NewTokens, Refused
from generator.requests import FinishReason, Sampling
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager

_SAMPLING_FIELDS = frozenset({
    "max_tokens", "temperature", "top_p", "top_k", "stop", "stop_token_ids", "time_limit",
})  # fmt: skip
_INT4: torch.dtype = vars(torch)["int4"]
_CPU_PAGE_TOKENS = 32
"""A prefix is reused in whole pages, so small ones reuse more; on CUDA the kernels want the library's own size."""
_CPU_KV_CACHE_GB, _CPU_BATCH_TOKENS = 0.75, 256
_WAIT_S = 0.02
"""A step waits this long for a token, so that a cancel or a new request is not kept waiting longer."""


@dataclass
class _Running:
    """A request in the library's hands: the tokens that end it, and how many were reported."""

    ends: frozenset[int]
    reported: int = 0


class TransformersEngine:
    """See `Engine`."""

    def __init__(
        self, manager: "ContinuousBatchingManager", info: EngineInfo, stop_token_ids: frozenset[int], vocabulary: int
    ) -> None:
        self.info = info
        self._manager = manager
        self._stop_token_ids = stop_token_ids
        self._vocabulary = vocabulary
        self._running: dict[int, _Running] = {}

    @property
    def busy(self) -> bool:
        """Whether a step has something to do."""
        return bool(self._running)

    def add(self, request: EngineRequest) -> Refused | None:
        """Hands a request to the library's queue."""
        ends = self._stop_token_ids | frozenset(request.sampling.stop_token_ids)
        added = self._manager.add_request(
            list(request.prompt),
            request_id=str(request.id),
            max_new_tokens=request.max_tokens,
            streaming=True,
            eos_token_id=sorted(ends) or -1,
            **_warpers(request.sampling, self._vocabulary),
        )
        if added is None:
            raise RuntimeError("transformers' continuous batching has stopped")
        self._running[request.id] = _Running(ends)
        return None

    def cancel(self, request_id: int) -> None:
        """Frees the request's pages before the next forward pass."""
        if self._running.pop(request_id, None) is not None:
            self._manager.cancel_request(str(request_id))

    def step(self) -> list[NewTokens | Refused]:
        """What was decoded since the last step; waits a moment for it."""
        fresh = self._manager.output_router.output_queue
        try:
            outputs = [fresh.get(timeout=_WAIT_S)]
        except queue.Empty:
            if not self._manager.is_running():
                raise RuntimeError("transformers' continuous batching has stopped") from None
            return []
        while not fresh.empty():
            outputs.append(fresh.get_nowait())
        latest = {output.request_id: output for output in outputs}  # each holds all tokens so far
        return [new for output in latest.values() if (new := self._news(output))]

    def close(self) -> None:
        """Ends the library's thread."""
        self._manager.stop(block=True, hard_stop=True)

    def _news(self, output: GenerationOutput) -> NewTokens | None:
        request_id = int(output.request_id)
        running = self._running.get(request_id)
        if running is None:  # cancelled
            return None
        if output.status == RequestStatus.FAILED:
            raise RuntimeError(f"transformers' continuous batching failed: {output.error}")
        tokens = output.generated_tokens[running.reported :]
        running.reported += len(tokens)
        if not output.is_finished():
            return NewTokens(request_id, tokens) if tokens else None
        del self._running[request_id]
        ended_itself = bool(tokens) and tokens[-1] in running.ends
        return NewTokens(request_id, tokens, FinishReason.STOP if ended_itself else FinishReason.LENGTH)


def _warpers(sampling: Sampling, vocabulary: int) -> dict[str, Any]:
    """A request's logit warpers. The library samples for all requests or for none: greedy is the best one token."""
    if not sampling.temperature:
        return {"temperature": 1.0, "top_k": 1, "top_p": 1.0}
    top_k = min(sampling.top_k or vocabulary, vocabulary)
    return {"temperature": float(sampling.temperature), "top_k": top_k, "top_p": float(sampling.top_p or 1.0)}


def load(
    path: str, device: str, dtype: str, quantization: str, kv_cache_gb: float | None, kv_values_a_token: int,
    context_tokens: int, max_running_requests: int, max_batch_tokens: int | None, stop_token_ids: frozenset[int],
    version: str,
) -> TransformersEngine:  # fmt: skip
    """Loads a model and runs it once. `kv_values_a_token` is how many numbers a token leaves in the KV cache.

    On CUDA the cache takes what the library finds free unless `kv_cache_gb` says how much. InvalidInput when the cache has
    no room for one request, or when the device or quantization is not to be had.
    """
    library_logging.disable_progress_bar()
    target = torch.device(_device(device))
    model = load_model(path, target, _dtype(dtype, target))
    if quantization != "none":
        quantize(model, quantization)
    manager = cast("Any", model).init_continuous_batching(
        generation_config=GenerationConfig(  # values that differ from the defaults make the warpers exist
            do_sample=True,
            temperature=0.9,
            top_k=50,
            top_p=0.9,
            eos_token_id=sorted(stop_token_ids) or -1,
            pad_token_id=0,
        ),
        continuous_batching_config=_batching(
            target, kv_cache_gb, kv_values_a_token * model.dtype.itemsize, max_running_requests, max_batch_tokens
        ),
    )
    manager.start()
    vocabulary = model.config.get_text_config().vocab_size
    info = EngineInfo("transformers", version, context_tokens, 0, _SAMPLING_FIELDS)
    engine = TransformersEngine(manager, info, stop_token_ids, vocabulary)
    _warm_up(engine)
    cache = manager.batch_processor.cache
    kv_cache_tokens = (cache.num_blocks - 1) * manager.continuous_batching_config.page_size
    engine.info = replace(info, context_tokens=min(context_tokens, kv_cache_tokens), kv_cache_tokens=kv_cache_tokens)
    return engine


def load_model(path: str, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The model on its device; a GGUF file's weights are dequantized."""
    options: dict[str, Any] = {"dtype": dtype, "device_map": str(device)}
    if path.endswith(".gguf"):
        options["quantization_config"] = GgufConfig(dequantize=True)
        options["gguf_file"] = Path(path).name
        path = str(Path(path).parent)
    return AutoModelForCausalLM.from_pretrained(path, **options).eval()


def quantize(model: PreTrainedModel, quantization: str) -> None:
    """Weights to 8 or 4 bits in place, by torchao; the embedding and the head stay as they are."""
    from torchao.quantization import (
        Int4WeightOnlyConfig,
        Int8WeightOnlyConfig,
        IntxWeightOnlyConfig,
        PerGroup,
        quantize_,
    )

    if quantization == "int8":
        quantize_(model.model, Int8WeightOnlyConfig())
    elif model.device.type == "cuda":
        quantize_(model.model, Int4WeightOnlyConfig(group_size=32))
    else:  # the fast 4-bit kernels are CUDA's
        quantize_(model.model, IntxWeightOnlyConfig(weight_dtype=_INT4, granularity=PerGroup(32)))


def _batching(
    device: torch.device, kv_cache_gb: float | None, kv_bytes_a_token: int, max_running_requests: int,
    max_batch_tokens: int | None,
) -> ContinuousBatchingConfig:  # fmt: skip
    config = ContinuousBatchingConfig(max_requests_per_batch=max_running_requests, max_batch_tokens=max_batch_tokens)
    config.per_request_processors = True
    if device.type == "cpu":
        config.page_size = _CPU_PAGE_TOKENS
        config.max_batch_tokens = max_batch_tokens or _CPU_BATCH_TOKENS
        kv_cache_gb = kv_cache_gb or _CPU_KV_CACHE_GB
    if kv_cache_gb is not None:
        config.num_blocks = int(kv_cache_gb * 1e9 / (kv_bytes_a_token * config.page_size))
        if config.num_blocks < 4:
            needed = 4 * kv_bytes_a_token * config.page_size / 1e9
            raise InvalidInput(
                f"kv_cache_gb is {kv_cache_gb}; this model needs {needed:.3f} at least.", field="kv_cache_gb"
            )
    return config


def _device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InvalidInput(f"device is {device}, but torch finds no CUDA device here.", field="device")
    return device


def _dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the hardware computes in it, else float32."""
    if dtype != "auto":
        return getattr(torch, dtype)
    native = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _warm_up(engine: TransformersEngine) -> None:
    engine.add(EngineRequest(0, (1, 2, 3, 4), 2))
    while engine.busy:
        engine.step()
