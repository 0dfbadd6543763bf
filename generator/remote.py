"""A model behind servers of its own: what the contract asks for and the servers leave open is done here.

Context and ranges are checked before anything is sent, as far as tokens can be counted: by a tokenizer of our own, or by the
servers. Stop strings and the time limit mean what they mean on every engine.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from generator import sampling as sampling_rules
from generator.engines.base import EngineInfo, Opened, RemoteEnd, RemoteEngine, RemoteRequest, RemoteText
from generator.models import ModelView, check_counted, room
from generator.requests import (
    Answerer,
    CompletionEvent,
    Counts,
    Delta,
    Finish,
    FinishReason,
    Prompt,
    Sampling,
    Started,
    Timings,
    Usage,
)
from generator.stops import StopStrings
from generator.tokens import PromptTokenizer, characters, check_chat
from mesh.admission import Admission
from mesh.errors import InvalidInput, Unavailable

_CHARACTERS_A_TOKEN = 3
"""For admission only, where nobody counts."""

News = Opened | RemoteText | RemoteEnd


class RemoteModel:
    """Implements `models.Model`. `vocabulary_tokens` is None where there is no tokenizer of our own."""

    def __init__(
        self,
        id_: str,
        engine: RemoteEngine,
        admission: Admission,
        limits: tuple[int, int],
        tokenizer: PromptTokenizer | None = None,
        vocabulary_tokens: int | None = None,
    ) -> None:
        self.id = id_
        self._engine, self._admission, self._tokenizer = engine, admission, tokenizer
        self._max_running_requests, self._max_pending_tokens = limits
        self._vocabulary_tokens = vocabulary_tokens

    def view(self) -> ModelView:
        """How it is now; of a model whose servers never answered, little is known."""
        info = self._engine.info or EngineInfo(self._engine.name, "", 0, 0, frozenset())
        return ModelView(
            self.id, info.version, info.name, info.context_tokens, tuple(sorted(info.sampling_fields)),
            self._engine.state, self._engine.state_message, self._max_running_requests, self._max_pending_tokens,
        )  # fmt: skip

    async def count(self, prompts: Sequence[Prompt]) -> Counts:
        """Tokens of each prompt. FailedPrecondition where neither we nor the servers count."""
        check_counted(prompts)
        if self._tokenizer is not None:
            return Counts(tuple(await self._tokenizer.count(prompts)), self.id)
        self._info()
        try:
            async with asyncio.TaskGroup() as group:
                counting = [group.create_task(self._engine.count(prompt, special=False)) for prompt in prompts]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return Counts(tuple(task.result() for task in counting), self.id)

    async def complete(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[CompletionEvent]:
        """Runs a prompt. Closing the iterator early makes the server stop.

        InvalidInput names the field at fault; Overloaded when there is no room here or there; Unavailable when no server
        answers, or one stops in the middle.
        """
        arrived, info = time.monotonic(), self._info()
        sampling_rules.check(sampling, info.sampling_fields, info.name, self._vocabulary_tokens)
        check_chat(prompt.chat)
        prompt, ids, tokens = await self._tokenized(prompt)
        asked = sampling.max_tokens or sampling_rules.DEFAULT_MAX_TOKENS
        max_tokens = asked if tokens is None else room(self.id, info.context_tokens, tokens, sampling)
        guessed = characters(prompt) // _CHARACTERS_A_TOKEN if tokens is None else tokens
        async with self._admission.place(guessed + max_tokens):
            request = RemoteRequest(prompt, max_tokens, sampling, ids)
            completion = _Completion(self.id, request, tokens, arrived)
            async with aclosing(self._engine.run(request)) as news:
                async for new in _until(news, completion.deadline):
                    for event in await self._events(completion, new):
                        yield event
                    if completion.over:
                        return

    async def _events(self, completion: "_Completion", new: News | None) -> list[CompletionEvent]:
        if isinstance(new, RemoteEnd):
            new = await self._settled(new, completion)
        return completion.events(new)

    async def _settled(self, end: RemoteEnd, completion: "_Completion") -> RemoteEnd:
        """With the usage and the reason, where the server told them not."""
        seen = end.usage.completion
        if not end.counted:
            end = end._replace(usage=Usage(0, 0, await self._recount(completion.text, seen)))
        if end.finish is None:
            spent = max(seen, end.usage.completion) >= completion.max_tokens
            end = end._replace(finish=FinishReason.LENGTH if spent else FinishReason.STOP)
        return end

    async def _recount(self, text: str, seen: int) -> int:
        """Tokens of a completion whose server did not tell them."""
        if self._tokenizer is not None:
            return (await self._tokenizer.count([Prompt(text=text)]))[0]
        return await self._engine.count(Prompt(text=text), special=False) if self._engine.counts else seen

    async def _tokenized(self, prompt: Prompt) -> tuple[Prompt, tuple[int, ...] | None, int | None]:
        """The prompt as the server takes it, its ids where it is to be given those, and how many where that can be known.

        A server reads a chat's text with its control tokens: ids keep what a document says from ending the turn it is in.
        """
        if self._tokenizer is not None and prompt.chat and not self._engine.takes_chat:
            text, tokens = await self._tokenizer.as_text(prompt)
            return Prompt(text=text), None, tokens
        if self._tokenizer is not None:
            ids = await self._tokenizer.encode(prompt)
            quoted = self._engine.takes_ids and self._tokenizer.quotes_control_tokens(prompt.chat)
            return prompt, (tuple(ids) if quoted else None), len(ids)
        if not prompt.chat and not prompt.text:
            raise InvalidInput("prompt is empty; there is nothing to complete.", field="prompt")
        return prompt, None, await self._engine.count(prompt, special=True) if self._engine.counts else None

    def _info(self) -> EngineInfo:
        if (info := self._engine.info) is None:
            raise Unavailable(f"The model {self.id} has no server that answers: {self._engine.state_message}")
        return info


class _Completion:
    """One request's text and what is told of it."""

    def __init__(self, model: str, request: RemoteRequest, prompt_tokens: int | None, arrived: float) -> None:
        self._model, self._request, self._prompt_tokens = model, request, prompt_tokens or 0
        self._arrived, self._started, self._first = arrived, time.monotonic(), None
        self._stops = StopStrings(request.sampling.stop)
        self._version = ""
        self._begun = False
        self._tokens = self._unreported = 0
        self._texts: list[str] = []
        limit_s = request.sampling.time_limit_s
        self.deadline = None if limit_s is None else asyncio.get_running_loop().time() + limit_s
        self.over = False

    @property
    def max_tokens(self) -> int:
        """What the server was asked for."""
        return self._request.max_tokens

    @property
    def text(self) -> str:
        """All that the server has sent."""
        return "".join(self._texts)

    def events(self, new: News | None) -> list[CompletionEvent]:
        """What the caller is told of the server's news; None is that the time is over."""
        if isinstance(new, Opened):
            self._version = new.version
            return self._begin()
        if isinstance(new, RemoteText):
            return self._said(new)
        if new is None:
            return [*self._begin(), *self._delta(self._stops.flush()), *self._end(FinishReason.TIME_LIMIT)]
        self._version = new.version
        assert new.finish is not None  # noqa: S101 - `RemoteModel._settled` has seen to it
        return [*self._delta(self._stops.flush()), *self._end(new.finish, new.usage)]

    def _begin(self) -> list[CompletionEvent]:
        begun, self._begun = self._begun, True
        return [] if begun else [Started(uuid.uuid4().hex, self._prompt_tokens, self._by)]

    def _said(self, new: RemoteText) -> list[CompletionEvent]:
        self._first = time.monotonic() if self._first is None else self._first
        self._texts.append(new.text)
        self._tokens += new.tokens
        self._unreported += new.tokens
        text, stopped = self._stops.feed(new.text)
        events = self._delta(text)
        if stopped:
            events += self._end(FinishReason.STOP)
        elif self._tokens > self._request.max_tokens:  # a server that does not know its limit
            events += [*self._delta(self._stops.flush()), *self._end(FinishReason.LENGTH)]
        return events

    def _delta(self, text: str) -> list[CompletionEvent]:
        if not text:
            return []
        tokens, self._unreported = self._unreported, 0
        return [Delta(text, tokens)]

    def _end(self, reason: FinishReason, told: Usage | None = None) -> list[CompletionEvent]:
        self.over = True
        usage = told or Usage(0, 0, self._tokens)
        usage = Usage(usage.prompt or self._prompt_tokens, usage.cached, usage.completion)
        now = time.monotonic()
        first = now if self._first is None else self._first
        timings = Timings(self._started - self._arrived, first - self._started, now - first)
        return [Finish(reason, usage, timings, self._by)]

    @property
    def _by(self) -> Answerer:
        return Answerer(self._model, self._version)


async def _until(news: AsyncGenerator[News], deadline: float | None) -> AsyncGenerator[News | None]:
    """The news, and None when the time is over."""
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                new = await anext(news)
        except StopAsyncIteration:
            return
        except TimeoutError:
            yield None
            return
        yield new
