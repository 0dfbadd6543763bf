"""Documents and jobs as people see them: listed, cancelled, tried again, deleted.

Each change is one transaction.
"""

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.database import Database, discard
from ingest.documents import Document, DocumentState, MemberCounts, Version
from ingest.jobs import Job, JobChanges, JobKind, JobStage, JobState, now_us
from ingest.rows import ACTIVE, DOCUMENTS, STATE_OF_DOCUMENT, to_document, to_job
from ingest.tables import documents, jobs, of_tenant, versions
from mesh.access.tenants import public, tenant_of
from mesh.errors import FailedPrecondition, NotFound

DELETED = "(deleted)"
"""What stands for a document's name in the jobs that it had."""


class Catalog:
    """The queries. Changes of jobs are announced after they are stored."""

    def __init__(self, database: Database, changes: JobChanges) -> None:
        self._database = database
        self._changes = changes

    async def document(self, collection: str, document: str) -> Document:
        """One document. NotFound when there is none."""
        async with self._database.read() as connection:
            found = [await self._document(connection, collection, document)]
            return (await _with_counts(connection, collection, found))[0]

    async def documents(
        self,
        collection: str,
        *,
        after: str,
        limit: int,
        state: DocumentState | None,
        display_name: str,
        prefix: str = "",
        archive: str = "",
    ) -> list[Document]:
        """A collection's documents by display name, from the one after `after`; only an archive's members where it is set."""
        query = DOCUMENTS.where(documents.c.collection == collection, documents.c.display_name > after)
        if state is not None:
            query = query.where(STATE_OF_DOCUMENT.in_((int(state),)))
        if display_name:
            query = query.where(documents.c.display_name == display_name)
        if prefix:
            query = query.where(sa.func.substr(documents.c.display_name, 1, len(prefix)) == prefix)
        if archive:
            query = query.where(documents.c.archive == archive)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(documents.c.display_name).limit(limit))
            return await _with_counts(connection, collection, [to_document(row) for row in rows])

    async def members(self, collection: str, archive: str) -> list[str]:
        """The ids of an archive's members."""
        query = sa.select(documents.c.id).where(documents.c.collection == collection, documents.c.archive == archive)
        async with self._database.read() as connection:
            return list((await connection.execute(query)).scalars())

    async def archives(self, collection: str, ids: Sequence[str]) -> set[str]:
        """Those of these documents that have members."""
        mine = sa.and_(documents.c.collection == collection, documents.c.archive.in_(ids))
        async with self._database.read() as connection:
            return set((await connection.execute(sa.select(documents.c.archive).where(mine).distinct())).scalars())

    async def job(self, job: str) -> Job:
        """One job. NotFound when there is none."""
        async with self._database.read() as connection:
            return to_job(await _job_row(connection, job))

    async def job_of(self, tenant: str, job: str) -> Job:
        """One job of a tenant. NotFound when it has none such, also where another one has."""
        found = await self.job(job)
        if tenant_of(found.collection) != tenant:
            raise _no_job(job)
        return found

    async def jobs(
        self, tenant: str, *, before: str, limit: int, batch: str, state: JobState | None, updated_since_us: int
    ) -> list[Job]:
        """A tenant's jobs, the newest first, from the one before `before`."""
        query = sa.select(jobs).where(of_tenant(jobs.c.collection, tenant))
        if before:
            query = query.where(jobs.c.id < before)
        if batch:
            query = query.where(jobs.c.batch == batch)
        if state is not None:
            query = query.where(jobs.c.state == state)
        if updated_since_us:
            query = query.where(jobs.c.updated_us >= updated_since_us)
        async with self._database.read() as connection:
            return [to_job(row) for row in await connection.execute(query.order_by(jobs.c.id.desc()).limit(limit))]

    async def waiting_jobs(self) -> int:
        """How many jobs have not ended."""
        async with self._database.read() as connection:
            query = sa.select(sa.func.count()).select_from(jobs).where(jobs.c.state.in_(ACTIVE))
            return (await connection.execute(query)).scalar_one()

    async def cancel(self, job: str) -> Job:
        """Stops a job unless it has ended or its chunks are being published."""
        async with self._database.write(await self._collection_of(job)) as connection:
            row = await _job_row(connection, job)
            await stop_jobs(connection, row.collection, row.document, only=job)
            cancelled = to_job(await _job_row(connection, job))
        self._changes.announce([job])
        return cancelled

    async def retry(self, job: str) -> Job:
        """Queues a failed or cancelled job again as a new version. FailedPrecondition for others."""
        async with self._database.write(await self._collection_of(job)) as connection:
            row = await _job_row(connection, job)
            if row.kind != JobKind.DOCUMENT:
                raise FailedPrecondition(f"The job {job} indexed a whole collection anew; begin another one instead.")
            document = await self._document(connection, row.collection, row.document)
            if JobState(row.state) not in (JobState.FAILED, JobState.CANCELLED):
                state = JobState(row.state).name
                raise FailedPrecondition(f"The job {job} is {state}; only a failed or cancelled one can be retried.")
            if document.job != job:
                raise FailedPrecondition(
                    f"The job {job} was superseded by jobs/{document.job}. Retry that one, or upload the document again."
                )
            version = new_version_id(row.version.split("-")[0])
            mine = sa.and_(versions.c.collection == row.collection, versions.c.document == row.document)
            renamed = await connection.execute(
                versions.update().where(mine, versions.c.id == row.version).values(id=version)
            )
            if renamed.rowcount == 0:
                raise FailedPrecondition(f"The file of job {job} is no longer kept. Upload the document again.")
            await connection.execute(jobs.update().where(jobs.c.id == job).values(
                version=version, state=JobState.QUEUED, stage=JobStage.STORED, run="", failure=None, total_chunks=0,
                indexed_chunks=0, updated_us=now_us(),
            ))  # fmt: skip
            retried = to_job(await _job_row(connection, job))
        self._changes.announce([job])
        return retried

    async def stop(self, collection: str, ids: Sequence[str]) -> list[str]:
        """Cancels documents' jobs; answers with those that are being published and must be waited for."""
        stopped: list[str] = []
        async with self._database.write(collection) as connection:
            for document in ids:
                stopped += await stop_jobs(connection, collection, document)
            theirs = sa.and_(jobs.c.collection == collection, jobs.c.document.in_(ids), jobs.c.publishing)
            publishing = list((await connection.execute(sa.select(jobs.c.id).where(theirs))).scalars())
        self._changes.announce(stopped)
        return publishing

    async def remove(self, collection: str, ids: Sequence[str]) -> bool:
        """Forgets documents, their versions and what their jobs say of them, and discards the files. Nothing is forgotten,
        and the answer is False, while one of them has members, or has been uploaded again and is just being made live."""
        stopped: list[str] = []
        async with self._database.write(collection) as connection:
            members = sa.and_(documents.c.collection == collection, documents.c.archive.in_(ids))
            publishing = sa.and_(jobs.c.collection == collection, jobs.c.document.in_(ids), jobs.c.publishing)
            for held in (sa.select(documents.c.id).where(members), sa.select(jobs.c.id).where(publishing)):
                if (await connection.execute(held.limit(1))).first() is not None:
                    return False
            for document in ids:
                stopped += await stop_jobs(connection, collection, document)
                await drop_versions(self._database, connection, collection, document, keep=())
            mine = sa.and_(documents.c.collection == collection, documents.c.id.in_(ids))
            await connection.execute(documents.delete().where(mine))
            theirs = sa.and_(jobs.c.collection == collection, jobs.c.document.in_(ids))
            await connection.execute(jobs.update().where(theirs).values(display_name=DELETED, failure=None))
        self._changes.announce(stopped)
        return True

    async def _collection_of(self, job: str) -> str:
        async with self._database.read() as connection:
            return (await _job_row(connection, job)).collection

    async def _document(self, connection: AsyncConnection, collection: str, document: str) -> Document:
        query = DOCUMENTS.where(documents.c.collection == collection, documents.c.id == document)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"There is no document {document} in the collection {public(collection)}.", field="name")
        return to_document(row)


async def stop_jobs(connection: AsyncConnection, collection: str, document: str, only: str = "") -> Sequence[str]:
    """Cancels jobs that are not being published; their workflow sees it and cleans up after them. Answers with them."""
    query = jobs.update().where(_of(collection, document), jobs.c.state.in_(ACTIVE), ~jobs.c.publishing)
    if only:
        query = query.where(jobs.c.id == only)
    values = query.values(state=JobState.CANCELLED, updated_us=now_us())
    return (await connection.execute(values.returning(jobs.c.id))).scalars().all()


async def drop_versions(
    database: Database, connection: AsyncConnection, collection: str, document: str, keep: tuple[str, ...]
) -> None:
    """Forgets versions that are neither kept nor being published, and discards their files."""
    publishing = sa.select(jobs.c.version).where(_of(collection, document), jobs.c.publishing)
    gone = sa.and_(
        versions.c.collection == collection,
        versions.c.document == document,
        versions.c.id.not_in(keep),
        versions.c.id.not_in(publishing),
    )
    dropped = await connection.execute(versions.delete().where(gone).returning(versions.c.raw_key, versions.c.text_key))
    await discard(database, connection, [key for row in dropped for key in object_keys(row.raw_key, row.text_key)])


def object_keys(raw_key: str, text_key: str) -> list[str]:
    """All objects that a version may have: the raw file, its text where that is another file, and the text's index."""
    if not text_key:
        return [raw_key]
    return [raw_key, *([text_key] if text_key != raw_key else []), index_key(text_key)]


def index_key(text_key: str) -> str:
    """Where the TextIndex of a text is kept, if it has one."""
    return f"{text_key}.index"


def has_index(version: Version) -> bool:
    """Whether there is a TextIndex: for every text but a raw file whose characters are all one byte."""
    return version.text_key != version.raw_key or version.text_bytes != version.text_length


def _of(collection: str, document: str) -> Any:
    return sa.and_(jobs.c.collection == collection, jobs.c.document == document)


async def _with_counts(connection: AsyncConnection, collection: str, found: list[Document]) -> list[Document]:
    """The same documents, archives with how their members are."""
    counted = (
        sa.select(documents.c.archive, STATE_OF_DOCUMENT.label("state"), sa.func.count().label("count"))
        .join(jobs, jobs.c.id == documents.c.job)
        .where(documents.c.collection == collection, documents.c.archive.in_([document.id for document in found]))
        .group_by(documents.c.archive, STATE_OF_DOCUMENT)
    )
    counts: dict[str, MemberCounts] = {}
    for row in await connection.execute(counted):
        state = DocumentState(row.state).name.lower()
        counts[row.archive] = replace(counts.get(row.archive, MemberCounts()), **{state: row.count})
    return [replace(document, members=counts.get(document.id)) for document in found]


async def _job_row(connection: AsyncConnection, job: str) -> Any:
    row = (await connection.execute(sa.select(jobs).where(jobs.c.id == job))).one_or_none()
    if row is None:
        raise _no_job(job)
    return row


def _no_job(job: str) -> NotFound:
    return NotFound(f"There is no job {job}.", field="name")


def new_version_id(content: str) -> str:
    """The content in 12 digits, and 4 random ones: a second attempt must not meet chunks that the first one left."""
    return f"{content[:12]}-{secrets.token_hex(2)}"
