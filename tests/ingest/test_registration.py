"""Uploads and deletions that meet what others do to the same document in the same moment."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingest.catalog import Catalog
from ingest.database import Database
from ingest.documents import NewUpload
from ingest.fair_queue import BatchLimits, FairQueue
from ingest.job_watch import JobWatch
from ingest.jobs import JobChanges, JobStage
from ingest.registration import Registered, Registration, StoredUpload
from ingest.reindexings import Reindexings
from ingest.removal import Removal
from ingest.run_statements import Work
from ingest.runs import Runs
from ingest.tables import documents, versions
from mesh.database import database_url, open_database

UPLOAD = NewUpload("c", "page.txt", {}, "")
OLD, NEW = "1" * 64, "2" * 64


class Rooms:
    """A database, and one worker's view of it."""

    def __init__(self, database: Database) -> None:
        self.database, self.changes = database, JobChanges()
        self.catalog = Catalog(database, self.changes)
        self.registration = Registration(database, self.changes)
        self.runs = Runs(database, self.changes, "me")

    async def register(self, sha256: str, raw_key: str) -> Registered:
        return await self.registration.register(StoredUpload(UPLOAD, sha256, 1, raw_key))

    async def publishing(self) -> list[Work]:
        """What waits, as far as its worker has brought it when searches are about to find it."""
        run = await FairQueue(self.database, self.changes, BatchLimits(9, 1000)).take(room=9)
        assert run is not None
        await self.runs.claim(run)
        jobs = [work.job.id for work in await self.runs.work(run)]
        await self.runs.record_indexed(run, 0, {}, jobs)
        works, blocked = await self.runs.claim_publishing(run)
        assert ([work.job.stage for work in works], blocked) == ([JobStage.INDEXED], False)
        return works

    async def make_live(self, sha256: str, raw_key: str) -> None:
        await self.register(sha256, raw_key)
        await self.runs.record_live(await self.publishing())

    async def rows(self, table: sa.Table) -> list[Any]:
        async with self.database.read() as connection:
            return list((await connection.execute(sa.select(table))).all())


@pytest.fixture
async def rooms(tmp_path: Path) -> AsyncIterator[Rooms]:
    async with open_database(database_url("", tmp_path, "ingest"), "ingest") as engine:
        yield Rooms(Database(engine))


async def test_bytes_that_just_ceased_to_be_live_are_asked_for(rooms: Rooms) -> None:
    """What was kept of them is discarded: a job that counted on it would find nothing to read."""
    await rooms.make_live(OLD, "raw/old")
    assert await rooms.registration.unchanged(UPLOAD, OLD) is not None
    async with rooms.database.write("c") as connection:  # another upload is being made live
        again = asyncio.create_task(rooms.registration.unchanged(UPLOAD, OLD))
        async with asyncio.timeout(30):
            while rooms.registration._register._worker is None:  # noqa: ASYNC110 - until it waits for its turn to write
                await asyncio.sleep(0.01)
        await connection.execute(versions.delete())
        await connection.execute(documents.update().values(live_version=""))

    assert await again is None
    assert await rooms.rows(versions) == []
    assert (await rooms.register(OLD, "raw/again")).document.shown is not None
    assert [row.raw_key for row in await rooms.rows(versions)] == ["raw/again"]


class Chunks:
    """Deletes nothing; the first time somebody uploads the document again, and it is nearly live."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms, self.deletions = rooms, 0
        self.published: asyncio.Task[None] | None = None

    async def delete_documents(self, collection: str, names: Sequence[str]) -> int:
        self.deletions += 1
        if self.deletions == 1:
            await self.rooms.register(NEW, "raw/new")
            self.published = asyncio.create_task(self.rooms.runs.record_live(await self.rooms.publishing()))
        return 1


async def test_what_comes_again_while_it_is_deleted_leaves_nothing(rooms: Rooms) -> None:
    await rooms.make_live(OLD, "raw/old")
    [document] = await rooms.rows(documents)
    chunks: Any = Chunks(rooms)
    watch, reindexings = JobWatch(rooms.catalog, rooms.changes), Reindexings(rooms.database, rooms.changes, "me")

    await Removal(rooms.catalog, watch, chunks, reindexings).remove("c", [document.id])

    await chunks.published
    assert chunks.deletions == 2
    assert await rooms.rows(documents) == await rooms.rows(versions) == []
    assert sorted(await rooms.runs.discarded_keys(9)) == ["raw/new", "raw/old"]
