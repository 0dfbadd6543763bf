"""A served model: from a prompt and sampling parameters to a stream of completion events."""

import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from generator import sampling as sampling_rules
from generator.engines.base import EngineInfo, EngineRequest, EngineState
from generator.host import EngineHost
from generator.requests import (
    Answerer,
    CompletionEvent,
    Counts,
    Delta,
    Finish,
    Prompt,
    Sampling,
    Started,
    Timings,
    Usage,
)
from generator.tokens import PromptTokenizer, check_chat
from generator.wire import Progress
from mesh.admission import Admission
from mesh.errors import InvalidInput, NotFound
from mesh.names import resource_id

MAX_COUNTED_PROMPTS = 1_000


@dataclass(frozen=True)
class ModelView:
    """What callers are told of a model; the fields of the proto's Model."""

    id: str
    version: str
    engine: str
    context_tokens: int
    sampling_fields: tuple[str, ...]
    state: EngineState
    state_message: str
    max_running_requests: int
    max_pending_tokens: int


class Model(Protocol):
    """What a caller can name: a model of an engine here, one behind other servers, or a chain of models."""

    @property
    def id(self) -> str:
        """In `models/{id}`."""
        ...

    def view(self) -> ModelView:
        """How it is now."""
        ...

    async def count(self, prompts: Sequence[Prompt]) -> Counts:
        """Tokens of each prompt; a text without special tokens, a chat as rendered."""
        ...

    def complete(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[CompletionEvent]:
        """Runs a prompt. Closing the iterator early frees the engine's slot within one step."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """One model with its tokenizer, its engine and its places. `info` is the engine's, as it first came up."""

    id: str
    info: EngineInfo
    vocabulary_tokens: int
    tokenizer: PromptTokenizer
    host: EngineHost
    admission: Admission
    max_running_requests: int
    max_pending_tokens: int

    def view(self) -> ModelView:
        """How it is now."""
        return ModelView(
            self.id, self.info.version, self.info.name, self.info.context_tokens, tuple(sorted(self.info.sampling_fields)),
            self.host.state, self.host.state_message, self.max_running_requests, self.max_pending_tokens,
        )  # fmt: skip

    async def count(self, prompts: Sequence[Prompt]) -> Counts:
        """Tokens of each prompt."""
        check_counted(prompts)
        return Counts(tuple(await self.tokenizer.count(prompts)), self.id)

    async def complete(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[CompletionEvent]:
        """Runs a prompt. Closing the iterator early frees the engine's slot within one step.

        InvalidInput names the field at fault; Overloaded when there is no room; Unavailable when the engine is down.
        """
        arrived = time.monotonic()
        sampling_rules.check(sampling, self.info.sampling_fields, self.info.name, self.vocabulary_tokens)
        check_chat(prompt.chat)
        ids = await self.tokenizer.encode(prompt)
        max_tokens = room(self.id, self.info.context_tokens, len(ids), sampling)
        async with self.admission.place(len(ids) + max_tokens):
            by = Answerer(self.id, self.info.version)
            yield Started(uuid.uuid4().hex, len(ids), by)
            request = EngineRequest(0, tuple(ids), max_tokens, replace(sampling, max_tokens=max_tokens))
            async with aclosing(self.host.run(request)) as progress:
                async for event in _events(progress, len(ids), arrived, by):
                    yield event


def check_counted(prompts: Sequence[Prompt]) -> None:
    """InvalidInput for no prompt or too many."""
    if not 1 <= len(prompts) <= MAX_COUNTED_PROMPTS:
        message = f"prompts has {len(prompts)} entries; 1 to {MAX_COUNTED_PROMPTS} are allowed."
        raise InvalidInput(message, field="prompts")


def room(model: str, context_tokens: int, prompt_tokens: int, sampling: Sampling) -> int:
    """How many tokens may be generated after a prompt. InvalidInput when there is no room for what is asked."""
    if prompt_tokens == 0:
        raise InvalidInput("prompt is empty; there is nothing to complete.", field="prompt")
    if prompt_tokens >= context_tokens:
        message = (
            f"prompt has {prompt_tokens} tokens; the model {model} takes {context_tokens}, the completion included."
        )
        raise InvalidInput(message, field="prompt")
    left = context_tokens - prompt_tokens
    if (sampling.min_tokens or 0) > left:
        message = f"sampling.min_tokens is {sampling.min_tokens}; after the prompt the context has room for {left}."
        raise InvalidInput(message, field="sampling.min_tokens")
    return min(sampling.max_tokens or sampling_rules.DEFAULT_MAX_TOKENS, left)


class ModelCatalog:
    """The models that this generator serves; the first is the default."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = {model.id: model for model in models}
        self.default = models[0]

    def all(self) -> list[Model]:
        """The default one first."""
        return list(self._models.values())

    def get(self, name: str, field: str = "model") -> Model:
        """The model `models/{id}`; an empty name is the default. NotFound when it is not served."""
        if not name:
            return self.default
        model = self._models.get(resource_id(name, "models", field))
        if model is None:
            served = ", ".join(f"models/{id_}" for id_ in self._models)
            raise NotFound(f"{name[:200]} is not served here; served: {served}.", field=field)
        return model


async def _events(
    progress: AsyncIterator[Progress], prompt_tokens: int, arrived: float, by: Answerer
) -> AsyncGenerator[CompletionEvent]:
    started = time.monotonic()
    first: float | None = None
    async for news in progress:
        now = time.monotonic()
        first = now if first is None else first
        if news.text:
            yield Delta(news.text, news.tokens)
        if news.finish is not None:
            usage = Usage(prompt_tokens, news.cached_prompt_tokens, news.completion_tokens)
            yield Finish(news.finish, usage, Timings(started - arrived, first - started, now - first), by)
