"""Keeps the records of answers in the database. What a call asks for is looked for among its own tenant's."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mesh.access import tenants
from mesh.errors import InvalidInput, NotFound, Unavailable
from mesh.paging import decode_token, encode_token
from orchestrator.feedback import Feedback
from orchestrator.records import AnswerRecord
from orchestrator.tables import answer_documents, answers

_RECORD, _FEEDBACK = TypeAdapter(AnswerRecord), TypeAdapter(Feedback)

_LAST_POSITION = 2**63 - 1
"""No database takes a larger number."""


class StoredRecords:
    """Implements `records.Records`: the latest `max_answers` of each tenant, none older than `max_age`."""

    def __init__(self, engine: AsyncEngine, max_answers: int, max_age: timedelta) -> None:
        self._engine, self._max_answers, self._max_age = engine, max_answers, max_age

    async def add(self, record: AnswerRecord) -> None:
        if not self._max_answers:
            return
        try:
            async with self._engine.begin() as connection:
                await self._insert(connection, record)
        except IntegrityError as error:
            raise NotFound(f"The conversation {record.finish.conversation} is gone.") from error
        except SQLAlchemyError as error:
            raise Unavailable(f"The database of the answers failed ({type(error).__name__}).") from error

    async def get(self, identifier: str) -> AnswerRecord:
        async with self._engine.connect() as connection:
            found = await connection.execute(select(answers.c.record, answers.c.feedback).where(_own(identifier)))
            row = found.first()
        if row is None:
            raise _unknown(identifier)
        return _read(row.record, row.feedback)

    async def page(
        self, collection: str, size: int, token: str, *, rated: bool = False
    ) -> tuple[list[AnswerRecord], str]:
        query = select(answers.c.position, answers.c.record, answers.c.feedback)
        query = query.where(answers.c.tenant == tenants.current())
        query = query.order_by(answers.c.position.desc()).limit(size + 1)
        if collection:
            query = query.where(answers.c.collection == collection)
        if rated:
            query = query.where(answers.c.feedback.is_not(None))
        if token:
            query = query.where(answers.c.position < _position(token))
        async with self._engine.connect() as connection:
            rows = (await connection.execute(query)).all()
        found = [_read(row.record, row.feedback) for row in rows[:size]]
        return found, encode_token(str(rows[size - 1].position)) if len(rows) > size else ""

    async def rate(self, identifier: str, feedback: Feedback) -> None:
        said = _FEEDBACK.dump_json(feedback).decode()
        async with self._engine.begin() as connection:
            kept = await connection.execute(update(answers).where(_own(identifier)).values(feedback=said))
        if kept.rowcount == 0:
            raise _unknown(identifier)

    async def delete(self, identifier: str) -> None:
        async with self._engine.begin() as connection:
            gone = await connection.execute(delete(answers).where(_own(identifier)))
        if gone.rowcount == 0:
            raise _unknown(identifier)

    async def collections(self) -> list[str]:
        async with self._engine.connect() as connection:
            return list((await connection.execute(select(answers.c.collection).distinct())).scalars())

    async def documents(self, collection: str) -> list[str]:
        query = select(answer_documents.c.document).distinct()
        query = query.where(answer_documents.c.document.startswith(f"{collection}/", autoescape=True))
        async with self._engine.connect() as connection:
            return list((await connection.execute(query)).scalars())

    async def delete_seeing(self, documents: Sequence[str]) -> list[str]:
        seeing = select(answer_documents.c.answer).where(answer_documents.c.document.in_(documents))
        async with self._engine.begin() as connection:
            gone = await connection.execute(delete(answers).where(answers.c.id.in_(seeing)).returning(answers.c.id))
            return list(gone.scalars())

    async def _insert(self, connection: AsyncConnection, record: AnswerRecord) -> None:
        tenant = tenants.tenant_of(record.question.collection)
        values = {
            "id": record.id,
            "tenant": tenant,
            "collection": record.question.collection,
            "conversation": record.finish.conversation or None,
            "create_time": record.create_time,
            "record": _RECORD.dump_json(record, exclude={"feedback"}).decode(),
        }
        await connection.execute(insert(answers).values(values))
        documents = {source.document for source in record.sources} | {cited.document for cited in record.citations}
        if documents:
            rows = [
                {"answer": record.id, "document": tenants.scoped(document, tenant)} for document in sorted(documents)
            ]
            await connection.execute(insert(answer_documents), rows)
        theirs = answers.c.tenant == tenant
        latest = select(answers.c.position).where(theirs).order_by(answers.c.position.desc())
        too_many = answers.c.position <= latest.limit(1).offset(self._max_answers).scalar_subquery()
        too_old = answers.c.create_time < datetime.now(UTC) - self._max_age
        await connection.execute(delete(answers).where(theirs, too_many))
        await connection.execute(delete(answers).where(too_old))


def _read(record: str, feedback: str | None) -> AnswerRecord:
    said = None if feedback is None else _FEEDBACK.validate_json(feedback)
    return replace(_RECORD.validate_json(record), feedback=said)


def _own(identifier: str) -> ColumnElement[bool]:
    return (answers.c.id == identifier) & (answers.c.tenant == tenants.current())


def _position(token: str) -> int:
    try:
        return min(int(decode_token(token)), _LAST_POSITION)
    except ValueError as error:
        raise InvalidInput(f"page_token {token[:50]!r} was not given by this service.", field="page_token") from error


def _unknown(identifier: str) -> NotFound:
    return NotFound(
        f"There is no answer answers/{identifier}: it was deleted, with its conversation or a document that it saw perhaps, "
        "or is older than answers are kept."
    )
