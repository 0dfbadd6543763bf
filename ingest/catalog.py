"""Documents and jobs as people see them: registered, listed, cancelled, tried again, deleted.

Each change is one transaction.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.database import Database, discard
from ingest.documents import Document, DocumentState, NewUpload, Version, content_key
from ingest.jobs import Job, JobChanges, JobOutcome, JobStage, JobState, new_id, now_us
from ingest.rows import ACTIVE, DOCUMENTS, STATE_OF_DOCUMENT, to_document, to_job, to_version, version_values
from ingest.tables import documents, jobs, versions
from mesh.errors import FailedPrecondition, NotFound


@dataclass(frozen=True)
class StoredUpload:
    """An upload whose raw file is kept under `raw_key`."""

    upload: NewUpload
    sha256: str
    size_bytes: int
    raw_key: str


@dataclass(frozen=True)
class Registered:
    """An upload's document and job as they now are."""

    document: Document
    job: Job


class Catalog:
    """The queries. Changes of jobs are announced after they are stored."""

    def __init__(self, database: Database, changes: JobChanges) -> None:
        self._database = database
        self._changes = changes

    async def register(self, stored: StoredUpload) -> Registered:
        """Makes a job of an upload; older jobs of the document that can still be stopped are cancelled.

        Content that is live already makes a job that has ended, and the raw file is discarded.
        """
        upload = stored.upload
        async with self._database.write() as connection:
            live = await self._live_version(connection, upload)
            key = content_key(stored.sha256, upload.metadata)
            stopped = await self._stop_jobs(connection, upload.collection, upload.document_id)
            if live is not None and live.content_key == key and not await self._is_publishing(connection, upload):
                job = _unchanged_job(upload, live)
                await discard(self._database, connection, [stored.raw_key])
                await self._drop_versions(connection, upload.collection, upload.document_id, keep=(live.id,))
            else:
                version = _new_version(stored, key)
                job = _queued_job(upload, version)
                kept = (live.id if live else "", version.id)
                await self._drop_versions(connection, upload.collection, upload.document_id, keep=kept)
                values = version_values(version)
                identity = {"collection": upload.collection, "document": upload.document_id}
                await connection.execute(versions.insert(), {**identity, **values})
            await connection.execute(jobs.insert(), job)
            await self._upsert_document(connection, upload, job["id"])
            registered = await self._registered(connection, upload.collection, upload.document_id)
        self._changes.announce(stopped)
        return registered

    async def unchanged(self, upload: NewUpload, sha256: str) -> Registered | None:
        """Registers an upload whose bytes are live already, before they are sent; None when they are not."""
        async with self._database.read() as connection:
            live = await self._live_version(connection, upload)
        if live is None or live.content_key != content_key(sha256, upload.metadata):
            return None
        registered = await self.register(StoredUpload(upload, sha256, live.size_bytes, ""))
        return registered if registered.job.outcome == JobOutcome.UNCHANGED else None

    async def document(self, collection: str, document: str) -> Document:
        """One document. NotFound when there is none."""
        async with self._database.read() as connection:
            return await self._document(connection, collection, document)

    async def documents(
        self, collection: str, *, after: str, limit: int, state: DocumentState | None, display_name: str
    ) -> list[Document]:
        """A collection's documents by display name, from the one after `after`."""
        query = DOCUMENTS.where(documents.c.collection == collection, documents.c.display_name > after)
        if state is not None:
            query = query.where(STATE_OF_DOCUMENT.in_((int(state),)))
        if display_name:
            query = query.where(documents.c.display_name == display_name)
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(documents.c.display_name).limit(limit))
            return [to_document(row) for row in rows]

    async def job(self, job: str) -> Job:
        """One job. NotFound when there is none."""
        async with self._database.read() as connection:
            return to_job(await _job_row(connection, job))

    async def jobs(
        self, *, before: str, limit: int, batch: str, state: JobState | None, updated_since_us: int
    ) -> list[Job]:
        """Jobs, the newest first, from the one before `before`."""
        query = sa.select(jobs)
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
        async with self._database.write() as connection:
            row = await _job_row(connection, job)
            await self._stop_jobs(connection, row.collection, row.document, only=job)
            cancelled = to_job(await _job_row(connection, job))
        self._changes.announce([job])
        return cancelled

    async def retry(self, job: str) -> Job:
        """Queues a failed or cancelled job again as a new version. FailedPrecondition for others."""
        async with self._database.write() as connection:
            row = await _job_row(connection, job)
            document = await self._document(connection, row.collection, row.document)
            if JobState(row.state) not in (JobState.FAILED, JobState.CANCELLED):
                state = JobState(row.state).name
                raise FailedPrecondition(f"The job {job} is {state}; only a failed or cancelled one can be retried.")
            if document.job != job:
                raise FailedPrecondition(
                    f"The job {job} was superseded by jobs/{document.job}. Retry that one, or upload the document again."
                )
            version = _version_id(row.version.split("-")[0])
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

    async def stop(self, collection: str, document: str) -> list[str]:
        """Cancels a document's jobs; answers with those that are being published and must be waited for."""
        async with self._database.write() as connection:
            await self._document(connection, collection, document)
            stopped = await self._stop_jobs(connection, collection, document)
            query = sa.select(jobs.c.id).where(_of(collection, document), jobs.c.publishing)
            publishing = list((await connection.execute(query)).scalars())
        self._changes.announce(stopped)
        return publishing

    async def remove(self, collection: str, document: str) -> None:
        """Forgets a document and its versions, and discards their files."""
        async with self._database.write() as connection:
            stopped = await self._stop_jobs(connection, collection, document)
            await self._drop_versions(connection, collection, document, keep=())
            mine = sa.and_(documents.c.collection == collection, documents.c.id == document)
            await connection.execute(documents.delete().where(mine))
        self._changes.announce(stopped)

    async def _registered(self, connection: AsyncConnection, collection: str, document: str) -> Registered:
        registered = await self._document(connection, collection, document)
        return Registered(registered, to_job(await _job_row(connection, registered.job)))

    async def _document(self, connection: AsyncConnection, collection: str, document: str) -> Document:
        query = DOCUMENTS.where(documents.c.collection == collection, documents.c.id == document)
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise NotFound(f"There is no document {document} in the collection {collection}.", field="name")
        return to_document(row)

    async def _live_version(self, connection: AsyncConnection, upload: NewUpload) -> Version | None:
        query = sa.select(versions).join(
            documents,
            sa.and_(
                documents.c.collection == versions.c.collection,
                documents.c.id == versions.c.document,
                documents.c.live_version == versions.c.id,
            ),
        )
        mine = sa.and_(versions.c.collection == upload.collection, versions.c.document == upload.document_id)
        row = (await connection.execute(query.where(mine))).one_or_none()
        return to_version(row) if row is not None else None

    async def _is_publishing(self, connection: AsyncConnection, upload: NewUpload) -> bool:
        query = sa.select(jobs.c.id).where(_of(upload.collection, upload.document_id), jobs.c.publishing).limit(1)
        return (await connection.execute(query)).first() is not None

    async def _stop_jobs(
        self, connection: AsyncConnection, collection: str, document: str, only: str = ""
    ) -> Sequence[str]:
        """Cancels jobs that are not being published; their workflow sees it and cleans up after them."""
        query = jobs.update().where(_of(collection, document), jobs.c.state.in_(ACTIVE), ~jobs.c.publishing)
        if only:
            query = query.where(jobs.c.id == only)
        values = query.values(state=JobState.CANCELLED, updated_us=now_us())
        return (await connection.execute(values.returning(jobs.c.id))).scalars().all()

    async def _drop_versions(
        self, connection: AsyncConnection, collection: str, document: str, keep: tuple[str, ...]
    ) -> None:
        """Forgets versions that are neither kept nor being published."""
        publishing = sa.select(jobs.c.version).where(_of(collection, document), jobs.c.publishing)
        gone = sa.and_(
            versions.c.collection == collection,
            versions.c.document == document,
            versions.c.id.not_in(keep),
            versions.c.id.not_in(publishing),
        )
        dropped = await connection.execute(
            versions.delete().where(gone).returning(versions.c.raw_key, versions.c.text_key)
        )
        keys = [key for row in dropped for key in object_keys(row.raw_key, row.text_key)]
        await discard(self._database, connection, keys)

    async def _upsert_document(self, connection: AsyncConnection, upload: NewUpload, job: str) -> None:
        now = now_us()
        values = {
            "collection": upload.collection, "id": upload.document_id, "display_name": upload.display_name,
            "live_version": "", "job": job, "created_us": now, "updated_us": now,
        }  # fmt: skip
        statement = self._database.insert(documents).values(values)
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["collection", "id"], set_={"job": job, "updated_us": now})
        )


def object_keys(raw_key: str, text_key: str) -> list[str]:
    """All objects that a version may have: the raw file, its text where that is another file, and the text's index."""
    if not text_key:
        return [raw_key]
    return [raw_key, *([text_key] if text_key != raw_key else []), index_key(text_key)]


def index_key(text_key: str) -> str:
    """Where the TextIndex of a text is kept, if it has one."""
    return f"{text_key}.index"


def _of(collection: str, document: str) -> Any:
    return sa.and_(jobs.c.collection == collection, jobs.c.document == document)


async def _job_row(connection: AsyncConnection, job: str) -> Any:
    row = (await connection.execute(sa.select(jobs).where(jobs.c.id == job))).one_or_none()
    if row is None:
        raise NotFound(f"There is no job {job}.", field="name")
    return row


def _version_id(content: str) -> str:
    """The content in 12 digits, and 4 random ones: a second attempt must not meet chunks that the first one left."""
    return f"{content[:12]}-{secrets.token_hex(2)}"


def _new_version(stored: StoredUpload, key: str) -> Version:
    identity = _version_id(key)
    return Version(
        identity, key, stored.sha256, stored.size_bytes, stored.raw_key, "", "", 0, 0, 0, 0, stored.upload.metadata, {}
    )


def _queued_job(upload: NewUpload, version: Version) -> dict[str, Any]:
    now = now_us()
    return {
        "id": new_id(), "collection": upload.collection, "document": upload.document_id,
        "display_name": upload.display_name, "version": version.id, "batch": upload.batch,
        "size_bytes": version.size_bytes, "state": JobState.QUEUED, "stage": JobStage.STORED, "outcome": JobOutcome.UNSPECIFIED,
        "publishing": False, "run": "", "total_chunks": 0, "indexed_chunks": 0, "failure": None,
        "created_us": now, "updated_us": now,
    }  # fmt: skip


def _unchanged_job(upload: NewUpload, live: Version) -> dict[str, Any]:
    return _queued_job(upload, live) | {
        "state": JobState.SUCCEEDED, "stage": JobStage.LIVE, "outcome": JobOutcome.UNCHANGED,
        "total_chunks": live.chunk_count, "indexed_chunks": live.chunk_count,
    }  # fmt: skip
