"""Runs a model with openvino-genai's continuous batching: paged KV cache, prefix caching, prompts split over steps.

Takes a GGUF file or a folder with OpenVINO IR. Loaded in the worker's process only: a step holds the GIL.
"""

import random
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as ov_genai
from openvino_genai.py_openvino_genai import GenerationHandle

from generator.engines.base import EngineInfo, EngineRequest, NewTokens, Refused
from generator.engines.grammars import grammar_without, last_line, refused_form
from generator.requests import FinishReason, Guidance, Sampling
from mesh.errors import InvalidInput

_SAMPLING_FIELDS = frozenset({
    "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed", "stop", "stop_token_ids", "bad_words", "guidance", "time_limit",
})  # fmt: skip
_KV_CACHE_GB, _BATCH_TOKENS = 0.75, 256
_REMEMBERED_FORMS = 256
_BLOCK_TOKENS = 32
_BYTES_A_HEAD = 12
"""Of scale and zero point beside a head's 8-bit values; seen with SmolLM2-135M: 437,760 bytes a block of 32 tokens."""
_FINISH = {
    ov_genai.GenerationFinishReason.STOP: FinishReason.STOP,
    ov_genai.GenerationFinishReason.LENGTH: FinishReason.LENGTH,
}


class OpenVinoEngine:
    """See `Engine`.

    A form (guidance) that xgrammar cannot compile makes the pipeline's step fail in the middle of its scheduling, and what
    else runs then is lost. So a form that was not seen before is tried alone: what runs ends first, what comes waits until
    the form has brought its first token.
    """

    def __init__(
        self, pipeline: ov_genai.ContinuousBatchingPipeline, info: EngineInfo, stop_token_ids: frozenset[int]
    ) -> None:
        self.info = info
        self._pipeline = pipeline
        self._stop_token_ids = stop_token_ids
        self._handles: dict[int, GenerationHandle] = {}
        self._held: deque[EngineRequest] = deque()
        self._tried: EngineRequest | None = None
        self._proven: set[Guidance] = set()

    @property
    def busy(self) -> bool:
        """Whether a step has something to do."""
        return bool(self._held) or self._pipeline.has_non_finished_requests()

    def add(self, request: EngineRequest) -> Refused | None:
        """Takes a request up at the next step, or later when a form is tried."""
        if request.sampling.bad_words and request.sampling.guidance:
            message = "sampling.bad_words and sampling.guidance are both set; the engine openvino follows one of them."
            return Refused(request.id, message, "sampling.bad_words")
        if self._held or self._tried or self._unproven(request):
            self._held.append(request)
            return None
        return self._add(request)

    def cancel(self, request_id: int) -> None:
        """Frees the request's blocks at the next step."""
        self._held = deque(request for request in self._held if request.id != request_id)
        if handle := self._handles.pop(request_id, None):
            handle.cancel()

    def step(self) -> list[NewTokens | Refused]:
        """Decodes once."""
        refused: list[NewTokens | Refused] = list(self._release())
        try:
            self._pipeline.step()
        except RuntimeError as error:
            tried, self._tried = self._tried, None
            if tried is None or tried.sampling.guidance is None:
                raise
            if handle := self._handles.pop(tried.id, None):
                handle.cancel()
            self._pipeline.step()
            return [*refused, refused_form(tried.id, tried.sampling.guidance, error)]
        news = self._read()
        if self._tried is not None and any(new.request_id == self._tried.id for new in news):
            self._prove(self._tried)
        elif self._tried is not None and self._tried.id not in self._handles:  # cancelled before it could show
            self._tried = None
        return refused + news

    def _release(self) -> Iterator[Refused]:
        """Adds what is held, as far as that goes now."""
        while self._held and self._tried is None:
            if self._unproven(self._held[0]):
                if self._handles:
                    return
                self._tried = self._held[0]
            request = self._held.popleft()
            if refused := self._add(request):
                self._tried = None
                yield refused

    def _unproven(self, request: EngineRequest) -> bool:
        return request.sampling.guidance is not None and request.sampling.guidance not in self._proven

    def _prove(self, tried: EngineRequest) -> None:
        if len(self._proven) >= _REMEMBERED_FORMS:
            self._proven.clear()
        if tried.sampling.guidance is not None:
            self._proven.add(tried.sampling.guidance)
        self._tried = None

    def _add(self, request: EngineRequest) -> Refused | None:
        config = generation_config(request.sampling, request.max_tokens, self._stop_token_ids)
        tensor = ov.Tensor(np.asarray([request.prompt], dtype=np.int64))
        try:
            self._handles[request.id] = self._pipeline.add_request(request.id, tensor, config)
        except RuntimeError as error:
            return Refused(request.id, f"The engine refuses the request: {last_line(error)}", "sampling")
        return None

    def _read(self) -> list[NewTokens | Refused]:
        news: list[NewTokens | Refused] = []
        for request_id, handle in list(self._handles.items()):
            tokens: list[int] = []
            finish: FinishReason | None = None
            while handle.can_read():
                for output in handle.read().values():
                    tokens += output.generated_ids
                    finish = _FINISH.get(output.finish_reason)
            if finish is None and handle.get_status() == ov_genai.GenerationStatus.IGNORED:
                finish = FinishReason.LENGTH  # no room in the KV cache even alone; admission keeps this from happening
            if finish is not None:
                del self._handles[request_id]
            if tokens or finish:
                news.append(NewTokens(request_id, tokens, finish))
        return news


def generation_config(sampling: Sampling, max_tokens: int, stop_token_ids: frozenset[int]) -> ov_genai.GenerationConfig:
    """The engine's own form of sampling parameters. Stop strings are the worker's."""
    config = ov_genai.GenerationConfig()
    config.max_new_tokens = max_tokens
    config.min_new_tokens = sampling.min_tokens or 0
    config.stop_token_ids = set(stop_token_ids | frozenset(sampling.stop_token_ids))
    config.do_sample = bool(sampling.temperature)
    config.rng_seed = random.getrandbits(31) if sampling.seed is None else sampling.seed
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        if (value := getattr(sampling, name)) is not None:
            setattr(config, name, value)
    if config.do_sample:
        for name in ("temperature", "top_p", "min_p", "top_k"):
            if value := getattr(sampling, name):
                setattr(config, name, value)
    form = sampling.guidance
    if sampling.bad_words:  # the engine has no bad words, but grammars: this one always compiles
        form = Guidance("grammar", grammar_without(sampling.bad_words))
    if form is not None:
        config.structured_output_config = ov_genai.StructuredOutputConfig(**{form.kind: form.source})
    return config


def load(
    path: str, device: str, kv_cache_gb: float | None, kv_heads_total: int, head_size: int, context_tokens: int,
    max_running_requests: int, max_batch_tokens: int | None, stop_token_ids: frozenset[int], version: str,
) -> OpenVinoEngine:  # fmt: skip
    """Loads a model and runs it once, so that the first request does not pay for compiled kernels.

    `kv_heads_total` is layers times key-value heads, `head_size` the values of each; `context_tokens` the model's own limit.
    InvalidInput when the cache has no room for one request.
    """
    kv_cache_gb, max_batch_tokens = kv_cache_gb or _KV_CACHE_GB, max_batch_tokens or _BATCH_TOKENS
    block_bytes = _BLOCK_TOKENS * 2 * kv_heads_total * (head_size + _BYTES_A_HEAD)
    blocks = int(kv_cache_gb * 1e9 / block_bytes)
    if blocks < 4:
        message = f"kv_cache_gb is {kv_cache_gb}; this model needs {4 * block_bytes / 1e9:.3f} at least."
        raise InvalidInput(message, field="kv_cache_gb")
    scheduler = ov_genai.SchedulerConfig()
    scheduler.num_kv_blocks = blocks
    scheduler.max_num_batched_tokens = max_batch_tokens
    scheduler.max_num_seqs = max_running_requests
    scheduler.dynamic_split_fuse = True
    scheduler.enable_prefix_caching = True
    pipeline = ov_genai.ContinuousBatchingPipeline(Path(path), scheduler, device.upper(), {}, {})
    kv_cache_tokens = (blocks - 1) * _BLOCK_TOKENS
    info = EngineInfo("openvino", version, min(context_tokens, kv_cache_tokens), kv_cache_tokens, _SAMPLING_FIELDS)
    engine = OpenVinoEngine(pipeline, info, stop_token_ids)
    _warm_up(engine, max_batch_tokens)
    return engine


def _warm_up(engine: OpenVinoEngine, max_batch_tokens: int) -> None:
    prompt_tokens = max(1, min(max_batch_tokens, engine.info.context_tokens - 2))
    engine.add(EngineRequest(0, tuple(range(10, 10 + prompt_tokens)), 2, Sampling(min_tokens=2)))
    while engine.busy:
        engine.step()
