"""Asks an answer's question again of what is there now: same seed, same earlier turns, nothing from a cache."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from mesh.caching import Use
from mesh.errors import Overloaded
from orchestrator.cached_answers import Answering
from orchestrator.comparing import Difference, difference
from orchestrator.conversations import Conversations, StoredTurn, Turns
from orchestrator.events import Event
from orchestrator.records import AnswerRecord, Records, record_of

MAX_REPLAYS = 8
"""At once; they are apart from the answers that people wait for."""


@dataclass(frozen=True)
class Replay:
    """An answer as it was given, as it is given now, and how they differ."""

    before: AnswerRecord
    after: AnswerRecord
    difference: Difference


class PastTurns:
    """A conversation as it was before one of its answers. What is answered now is not added to it."""

    def __init__(self, conversations: Conversations, answer: str) -> None:
        self._conversations, self._answer = conversations, answer

    async def latest_turns(self, identifier: str, limit: int) -> list[StoredTurn]:
        """The last turns before the answer, oldest first."""
        turns = (await self._conversations.get(identifier)).turns
        earlier = list(takewhile(lambda turn: turn.answer_id != self._answer, turns))
        return earlier[max(0, len(earlier) - limit) :]

    async def append(self, identifier: str, turn: StoredTurn) -> None:
        """Nothing."""


class Replayer:
    """Replays answers. `answering` makes an answerer that sees other turns and keeps nothing."""

    def __init__(
        self,
        records: Records,
        conversations: Conversations,
        answering: Callable[[Turns], Answering],
        settings: Mapping[str, Any],
    ) -> None:
        self._records, self._conversations = records, conversations
        self._answering, self._settings = answering, settings
        self._running = 0

    async def replay(self, answer: str, model: str) -> Replay:
        """Asks the model that was asked, or the one that is named. NotFound for an answer or model that is gone."""
        if self._running >= MAX_REPLAYS:
            raise Overloaded(f"{self._running} replays are under way, which is the most. Try again in a moment.")
        self._running += 1
        try:
            return await self._replay(await self._records.get(answer), model)
        finally:
            self._running -= 1

    async def _replay(self, before: AnswerRecord, model: str) -> Replay:
        asked = model or before.finish.versions.model.partition("@")[0] or before.question.model
        question = replace(before.question, model=asked, use=Use(read=False, write=False))
        answerer = self._answering(PastTurns(self._conversations, before.id))
        heard = await _all(answerer.answer(question))
        after = record_of(question, heard, self._settings)
        return Replay(before, after, difference(before, after))


async def _all(answer: AsyncGenerator[Event, None]) -> list[Event]:
    async with aclosing(answer) as events:
        return [event async for event in events]
