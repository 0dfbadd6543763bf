"""Answers a question: retrieve, pack, prompt, generate, cite. A stream of events; nothing here knows gRPC or a database."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from mesh import deadline, logs, metrics
from mesh.admission import Admission
from mesh.errors import Unavailable
from orchestrator.attribution import Entails, Evidence, Support, Thresholds, read
from orchestrator.citations import Citer
from orchestrator.conversations import Turns, remember
from orchestrator.course import Course
from orchestrator.events import Event, Finish, Generated, Outcome, SourcesFound, Started
from orchestrator.follow_ups import FollowUps
from orchestrator.ports import Documents, Generator, Model, Retriever
from orchestrator.prompting import Frame, Prompter, predicted_tokens
from orchestrator.prompts import Turn
from orchestrator.questions import Question, check
from orchestrator.relevance import is_relevant
from orchestrator.searching import Reach, Searched, Searching
from orchestrator.sources import Passage, SearchResult
from orchestrator.verification import Verifier
from orchestrator.withholding import Withholding

log = logs.get(__name__)
ANSWERS = metrics.counter("answers", "Answers that came to their end, by outcome.", ("outcome",))
_WITHHELD = metrics.counter("withheld_sentences", "Sentences of models that the sources do not support, left out.")
_DROPPED = metrics.counter("dropped_markers", "Markers of models that pointed to no source.")


@dataclass(frozen=True)
class Limits:
    """What an answer may take, and when its sources count as relevant."""

    reach: Reach = field(default_factory=Reach)
    search_share: float = 0.5
    """The part of an answer's time that its searches may take; what they leave is the model's."""
    max_history_turns: int = 10
    minimum_relevance: float = 0.57
    thresholds: Thresholds = field(default_factory=Thresholds)
    entailment_model: str = ""


class Answerer:
    """Answers questions over the services behind it."""

    def __init__(
        self,
        retriever: Retriever,
        generator: Generator,
        documents: Documents,
        conversations: Turns,
        prompter: Prompter,
        limits: Limits,
        admission: Admission,
        entails: Entails | None = None,
    ) -> None:
        self._retriever, self._generator, self._documents = retriever, generator, documents
        self._conversations, self._prompter, self._limits = conversations, prompter, limits
        self._admission, self._entails = admission, entails
        self._follow_ups = FollowUps(generator)
        self._searching = Searching(retriever, limits.reach)

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """The events of the answer. The first one comes when the search has succeeded, so that an unknown collection or a
        dead retriever is an error before any event. Closing the generator stops the model. Overloaded when there is no room for
        it, or no time."""
        check(question)
        course = Course(question)
        model = await self._generator.model(question.model)
        template = self._prompter.template(model)
        async with self._admission.place(predicted_tokens(question, template)):
            history = await self._history(question)
            wanted = await self._follow_ups.stand_alone(question.text, history, model, template)
            course.standalone = wanted
            searched, frame = await self._retrieve(course, model, wanted, history)
            yield Started(course.answer_id, wanted if wanted != question.text else "", searched.further)
            relevant = is_relevant(wanted, searched.first, self._limits.minimum_relevance)
            events = self._generate(course, frame, searched.found) if relevant else self._decline(course, frame)
            async with aclosing(events):
                async for event in events:
                    yield event
            yield await self._finish(course)

    async def _history(self, question: Question) -> list[Turn]:
        if not question.conversation:
            return []
        turns = await self._conversations.latest_turns(question.conversation, self._limits.max_history_turns)
        return [Turn(turn.question, turn.answer) for turn in turns]

    async def _retrieve(
        self, course: Course, model: Model, wanted: str, history: Sequence[Turn]
    ) -> tuple[Searched, Frame]:
        """Searches, and counts the prompt's frame meanwhile."""
        question = course.question
        counting = asyncio.create_task(self._prompter.frame(model, question.text, history, question.sampling))
        try:
            with deadline.share(self._limits.search_share):
                searched = await self._searching.search(question, wanted)
            course.retrieved_s = course.elapsed_s()
            frame = await counting
        finally:
            counting.cancel()
            await asyncio.gather(counting, return_exceptions=True)
        course.index, course.corpus = searched.found.index_version, searched.found.corpus_version
        course.prompt = frame.template.version
        return searched, frame

    async def _decline(self, course: Course, frame: Frame) -> AsyncGenerator[Event, None]:
        yield SourcesFound(())
        course.outcome = Outcome.DECLINED
        yield course.delta(frame.template.declined)

    async def _generate(self, course: Course, frame: Frame, found: SearchResult) -> AsyncGenerator[Event, None]:
        sources, _ = await asyncio.gather(self._prompter.pack(frame, found.passages), _read_ahead(found.passages))
        yield SourcesFound(sources)
        evidence = Evidence(sources, course.standalone, self._retriever.embed, self._limits.thresholds, self._entails)
        closest = evidence.best_for_question()
        async with Citer(sources, evidence, Verifier(self._documents)) as citer:
            course.prompted_s = course.elapsed_s()
            chat = frame.chat(sources, closest.quote if closest else "")
            withholding = Withholding({source.number: source for source in sources}, evidence, course.standalone)
            async with aclosing(self._generator.stream(frame.model.name, chat, frame.sampling)) as stream:
                async for piece in withholding.passing(stream) if _is_strict(course.question, frame) else stream:
                    if isinstance(piece, Generated):
                        course.generated = piece
                        continue
                    yield course.delta(piece)
                    citer.feed(piece)
                    for citation in course.cited(citer.ready()):
                        yield citation
            for citation in course.cited(await citer.rest()):
                yield citation
            course.withheld_sentences, citer.complete = withholding.withheld, citer.complete and withholding.complete
            for event in await self._close(course, frame, citer, closest):
                yield event

    async def _close(self, course: Course, frame: Frame, citer: Citer, closest: Support | None) -> list[Event]:
        """What follows the model's words: the closest ones of the sources, where it cited nothing or others."""
        course.dropped_markers, course.sentences = citer.dropped_markers, citer.sentences
        _DROPPED.inc(citer.dropped_markers)
        course.complete = citer.complete
        if course.generated is None:
            raise Unavailable("The generator's stream broke off. Ask again.")
        if citer.admissions and not course.citations:
            course.outcome = Outcome.DECLINED
            return []
        template = frame.template.closest if course.citations else frame.template.unsupported
        if not template or closest is None or any(closest.overlaps(citation) for citation in course.citations):
            return []
        lead = "\n\n" if course.length else ""
        quoted = await citer.quote(closest, template, course.length + len(lead))
        course.complete = citer.complete
        return [course.delta(lead + quoted[0]), *course.cited([quoted[1]])] if quoted else []

    async def _finish(self, course: Course) -> Finish:
        _WITHHELD.inc(course.withheld_sentences)
        conversation = await remember(self._conversations, course.question.conversation, course.turn())
        ANSWERS.labels(course.outcome.value).inc()
        log.info(
            "question_answered",
            answer=course.answer_id,
            outcome=course.outcome.value,
            citations=len(course.citations),
            first_token_ms=round(course.first_token_s * 1000),
            total_ms=round(course.elapsed_s() * 1000),
        )
        return course.finish(conversation)


async def _read_ahead(passages: Sequence[Passage]) -> None:
    """Reads what will be compared with the answer while the generator counts its tokens: both take about two milliseconds.
    It waits before each, so that the count is under way first."""
    for passage in passages:
        await asyncio.sleep(0)
        read(passage.chunk.text)


def _is_strict(question: Question, frame: Frame) -> bool:
    """A form that was asked for is not cut into sentences unless that was asked for too."""
    return frame.template.strict and question.sampling.guidance is None if question.strict is None else question.strict
