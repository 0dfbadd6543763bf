"""Chats and preferences from what people said of answers: only where they agreed, redacted.

A prompt is made as the orchestrator makes it, of the sources that the answer had. What was answered well, or what should have
been said, is to be learned; of two answers to one prompt the better one is to be preferred. Left out is an answer that had no
sources, whose sources are not what they were, or that follows turns which may not be trained on.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from mesh.deadline import call_options
from mesh.errors import NotFound, translated
from mesh.place_messages import to_place
from murphey.orchestrator.v1 import orchestrator_pb2 as pb
from murphey.orchestrator.v1.orchestrator_pb2_grpc import OrchestratorServiceStub
from orchestrator.clients.ingest import IngestClient
from orchestrator.prompts import Template, Turn
from orchestrator.sources import Source, Span
from training.finetuning.redaction import redacted
from training.finetuning.rows import Message

_TIMEOUT_S = 30.0
_PAGE = 1000


@dataclass(frozen=True)
class Rated:
    """An answer to a prompt, redacted, and what a person said of it; `better` is what should have been said, or empty."""

    prompt: tuple[Message, ...]
    answer: str
    good: bool
    better: str


@dataclass
class Told:
    """How many answers are rated, may be trained on, and were left out of these."""

    rated: int = 0
    agreed: int = 0
    left_out: int = 0


@dataclass(frozen=True)
class Lessons:
    """Rows for fine-tuning on answers and on preferences."""

    chats: list[dict[str, list[Message]]] = field(default_factory=list)
    preferences: list[dict[str, list[Message]]] = field(default_factory=list)


class FeedbackReader:
    """Reads rated answers from a running mesh, for prompts of one template."""

    def __init__(self, answers: OrchestratorServiceStub, documents: IngestClient, template: Template) -> None:
        self._answers, self._documents, self._template = answers, documents, template

    async def read(self, told: Told) -> list[Rated]:
        """Those that may be trained on, the oldest first; counts all in `told`."""
        agreed: dict[str, pb.StoredAnswer] = {}
        async for answer in self._listed():
            told.rated += 1
            if answer.feedback.training_consent:
                agreed[answer.name.removeprefix("answers/")] = answer
        told.agreed = len(agreed)
        found = [await self._rated(answer, agreed) for answer in reversed(agreed.values())]
        told.left_out = found.count(None)
        return [each for each in found if each is not None]

    async def _listed(self) -> AsyncIterator[pb.StoredAnswer]:
        token = ""
        while True:
            request = pb.ListAnswersRequest(page_size=_PAGE, page_token=token, rated=True)
            with translated("orchestrator"):
                page = await self._answers.ListAnswers(request, **call_options(_TIMEOUT_S))
            for answer in page.answers:
                yield answer
            if not (token := page.next_page_token):
                return

    async def _rated(self, answer: pb.StoredAnswer, agreed: Mapping[str, pb.StoredAnswer]) -> Rated | None:
        try:
            with translated("orchestrator"):
                whole = await self._answers.GetAnswer(pb.GetAnswerRequest(name=answer.name), **call_options(_TIMEOUT_S))
            history = await self._history(answer, agreed)
        except NotFound:  # deleted meanwhile
            return None
        sources = await self._sources(whole.answer.sources)
        if history is None or not sources:
            return None
        chat = self._template.render(answer.question.text, sources, history)
        prompt = tuple({"role": each.role, "content": redacted(each.text)} for each in chat)
        said = answer.feedback
        return Rated(prompt, redacted(answer.text), said.rating == pb.RATING_GOOD, redacted(said.better_answer))

    async def _history(self, answer: pb.StoredAnswer, agreed: Mapping[str, pb.StoredAnswer]) -> list[Turn] | None:
        if not answer.question.conversation:
            return []
        request = pb.GetConversationRequest(name=answer.question.conversation)
        with translated("orchestrator"):
            found = await self._answers.GetConversation(request, **call_options(_TIMEOUT_S))
        own = answer.name.removeprefix("answers/")
        earlier = list(takewhile(lambda turn: turn.answer_id != own, found.conversation.turns))
        if not all(turn.answer_id in agreed for turn in earlier):
            return None
        return [Turn(turn.question, turn.answer) for turn in earlier]

    async def _sources(self, messages: Iterable[pb.Source]) -> list[Source]:
        """With their texts; none when one is not there any more."""
        sources: list[Source] = []
        for each in messages:
            span = Span(each.span.start, each.span.end)
            stored = await self._documents.text(each.document, each.document_version, span)
            if stored is None:
                return []
            sources.append(Source(
                each.number, each.document, each.document_version, each.display_name, stored.text, span, each.page,
                tuple(each.headings), each.score, tuple(each.chunks), to_place(each.place),
            ))  # fmt: skip
        return sources


def lessons(rated: Sequence[Rated]) -> Lessons:
    """What is to be learned of them. Answers to one prompt are compared with each other."""
    prompts: dict[tuple[str, ...], list[Rated]] = {}
    for each in rated:
        prompts.setdefault(tuple(message["content"] for message in each.prompt), []).append(each)
    learned = Lessons()
    for answers in prompts.values():
        prompt = list(answers[0].prompt)
        wanted = list(dict.fromkeys(_wanted(answers)))
        learned.chats.extend({"messages": [*prompt, _said(text)]} for text in wanted)
        for chosen, rejected in dict.fromkeys(_pairs(answers, wanted)):
            learned.preferences.append({"prompt": prompt, "chosen": [_said(chosen)], "rejected": [_said(rejected)]})
    return learned


def _wanted(answers: Iterable[Rated]) -> Iterator[str]:
    """What should have been said first, then what was good."""
    for each in sorted(answers, key=lambda each: not each.better):
        if each.better or each.good:
            yield each.better or each.answer


def _pairs(answers: Iterable[Rated], wanted: Sequence[str]) -> Iterator[tuple[str, str]]:
    for each in answers:
        if each.good and not each.better:
            continue
        chosen = each.better or next(iter(wanted), "")
        if chosen and chosen != each.answer and each.answer:
            yield chosen, each.answer


def _said(text: str) -> Message:
    return {"role": "assistant", "content": text}
