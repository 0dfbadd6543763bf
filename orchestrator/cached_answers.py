"""Gives an answer again to the same question, while nothing that it came from has changed.

Its key holds all that an answer depends on: the collection and the state of its contents, filter, question, earlier turns,
model, prompt template and sampling. A collection belongs to one tenant. What this process's settings say cannot change while
it runs. So a stale answer is never found.

The state is the one that the answer's own search found before it looked, so that keeping an answer asks for nothing more. Only
an answer that would be given again has the retriever asked whether that state is still the present one.
"""

import secrets
import zlib
from collections.abc import AsyncGenerator, Container, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from pydantic import TypeAdapter

from mesh import logs
from mesh.caching import DEFAULT_USE, ByteCache, digest
from mesh.errors import NotFound
from orchestrator.answers import ANSWERS
from orchestrator.conversations import StoredTurn, Turns, remember
from orchestrator.course import Course
from orchestrator.events import CachedFrom, Citation, Delta, Event, Finish, SourcesFound, Started, StopReason, Usage
from orchestrator.ports import Generator, Retriever
from orchestrator.prompting import Prompter
from orchestrator.questions import Question, Sampling, check
from orchestrator.sources import Source

log = logs.get(__name__)

_FAST = 1
_SEEDS = 2**31
_COLLECTION, _CORPUS, _CONVERSATION, _ANSWER = range(4)
"""Tags of what is kept."""
_ENDED_BY_ITSELF = (StopReason.STOP, StopReason.LENGTH)


class Answering(Protocol):
    """Answers questions."""

    def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """The events of an answer. Closing the generator stops the model."""
        ...


@dataclass(frozen=True)
class KeptAnswer:
    """An answer as it was streamed: its sources, then its text with each citation at its place."""

    answer_id: str
    standalone_question: str
    further_searches: tuple[str, ...]
    create_time: datetime
    sources: tuple[Source, ...]
    said: tuple[Delta | Citation, ...]
    finish: Finish


_KEPT = TypeAdapter(KeptAnswer)


@dataclass(frozen=True)
class _Asked:
    """A question, a digest of all that its answer depends on but the state of the collection, the id of the conversation's last
    answer, whether the answer may be kept or given again, and the version of the model that is expected to give it."""

    question: Question
    depends_on: bytes
    after: str
    may_repeat: bool
    model_version: str

    def key(self, corpus: str) -> bytes:
        """The key of the answer from one state of the collection."""
        return digest(self.depends_on, corpus)


class CachedAnswerer:
    """Answers from what was kept, or asks `answerer` and keeps what it says."""

    def __init__(
        self,
        answerer: Answering,
        retriever: Retriever,
        generator: Generator,
        conversations: Turns,
        prompter: Prompter,
        cache: ByteCache,
        max_history_turns: int,
    ) -> None:
        self._answerer, self._retriever, self._generator = answerer, retriever, generator
        self._conversations, self._prompter, self._cache = conversations, prompter, cache
        self._max_history_turns = max_history_turns
        self._corpora: dict[str, str] = {}
        """By collection, the state that was met last: kept answers from another one need not be looked for."""

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """The events of the answer, as `Answerer.answer` gives them. Those of a kept one say so in their finish."""
        check(question)
        course = Course(question)
        asked = await self._asked(question)
        kept = await self._kept(asked) if asked.may_repeat else None
        events = self._again(course, _unpacked(kept)) if kept else self._anew(asked)
        async with aclosing(events):
            async for event in events:
                yield event

    def collections(self) -> set[str]:
        """The collections that answers are kept of."""
        return {tags[_COLLECTION] for tags in self._cache.tags()}

    def forget_conversation(self, conversation: str) -> None:
        """What was said in a conversation that is deleted is not said again."""
        self._cache.drop(lambda tags: tags[_CONVERSATION] == conversation)

    def forget_answers(self, answers: Container[str]) -> None:
        """Nor is an answer that is deleted."""
        self._cache.drop(lambda tags: tags[_ANSWER] in answers)

    def forget_corpora_but(self, collection: str, corpus: str) -> None:
        """Frees the memory of answers from other states of a collection, which can no longer be found."""
        self._cache.drop(lambda tags: tags[_COLLECTION] == collection and tags[_CORPUS] != corpus)
        if self._corpora.get(collection) != corpus:
            self._corpora.pop(collection, None)

    async def _kept(self, asked: _Asked) -> bytes | None:
        """The answer that was kept, when the collection is now in the state that it came from."""
        collection = asked.question.collection
        known = self._corpora.get(collection, "")
        kept = self._cache.get(asked.key(known), asked.question.use)
        if kept is None:
            return None
        now = (await self._retriever.corpus(collection)).contents
        self._corpora[collection] = now
        return kept if now == known else None

    async def _asked(self, question: Question) -> _Asked:
        model = await self._generator.model(question.model)
        turns: Sequence[StoredTurn] = ()
        if question.conversation:
            turns = await self._conversations.latest_turns(question.conversation, self._max_history_turns)
        template = self._prompter.template(model)
        sampling = question.sampling.over(template.sampling)
        alone = replace(question, conversation="", model="", use=DEFAULT_USE, sampling=sampling)
        history = [(turn.question, turn.answer) for turn in turns]
        depends_on = digest(alone, history, model, template.version)
        after = turns[-1].answer_id if turns else ""
        may_repeat = sampling.gives_the_same_again or question.use.sampled
        return _Asked(with_seed(question, sampling), depends_on, after, may_repeat, model.version)

    async def _anew(self, asked: _Asked) -> AsyncGenerator[Event, None]:
        heard: list[Event] = []
        async with aclosing(self._answerer.answer(asked.question)) as events:
            async for event in events:
                heard.append(event)
                if isinstance(event, Finish) and await self._may_keep(asked, event):
                    self._keep(asked, heard, event)
                yield event

    async def _may_keep(self, asked: _Asked, finish: Finish) -> bool:
        question = asked.question
        if not (self._cache.enabled and question.use.write and asked.may_repeat):
            return False
        if finish.reason not in _ENDED_BY_ITSELF or not finish.complete or not finish.versions.corpus:
            return False
        if finish.versions.model and finish.versions.model.partition("@")[2] != asked.model_version:
            return False  # another model of a chain stood in for it
        return not question.conversation or await self._followed_on(question.conversation, asked.after)

    async def _followed_on(self, conversation: str, after: str) -> bool:
        """Whether the turn before this answer's is the one that its key was made of: two may be asked at once."""
        try:
            turns = await self._conversations.latest_turns(conversation, 2)
        except NotFound:
            return False
        return (turns[-2].answer_id if len(turns) > 1 else "") == after

    def _keep(self, asked: _Asked, heard: Sequence[Event], finish: Finish) -> None:
        question, corpus = asked.question, finish.versions.corpus
        started = next(event for event in heard if isinstance(event, Started))
        sources = next(event.sources for event in heard if isinstance(event, SourcesFound))
        kept = KeptAnswer(
            started.answer_id,
            started.standalone_question,
            started.further_searches,
            datetime.now(UTC),
            sources,
            _joined(heard),
            replace(finish, conversation=""),
        )
        tags = (question.collection, corpus, question.conversation, started.answer_id)
        self._corpora[question.collection] = corpus
        self._cache.put(asked.key(corpus), packed(kept), tags)

    async def _again(self, course: Course, kept: KeptAnswer) -> AsyncGenerator[Event, None]:
        yield Started(course.answer_id, kept.standalone_question, kept.further_searches)
        yield SourcesFound(kept.sources)
        for event in kept.said:
            if isinstance(event, Delta):
                yield course.delta(event.text)
            else:
                course.cited([event])
                yield event
        turn = replace(course.turn(), versions=kept.finish.versions)
        conversation = await remember(self._conversations, course.question.conversation, turn)
        ANSWERS.labels(kept.finish.outcome.value).inc()
        log.info("question_answered_again", answer=course.answer_id, kept_from=kept.answer_id)
        yield _finish_again(course, kept, conversation)


def with_seed(question: Question, sampling: Sampling) -> Question:
    """The question, with a seed where chance has a part in its answer, so that it can be replayed."""
    if sampling.gives_the_same_again:
        return question
    return replace(question, sampling=replace(question.sampling, seed=secrets.randbelow(_SEEDS)))


def packed(kept: KeptAnswer) -> bytes:
    """As it is kept."""
    return zlib.compress(_KEPT.dump_json(kept), _FAST)


def _unpacked(kept: bytes) -> KeptAnswer:
    return _KEPT.validate_json(zlib.decompress(kept))


def _joined(heard: Sequence[Event]) -> tuple[Delta | Citation, ...]:
    """The text in as few pieces as its citations allow: nobody waits for it now."""
    said: list[Delta | Citation] = []
    for event in heard:
        if isinstance(event, Delta) and said and isinstance(said[-1], Delta):
            said[-1] = Delta(said[-1].text + event.text)
        elif isinstance(event, Delta | Citation):
            said.append(event)
    return tuple(said)


def _finish_again(course: Course, kept: KeptAnswer, conversation: str) -> Finish:
    """Nothing was searched or generated this time."""
    return replace(
        kept.finish,
        usage=Usage(),
        timings=course.finish(conversation).timings,
        conversation=conversation,
        cached=CachedFrom(kept.answer_id, kept.create_time, kept.finish.usage),
    )
