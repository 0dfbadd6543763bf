"""Answers with all that they came from, kept for a while so that they can be shown and replayed.

Every answer that came to its end is recorded, those from the cache too. The texts of its sources are left out; its citations
keep their quotes. It goes with its conversation, and with any document that it saw (`forgetting`).
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from mesh import logs
from mesh.caching import DEFAULT_USE
from mesh.errors import MurpheyError
from orchestrator.cached_answers import Answering
from orchestrator.events import Citation, Delta, Event, Finish, SourcesFound, Started
from orchestrator.feedback import Feedback
from orchestrator.questions import Question
from orchestrator.sources import Source

log = logs.get(__name__)


@dataclass(frozen=True)
class AnswerRecord:
    """An answer as it was given, and what a person said of it. Its question has the seed that was drawn for it; `settings` are
    the deployment's.
    """

    id: str
    question: Question
    text: str
    sources: tuple[Source, ...]
    citations: tuple[Citation, ...]
    finish: Finish
    settings: Mapping[str, Any]
    create_time: datetime
    feedback: Feedback | None = None


class Records(Protocol):
    """Keeps records. NotFound for an id that the current call's tenant has none of.

    Collections and documents are named with their tenants (mesh.access.tenants); those of all tenants are told.
    """

    async def add(self, record: AnswerRecord) -> None:
        """Keeps it, and lets go of those that are too many or too old."""
        ...

    async def get(self, identifier: str) -> AnswerRecord:
        """The record of an answer."""
        ...

    async def page(
        self, collection: str, size: int, token: str, *, rated: bool = False
    ) -> tuple[list[AnswerRecord], str]:
        """Records, the latest first, of one collection or of all where it is empty, or only those with feedback; and the token
        of the next page or none.
        """
        ...

    async def rate(self, identifier: str, feedback: Feedback) -> None:
        """Keeps feedback with an answer, in place of what was there."""
        ...

    async def delete(self, identifier: str) -> None:
        """Removes one."""
        ...

    async def collections(self) -> list[str]:
        """The collections that there are records of."""
        ...

    async def documents(self, collection: str) -> list[str]:
        """The documents that a collection's answers saw."""
        ...

    async def delete_seeing(self, documents: Sequence[str]) -> list[str]:
        """Removes the answers that saw one of these documents; gives their ids."""
        ...


class RecordedAnswerer:
    """Answers as `answerer` does, and records what it says. An answer is not lost when it cannot be recorded."""

    def __init__(self, answerer: Answering, records: Records, settings: Mapping[str, Any]) -> None:
        self._answerer, self._records, self._settings = answerer, records, settings

    async def answer(self, question: Question) -> AsyncGenerator[Event, None]:
        """The events of the answer; it is recorded before its finish."""
        heard: list[Event] = []
        async with aclosing(self._answerer.answer(question)) as events:
            async for event in events:
                heard.append(event)
                if isinstance(event, Finish):
                    await self._record(record_of(question, heard, self._settings))
                yield event

    async def _record(self, record: AnswerRecord) -> None:
        try:
            await self._records.add(record)
        except MurpheyError as error:
            log.error("answer_not_recorded", answer=record.id, error=error.message)


def record_of(question: Question, heard: Sequence[Event], settings: Mapping[str, Any]) -> AnswerRecord:
    """The record of an answer from all of its events."""
    finish = next(event for event in heard if isinstance(event, Finish))
    sources = next(event.sources for event in heard if isinstance(event, SourcesFound))
    sampling = question.sampling if finish.seed is None else replace(question.sampling, seed=finish.seed)
    return AnswerRecord(
        id=next(event.answer_id for event in heard if isinstance(event, Started)),
        question=replace(question, sampling=sampling, use=DEFAULT_USE),
        text="".join(event.text for event in heard if isinstance(event, Delta)),
        sources=tuple(replace(source, text="") for source in sources),
        citations=tuple(event for event in heard if isinstance(event, Citation)),
        finish=finish,
        settings=settings,
        create_time=datetime.now(UTC),
    )
