"""Gives documents other metadata without parsing, cutting or embedding them again: their bytes are those that are live."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.comparison import same_bytes
from ingest.database import Database
from ingest.documents import Document, DocumentState, NewUpload, Version, content_key
from ingest.grouping import Grouped
from ingest.index.chunk_index import ChunkIndex, Description
from ingest.jobs import Job, JobOutcome, JobStage, JobState, new_id, now_us
from ingest.registration import Registered
from ingest.reindexings import Reindexings
from ingest.rows import DOCUMENTS, job_values, to_document
from ingest.tables import documents, jobs, versions

MAX_GROUP = 128


@dataclass(frozen=True)
class _Change:
    """A document as it is, its live version as it shall be, and the job that says so."""

    document: Document
    version: Version
    job: Job


class Relabelling:
    """Changes that come together are made together.

    The chunks get the metadata first, then the document: an upload that breaks off between is sent again by its sender.
    """

    def __init__(self, database: Database, index: ChunkIndex, reindexings: Reindexings) -> None:
        self._database = database
        self._index = index
        self._reindexings = reindexings
        self._relabel = Grouped(self._relabel_all, MAX_GROUP)

    async def relabel(self, upload: NewUpload, sha256: str) -> Registered | None:
        """The document with the upload's metadata and a job that has ended; None where the bytes are not live."""
        return await self._relabel((upload, sha256))

    async def _relabel_all(self, group: Sequence[tuple[NewUpload, str]]) -> list[Registered | None]:
        known = await self._find([upload for upload, _ in group])
        wanted = [_plan(upload, sha256, known.pop(_identity(upload), None)) for upload, sha256 in group]
        planned = await self._with_members([upload for upload, _ in group], wanted)
        changes = [change for each in planned for change in each]
        if not changes:
            return [None for _ in group]
        collections = {change.document.collection for change in changes}
        copied = [name for name in collections if await self._reindexings.of(name)]
        await self._describe(changes)
        async with self._database.write(*{change.document.collection for change in changes}) as connection:
            made = {id(change) for change in changes if await _record(connection, change)}
        if copied or [name for name in collections if await self._reindexings.of(name)]:
            await self._describe([change for change in changes if id(change) in made])  # as it was copied meanwhile
        return [_registered(each[0]) if each and id(each[0]) in made else None for each in planned]

    async def _with_members(
        self, uploads: Sequence[NewUpload], wanted: Sequence[_Change | None]
    ) -> list[list[_Change]]:
        """Each change with those of the archive's members, which bear its metadata; none where one of them is not live."""
        members: dict[tuple[str, str], list[Document]] = defaultdict(list)
        async with self._database.read() as connection:
            for collection in {change.document.collection for change in wanted if change}:
                ids = [change.document.id for change in wanted if change and change.document.collection == collection]
                mine = sa.and_(documents.c.collection == collection, documents.c.archive.in_(ids))
                for row in await connection.execute(DOCUMENTS.where(mine)):
                    members[collection, row.archive].append(to_document(row))
        planned: list[list[_Change]] = []
        for upload, change in zip(uploads, wanted, strict=True):
            theirs = [_plan_member(upload, member) for member in members[_identity(upload)]] if change else []
            changes = [each for each in [change, *theirs] if each is not None]
            planned.append(changes if len(changes) == 1 + len(theirs) else [])
        return planned

    async def _find(self, uploads: Sequence[NewUpload]) -> dict[tuple[str, str], Document]:
        by_collection: dict[str, set[str]] = defaultdict(set)
        for upload in uploads:
            by_collection[upload.collection].add(upload.document_id)
        found: dict[tuple[str, str], Document] = {}
        async with self._database.read() as connection:
            for collection, ids in by_collection.items():
                mine = sa.and_(documents.c.collection == collection, documents.c.id.in_(ids))
                for row in await connection.execute(DOCUMENTS.where(mine)):
                    found[collection, row.id] = to_document(row)
        return found

    async def _describe(self, changes: Sequence[_Change]) -> None:
        by_collection: dict[str, list[Description]] = defaultdict(list)
        for change in changes:
            version = change.version
            described = Description(change.document.name, version.id, {**version.found, **version.metadata})
            by_collection[change.document.collection].append(described)
        for collection, descriptions in by_collection.items():
            await self._index.describe(collection, descriptions)


def _identity(upload: NewUpload) -> tuple[str, str]:
    return upload.collection, upload.document_id


def _plan(upload: NewUpload, sha256: str, document: Document | None) -> _Change | None:
    live = document.shown if document and document.live_version else None
    if document is None or live is None or document.state != DocumentState.LIVE or not same_bytes(live, sha256):
        return None
    relabelled = replace(live, metadata=upload.metadata, content_key=content_key(sha256, upload.metadata))
    return _Change(document, relabelled, _ended_job(upload, live))


def _plan_member(upload: NewUpload, member: Document) -> _Change | None:
    sha256 = member.shown.sha256 if member.shown else ""
    inherited = replace(upload, display_name=member.display_name, archive=member.archive)
    return _plan(inherited, sha256, member)


async def _record(connection: AsyncConnection, change: _Change) -> bool:
    """False when another upload of the document has come meanwhile: that one decides."""
    document, job, version = change.document, change.job, change.version
    as_it_was = sa.and_(
        documents.c.collection == document.collection,
        documents.c.id == document.id,
        documents.c.live_version == document.live_version,
        documents.c.job == document.job,
    )
    taken = documents.update().where(as_it_was).values(job=job.id, updated_us=job.updated_us, archive=job.archive)
    if (await connection.execute(taken)).rowcount != 1:
        return False
    mine = sa.and_(versions.c.collection == document.collection, versions.c.document == document.id)
    values = {"metadata": version.metadata, "content_key": version.content_key}
    await connection.execute(versions.update().where(mine, versions.c.id == version.id).values(**values))
    await connection.execute(jobs.insert(), job_values(job, version))
    return True


def _registered(change: _Change) -> Registered:
    job = change.job
    return Registered(replace(change.document, shown=change.version, job=job.id, updated_us=job.updated_us), job)


def _ended_job(upload: NewUpload, live: Version) -> Job:
    now = now_us()
    return Job(
        new_id(), upload.collection, upload.document_id, upload.display_name, upload.batch, JobState.SUCCEEDED,
        JobStage.LIVE, JobOutcome.REPLACED, live.chunk_count, live.chunk_count, None, now, now,
        upload.archive,
    )  # fmt: skip
