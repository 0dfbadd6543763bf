"""Conversations: questions with their answers, kept in the database, and what of them a follow-up question needs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from mesh import logs
from mesh.errors import NotFound
from orchestrator.events import Citation, Versions
from orchestrator.words import stems

log = logs.get(__name__)

MAX_TITLE_CHARACTERS = 200

_POINTS_BACK = re.compile(
    r"^(?:and|but|so|or|what about|how about|why not|und|aber|y|et)\b|\b(?:it|its|he|him|his|she|her|hers|they|them|their"
    r"|theirs|that one|this one|those|these|the same|the former|the latter)\b",
    re.IGNORECASE,
)
_FEW_WORDS, _FURTHEST_BACK = 2, 3


@dataclass(frozen=True)
class StoredTurn:
    """A question and its answer, as they were given."""

    answer_id: str
    question: str
    answer: str
    citations: tuple[Citation, ...]
    versions: Versions
    create_time: datetime


@dataclass(frozen=True)
class Conversation:
    """A conversation; `turns` are there only where they were asked for. Times are in UTC."""

    id: str
    title: str
    turn_count: int
    create_time: datetime
    update_time: datetime
    turns: tuple[StoredTurn, ...] = ()


async def remember(conversations: "Turns", identifier: str, turn: StoredTurn) -> str:
    """Adds an answer to its conversation, where it has one; gives the id, or nothing when it is gone meanwhile."""
    if not identifier:
        return ""
    try:
        await conversations.append(identifier, turn)
    except NotFound:
        log.warning("conversation_deleted_meanwhile", answer=turn.answer_id)
        return ""
    return identifier


class Turns(Protocol):
    """What answering needs of conversations."""

    async def latest_turns(self, identifier: str, limit: int) -> list[StoredTurn]:
        """The last turns, oldest first."""
        ...

    async def append(self, identifier: str, turn: StoredTurn) -> None:
        """Adds a turn; the first one names a conversation that has no title."""
        ...


class Conversations(Turns, Protocol):
    """Keeps conversations. Every method raises NotFound for an id that the current call's tenant has none of."""

    async def create(self, title: str) -> Conversation:
        """A new, empty conversation."""
        ...

    async def get(self, identifier: str) -> Conversation:
        """A conversation with its turns, oldest first."""
        ...

    async def page(self, size: int, token: str) -> tuple[list[Conversation], str]:
        """Conversations without turns, the latest first, and the token of the next page or an empty one."""
        ...

    async def delete(self, identifier: str) -> None:
        """Removes a conversation and its turns."""
        ...


def search_text(question: str, earlier_questions: Sequence[str]) -> str:
    """What to search for: the question, and those before it as far as each cannot stand alone ("and when?")."""
    parts = [question]
    for earlier in reversed(earlier_questions[-_FURTHEST_BACK:]):
        if not leans_back(parts[0]):
            break
        parts.insert(0, earlier)
    return " ".join(parts)


def leans_back(question: str) -> bool:
    """Whether a question speaks of something that it does not name."""
    return _POINTS_BACK.search(question) is not None or len(stems(question)) <= _FEW_WORDS
