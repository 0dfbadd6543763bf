"""Gives a document other metadata without parsing, cutting or embedding it again: the bytes are those that are live."""

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.comparison import same_bytes
from ingest.database import Database
from ingest.documents import Document, DocumentState, NewUpload, Version, content_key
from ingest.index.chunk_index import ChunkIndex
from ingest.jobs import Job, JobOutcome, JobStage, JobState, new_id, now_us
from ingest.registration import Registered
from ingest.rows import DOCUMENTS, job_values, to_document
from ingest.tables import documents, jobs, versions


class Relabelling:
    """The chunks get the metadata first, then the document: an upload that breaks off between is sent again by its sender."""

    def __init__(self, database: Database, index: ChunkIndex) -> None:
        self._database = database
        self._index = index

    async def relabel(self, upload: NewUpload, sha256: str) -> Registered | None:
        """The document with the upload's metadata and a job that has ended; None where the bytes are not live."""
        document = await self._find(upload)
        live = document.shown if document and document.live_version else None
        if document is None or live is None or document.state != DocumentState.LIVE or not same_bytes(live, sha256):
            return None
        await self._index.describe(upload.collection, document.name, live.id, {**live.found, **upload.metadata})
        job = _ended_job(upload, live)
        async with self._database.write() as connection:
            if not await _is_still(connection, document, job):
                return None
            changed = {"metadata": upload.metadata, "content_key": content_key(sha256, upload.metadata)}
            mine = sa.and_(versions.c.collection == document.collection, versions.c.document == document.id)
            await connection.execute(versions.update().where(mine, versions.c.id == live.id).values(**changed))
            await connection.execute(jobs.insert(), job_values(job, live))
        return Registered(replace(document, shown=replace(live, **changed), job=job.id, updated_us=job.updated_us), job)

    async def _find(self, upload: NewUpload) -> Document | None:
        mine = sa.and_(documents.c.collection == upload.collection, documents.c.id == upload.document_id)
        async with self._database.read() as connection:
            row = (await connection.execute(DOCUMENTS.where(mine))).one_or_none()
        return to_document(row) if row is not None else None


async def _is_still(connection: AsyncConnection, document: Document, job: Job) -> bool:
    """Makes the job the document's last one, unless another upload has come meanwhile."""
    unchanged = sa.and_(
        documents.c.collection == document.collection,
        documents.c.id == document.id,
        documents.c.live_version == document.live_version,
        documents.c.job == document.job,
    )
    taken = documents.update().where(unchanged).values(job=job.id, updated_us=job.updated_us)
    return (await connection.execute(taken)).rowcount == 1


def _ended_job(upload: NewUpload, live: Version) -> Job:
    now = now_us()
    return Job(
        new_id(), upload.collection, upload.document_id, upload.display_name, upload.batch, JobState.SUCCEEDED,
        JobStage.LIVE, JobOutcome.REPLACED, live.chunk_count, live.chunk_count, None, now, now,
    )  # fmt: skip
