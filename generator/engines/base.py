"""What every engine does, and what crosses between the server and the engine's process.

An engine schedules and samples; it knows tokens only. Text, stop strings and time limits are the worker's
(`generator/worker.py`), so that they mean the same on every engine. An engine is used from one thread. A remote engine is
another server's: it takes text and gives text, and is used from the event loop.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol

from generator.requests import FinishReason, Prompt, Sampling, Usage


class EngineState(Enum):
    """Whether the engine can be used."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


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


@dataclass(frozen=True)
class RemoteRequest:
    """A prompt for a remote engine. With `ids` those are to be completed, which are the prompt's."""

    prompt: Prompt
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    ids: tuple[int, ...] | None = None


class Opened(NamedTuple):
    """A server has taken the request up; `version` is of the model there."""

    version: str


class RemoteText(NamedTuple):
    """New text, never empty, and how many tokens it came from as far as the server tells."""

    text: str
    tokens: int


class RemoteEnd(NamedTuple):
    """The completion is over. `counted` is whether the server itself told the usage; else it is what was seen of it.

    `finish` is None where the server does not tell why it ended.
    """

    finish: FinishReason | None
    usage: Usage
    counted: bool
    version: str


class RemoteEngine(Protocol):
    """A model behind servers of its own, which tokenize and schedule by themselves."""

    name: str
    takes_chat: bool
    """Whether the servers apply the chat template; else they are given text."""
    state: EngineState
    state_message: str

    @property
    def info(self) -> EngineInfo | None:
        """What the servers said of the model; None until one has answered."""
        ...

    @property
    def counts(self) -> bool:
        """Whether the servers count tokens."""
        ...

    @property
    def takes_ids(self) -> bool:
        """Whether a prompt may be token ids."""
        ...

    async def count(self, prompt: Prompt, *, special: bool) -> int:
        """Tokens of a prompt, with the special tokens of a text where `special`."""
        ...

    def run(self, request: RemoteRequest) -> AsyncGenerator[Opened | RemoteText | RemoteEnd]:
        """Runs a request; the last is RemoteEnd. Closing the iterator early makes the server stop.

        An Opened may come again, from another server, as long as no text has come. Unavailable, Overloaded,
        FailedPrecondition or InvalidInput as the servers answer.
        """
        ...
