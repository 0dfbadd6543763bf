"""Conversations and answers of several tenants in one database, and of those who came before there were any."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from mesh.access import identity
from mesh.access.identity import Identity
from mesh.database import database_url, open_database
from mesh.errors import NotFound
from orchestrator.conversations import StoredTurn
from orchestrator.events import EngineTimings, Finish, Outcome, StopReason, Timings, Usage, Versions
from orchestrator.questions import Question
from orchestrator.record_storage import StoredRecords
from orchestrator.records import AnswerRecord
from orchestrator.sources import Source, Span
from orchestrator.storage import StoredConversations
from tests.mesh.migrating import take_back

DOCUMENT = "collections/notes/documents/1"


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    async with open_database(database_url("", tmp_path, "orchestrator"), "orchestrator") as opened:
        yield opened


@pytest.fixture(autouse=True)
def back_to_nobody() -> object:
    token = identity.current.set(None)
    yield
    identity.current.reset(token)


def calling_for(tenant: str) -> None:
    identity.current.set(Identity("key", tenant, frozenset()))


def record(name: str, collection: str, document: str = DOCUMENT) -> AnswerRecord:
    timings = Timings(0.0, 0.0, EngineTimings(), 0.0, 0.1)
    finish = Finish(StopReason.STOP, Outcome.ANSWERED, Usage(), Versions(), timings)
    source = Source(1, document, "v1", "a.txt", "", Span(0, 1), 0, (), 1.0, ())
    return AnswerRecord(name, Question("Why?", collection), "So.", (source,), (), finish, {}, datetime.now(UTC))


def turn(name: str) -> StoredTurn:
    return StoredTurn(name, "Why?", "So.", (), Versions(), datetime.now(UTC))


async def test_a_conversation_is_there_for_its_tenant_alone(engine: AsyncEngine) -> None:
    conversations = StoredConversations(engine)
    calling_for("acme")
    made = await conversations.create("plans")
    await conversations.append(made.id, turn("a1"))
    for tenant in ("rival", "default"):
        calling_for(tenant)
        assert await conversations.page(10, "") == ([], "")
        for attempt in (
            conversations.get(made.id),
            conversations.latest_turns(made.id, 5),
            conversations.append(made.id, turn("a2")),
            conversations.delete(made.id),
        ):
            with pytest.raises(NotFound):
                await attempt
    calling_for("acme")
    assert [each.answer_id for each in (await conversations.get(made.id)).turns] == ["a1"]


async def test_many_answers_of_one_tenant_push_out_none_of_another(engine: AsyncEngine) -> None:
    records = StoredRecords(engine, 2, timedelta(days=1))
    await records.add(record("theirs", "collections/acme.notes"))
    for number in range(4):
        await records.add(record(f"mine{number}", "collections/rival.notes"))
    calling_for("acme")
    assert [each.id for each in (await records.page("", 10, ""))[0]] == ["theirs"]
    with pytest.raises(NotFound):
        await records.get("mine3")
    with pytest.raises(NotFound):
        await records.delete("mine3")
    calling_for("rival")
    assert [each.id for each in (await records.page("", 10, ""))[0]] == ["mine3", "mine2"]


async def test_a_deleted_document_takes_its_own_tenants_answers_along(engine: AsyncEngine) -> None:
    records = StoredRecords(engine, 10, timedelta(days=1))
    for tenant in ("acme.", "rival.", ""):
        await records.add(record(f"of-{tenant}", f"collections/{tenant}notes"))
    assert await records.documents("collections/acme.notes") == ["collections/acme.notes/documents/1"]
    assert await records.documents("collections/notes") == [DOCUMENT]
    assert await records.delete_seeing(["collections/acme.notes/documents/1"]) == ["of-acme."]
    assert await records.delete_seeing([DOCUMENT]) == ["of-"]


async def test_a_folder_from_before_tenants_opens_and_is_the_default_tenants(tmp_path: Path) -> None:
    url = database_url("", tmp_path, "orchestrator")
    async with open_database(url, "orchestrator") as engine:
        await take_back(engine, "orchestrator", "0002")
        async with engine.begin() as connection:
            for statement in (
                "insert into conversations (id, title, create_time, update_time) values ('c1', 'old', 1, 2)",
                "insert into answers (id, collection, conversation, create_time, record) "
                "values ('a1', 'collections/notes', 'c1', 1, '{}')",
            ):
                await connection.execute(text(statement))
    async with open_database(url, "orchestrator") as engine:
        conversations = StoredConversations(engine)
        assert (await conversations.get("c1")).title == "old"
        assert [each.id for each in (await conversations.page(10, ""))[0]] == ["c1"]
        async with engine.connect() as connection:
            assert (await connection.execute(text("select tenant from answers"))).scalars().all() == ["default"]
        calling_for("acme")
        with pytest.raises(NotFound):
            await conversations.get("c1")
