"""Runs any causal language model of the transformers library with its own continuous batching, on a CPU or with CUDA.

Takes a hub id, a folder, or a GGUF file (dequantized when it is read). The library decodes in a thread of its own and
releases the GIL while it computes; a step here collects what that thread has made.
"""

import queue
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    GenerationConfig,
    GgufConfig,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.generation.continuous_batching.cb_logits_processors import ContinuousBatchingLogitsProcessorList
from transformers.generation.continuous_batching.requests import GenerationOutput, RequestStatus
from transformers.utils import logging as library_logging

from generator.engines.base import EngineInfo, EngineRequest, NewTokens, Refused
from generator.engines.forms import Form, Forms
from generator.engines.token_choice import Choice, TokenChoice
from generator.requests import FinishReason
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager

_SAMPLING_FIELDS = frozenset({
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed", "stop", "stop_token_ids", "bad_words", "guidance", "time_limit",
})  # fmt: skip
_INT4: torch.dtype = vars(torch)["int4"]
_CPU_PAGE_TOKENS = 32
"""A prefix is reused in whole pages, so small ones reuse more; on CUDA the kernels want the library's own size."""
_CPU_KV_CACHE_GB, _CPU_BATCH_TOKENS = 0.75, 256
_CUDA_MEMORY_SHARE = 0.8
"""Of what is free, for the KV cache: choosing tokens needs several times the scores of a step beside it."""
_WAIT_S = 0.02
"""A step waits this long for a token, so that a cancel or a new request is not kept waiting longer."""


@dataclass
class _Running:
    """A request in the library's hands: the tokens that end it, how many were reported, how much of its prompt was cached."""

    ends: frozenset[int]
    reported: int = 0
    cached: int = 0


class TransformersEngine:
    """See `Engine`. `forms` makes what follows grammars, when the first request needs it."""

    def __init__(
        self, manager: "ContinuousBatchingManager", info: EngineInfo, stop_token_ids: frozenset[int],
        choice: TokenChoice, forms: Callable[[], Forms],
    ) -> None:  # fmt: skip
        self.info = info
        self._manager = manager
        self._stop_token_ids = stop_token_ids
        self._choice = choice
        self._make_forms = forms
        self._forms: Forms | None = None
        self._running: dict[int, _Running] = {}

    @property
    def busy(self) -> bool:
        """Whether a step has something to do."""
        return bool(self._running)

    def add(self, request: EngineRequest) -> Refused | None:
        """Hands a request to the library's queue."""
        forms = self._forms_of(request)
        if isinstance(forms, Refused):
            return forms
        ends = self._stop_token_ids | frozenset(request.sampling.stop_token_ids)
        self._choice.watch(str(request.id), Choice(request, ends, forms, self._manager.model.device))
        self._running[request.id] = _Running(ends)
        added = self._manager.add_request(
            list(request.prompt),
            request_id=str(request.id),
            max_new_tokens=request.max_tokens,
            streaming=True,
            eos_token_id=sorted(ends) or -1,
        )
        if added is None:
            raise RuntimeError("transformers' continuous batching has stopped")
        return None

    def cancel(self, request_id: int) -> None:
        """Frees the request's pages before the next forward pass."""
        if self._running.pop(request_id, None) is not None:
            self._choice.forget(str(request_id))
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
            return NewTokens(request_id, tokens, None, running.cached) if tokens else None
        del self._running[request_id]
        self._choice.forget(output.request_id)
        finish = FinishReason.STOP if tokens and tokens[-1] in running.ends else FinishReason.LENGTH
        return NewTokens(request_id, tokens, finish, running.cached)

    def _forms_of(self, request: EngineRequest) -> list[Form] | Refused:
        if not (request.sampling.guidance or request.sampling.bad_words):
            return []
        if self._forms is None:
            self._forms = self._make_forms()
        return self._forms.of(request)

    def watch_prefix_cache(self) -> None:
        """From now on, tells how many of a prompt's tokens the library finds in its cache when it takes a request up."""
        cache = cast("Any", self._manager.batch_processor).cache
        search = cache.search_prefix_match

        def counted(request_id: str, prompt: list[int]) -> int:
            found = search(request_id, prompt)
            running = self._running.get(int(request_id))
            if running is not None and not running.reported:  # later it finds what the request itself has left
                running.cached = found
            return found

        cache.search_prefix_match = counted


def load(
    path: str, device: str, dtype: str, quantization: str, kv_cache_gb: float | None, kv_values_a_token: int,
    context_tokens: int, max_running_requests: int, max_batch_tokens: int | None, stop_token_ids: frozenset[int],
    tokenizer: str, version: str,
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
    vocabulary = model.config.get_text_config().vocab_size
    choice = TokenChoice(vocabulary)
    manager = cast("Any", model).init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=sorted(stop_token_ids) or -1, pad_token_id=0),
        continuous_batching_config=_batching(
            target, kv_cache_gb, kv_values_a_token * model.dtype.itemsize, max_running_requests, max_batch_tokens
        ),
    )
    manager.logit_processor = _processors(choice)
    manager.start()
    info = EngineInfo("transformers", version, context_tokens, 0, _SAMPLING_FIELDS)
    forms = partial(Forms, tokenizer, vocabulary, stop_token_ids)
    engine = TransformersEngine(manager, info, stop_token_ids, choice, forms)
    _warm_up(engine)
    engine.watch_prefix_cache()
    cache = manager.batch_processor.cache
    kv_cache_tokens = (cache.num_blocks - 1) * manager.continuous_batching_config.page_size
    engine.info = replace(info, context_tokens=min(context_tokens, kv_cache_tokens), kv_cache_tokens=kv_cache_tokens)
    return engine


def _processors(choice: TokenChoice) -> ContinuousBatchingLogitsProcessorList:
    """In the place of the library's own: it makes room for the arguments of those that it converts itself, here for one."""
    processors = ContinuousBatchingLogitsProcessorList(LogitsProcessorList([cast("Any", choice)]))
    processors.tensors_required = 1
    return processors


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
    config.use_cuda_graph = config.use_async_batching = False  # see token_choice.py
    config.max_memory_percent = _CUDA_MEMORY_SHARE if device.type == "cuda" else None
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
