"""Keeps conversations in the database. Each query is for those of the current call's tenant."""

import uuid
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncEngine

from mesh.access import tenants
from mesh.errors import InvalidInput, NotFound
from mesh.paging import decode_token, encode_token
from mesh.places import Place
from orchestrator.conversations import MAX_TITLE_CHARACTERS, Conversation, StoredTurn
from orchestrator.events import Citation, Versions
from orchestrator.sources import Span
from orchestrator.tables import conversations, turns

_TURN_COUNT = select(func.count()).where(turns.c.conversation == conversations.c.id).scalar_subquery()


class StoredConversations:
    """Implements `conversations.Conversations`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def create(self, title: str) -> Conversation:
        now = datetime.now(UTC)
        made = Conversation(uuid.uuid4().hex, title, 0, now, now)
        values = {"id": made.id, "title": title, "create_time": now, "update_time": now, "tenant": tenants.current()}
        async with self._engine.begin() as connection:
            await connection.execute(insert(conversations).values(values))
        return made

    async def get(self, identifier: str) -> Conversation:
        async with self._engine.connect() as connection:
            row = (await connection.execute(_summaries().where(_own(identifier)))).first()
            if row is None:
                raise _unknown(identifier)
            found = await connection.execute(_turns_of(identifier).order_by(turns.c.position))
            return replace(_conversation(row), turns=tuple(_turn(turn) for turn in found))

    async def page(self, size: int, token: str) -> tuple[list[Conversation], str]:
        query = _summaries().where(conversations.c.tenant == tenants.current()).limit(size + 1)
        query = query.order_by(conversations.c.update_time.desc(), conversations.c.id.desc())
        if token:
            query = query.where(tuple_(conversations.c.update_time, conversations.c.id) < _key(token))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        found = [_conversation(row) for row in rows[:size]]
        more = len(rows) > size
        return found, encode_token(f"{found[-1].update_time.isoformat()} {found[-1].id}") if more else ""

    async def delete(self, identifier: str) -> None:
        async with self._engine.begin() as connection:
            gone = await connection.execute(delete(conversations).where(_own(identifier)))
        if gone.rowcount == 0:
            raise _unknown(identifier)

    async def latest_turns(self, identifier: str, limit: int) -> list[StoredTurn]:
        async with self._engine.connect() as connection:
            known = await connection.execute(select(conversations.c.id).where(_own(identifier)))
            if known.first() is None:
                raise _unknown(identifier)
            found = await connection.execute(_turns_of(identifier).order_by(turns.c.position.desc()).limit(limit))
            return [_turn(row) for row in reversed(found.all())]

    async def append(self, identifier: str, turn: StoredTurn) -> None:
        async with self._engine.begin() as connection:
            touched = await connection.execute(
                update(conversations).where(_own(identifier)).values(update_time=turn.create_time)
            )
            if touched.rowcount == 0:
                raise _unknown(identifier)
            untitled = _own(identifier) & (conversations.c.title == "")
            title = " ".join(turn.question.split())[:MAX_TITLE_CHARACTERS]
            await connection.execute(update(conversations).where(untitled).values(title=title))
            await connection.execute(insert(turns).values(conversation=identifier, **_columns(turn)))


def _own(identifier: str) -> ColumnElement[bool]:
    return (conversations.c.id == identifier) & (conversations.c.tenant == tenants.current())


def _summaries() -> Select[Any]:
    return select(conversations, _TURN_COUNT.label("turn_count"))


def _turns_of(identifier: str) -> Select[Any]:
    return select(turns).where(turns.c.conversation == identifier)


def _conversation(row: Row[Any]) -> Conversation:
    return Conversation(row.id, row.title, row.turn_count, row.create_time, row.update_time)


def _columns(turn: StoredTurn) -> dict[str, Any]:
    return {
        "answer_id": turn.answer_id,
        "question": turn.question,
        "answer": turn.answer,
        "citations": [asdict(citation) for citation in turn.citations],
        "versions": asdict(turn.versions),
        "create_time": turn.create_time,
    }


def _turn(row: Row[Any]) -> StoredTurn:
    citations = tuple(_citation(values) for values in row.citations)
    return StoredTurn(row.answer_id, row.question, row.answer, citations, Versions(**row.versions), row.create_time)


def _citation(values: dict[str, Any]) -> Citation:
    places: dict[str, Any] = {name: Span(**values[name]) for name in ("span", "answer_span")}
    places["place"] = Place(**values.get("place", {}))
    return Citation(**(values | places))


def _key(token: str) -> tuple[datetime, str]:
    time, _, identifier = decode_token(token).partition(" ")
    try:
        return datetime.fromisoformat(time), identifier
    except ValueError as error:
        raise InvalidInput(f"page_token {token[:50]!r} was not given by this service.", field="page_token") from error


def _unknown(identifier: str) -> NotFound:
    return NotFound(f"There is no conversation conversations/{identifier}: create one first, or leave it out.")
