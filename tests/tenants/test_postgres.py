"""Tenants in a real PostgreSQL, which looks at lengths: migrated from before there were any, and with the longest names."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from ingest import tables
from mesh.access import identity, tenants
from mesh.access.identity import Identity
from mesh.database import open_database
from mesh.errors import NotFound
from mesh.names import MAX_SCOPED_CHARACTERS, collection_id
from orchestrator.record_storage import StoredRecords
from orchestrator.storage import StoredConversations
from tests.ingest.postgres import Postgres, postgres_server
from tests.mesh.migrating import take_back
from tests.orchestrator.test_tenants import record

pytestmark = pytest.mark.slow
TENANT = "t" * 63
COLLECTION = "c" * (MAX_SCOPED_CHARACTERS - 64)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def back_to_nobody() -> Iterator[None]:
    token = identity.current.set(None)
    yield
    identity.current.reset(token)


def calling_for(tenant: str) -> None:
    identity.current.set(Identity("key", tenant, frozenset()))


async def test_conversations_and_answers_from_before_are_the_default_tenants(postgres: Postgres) -> None:
    postgres.create("answers")
    url = postgres.url("answers")
    async with open_database(url, "orchestrator") as engine:
        await take_back(engine, "orchestrator", "0002")
        async with engine.begin() as connection:
            old = "insert into conversations (id, title, create_time, update_time) values ('c1', 'old', 1, 2)"
            await connection.execute(sa.text(old))
    async with open_database(url, "orchestrator") as engine:
        assert (await StoredConversations(engine).get("c1")).title == "old"
        calling_for(TENANT)
        with pytest.raises(NotFound):
            await StoredConversations(engine).get("c1")
        records = StoredRecords(engine, 2, timedelta(days=1))
        collection = f"collections/{collection_id(f'collections/{COLLECTION}')}"
        for number in range(3):
            await records.add(
                record(f"a{number}", collection, document=f"collections/{COLLECTION}/documents/{'d' * 128}")
            )
        assert [each.id for each in (await records.page(collection, 10, ""))[0]] == ["a2", "a1"]
        (seen,) = await records.documents(collection)
        assert tenants.tenant_of(seen) == TENANT
        assert sorted(await records.delete_seeing([seen])) == ["a1", "a2"]


async def test_documents_of_the_longest_names_fit_and_are_told_apart(postgres: Postgres) -> None:
    postgres.create("documents")
    url = postgres.url("documents")
    async with open_database(url, "ingest") as engine:
        await take_back(engine, "ingest", "0004")
    calling_for(TENANT)
    mine, now = collection_id(f"collections/{COLLECTION}"), round(datetime.now(UTC).timestamp() * 1e6)
    row = {"id": "d1", "display_name": "a", "live_version": "", "job": "j1", "created_us": now, "updated_us": now}
    async with open_database(url, "ingest") as engine, engine.begin() as connection:
        for collection in (mine, "notes", "acme.notes"):
            await connection.execute(tables.documents.insert().values(collection=collection, **row))
        for tenant, expected in (
            (TENANT, mine),
            ("default", "notes"),
            ("acme", "acme.notes"),
            ("t", None),
            ("acm", None),
        ):
            query = sa.select(tables.documents.c.collection).where(
                tables.of_tenant(tables.documents.c.collection, tenant)
            )
            assert (await connection.execute(query)).scalars().all() == ([expected] if expected else [])
