"""What every engine does, and what crosses between the server and the engine's process.

An engine schedules and samples; it knows tokens only. Text, stop strings and time limits are the worker's
(`generator/worker.py`), so that they mean the same on every engine. An engine is used from one thread.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from generator.requests import FinishReason, Sampling


@dataclass(frozen=True)
class EngineRequest:
    """A prompt as token ids. `max_tokens` is resolved: at least 1, and with the prompt within the context."""

    id: int
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True)
class EngineInfo:
    """An engine that came up. `context_tokens` is what its KV cache and model can take in one request."""

    name: str
    version: str
    context_tokens: int
    kv_cache_tokens: int
    sampling_fields: frozenset[str]


class NewTokens(NamedTuple):
    """Tokens that one step gave one request; with `finish` the request is over and forgotten by the engine.

    `cached_prompt_tokens` of its prompt were not computed again but found in the engine's cache; 0 where it cannot tell.
    """

    request_id: int
    tokens: Sequence[int]
    finish: FinishReason | None = None
    cached_prompt_tokens: int = 0


class Refused(NamedTuple):
    """A request that the engine cannot take although its fields are in range, such as a grammar that does not parse."""

    request_id: int
    message: str
    field: str


class Engine(Protocol):
    """A model that decodes many requests at once."""

    info: EngineInfo

    @property
    def busy(self) -> bool:
        """Whether a step has something to do."""
        ...

    def add(self, request: EngineRequest) -> Refused | None:
        """Takes a request up, or says why not."""
        ...

    def cancel(self, request_id: int) -> None:
        """Frees the request's slot within one step; no more of its tokens come. Unknown ids are ignored."""
        ...

    def step(self) -> list[NewTokens | Refused]:
        """Decodes once for all running requests. An exception means that the engine is broken and must be restarted."""
        ...


@dataclass(frozen=True)
class EngineLaunch:
    """How to make an engine in a process of its own: `factory` is `module:function`, called with `options`.

    `tokenizer` is the path of the model's tokenizer.json; `stop_token_ids` end every completion.
    """

    factory: str
    options: dict[str, Any]
    tokenizer: str
    stop_token_ids: frozenset[int]
