"""Makes jobs of uploads. Uploads that come together are registered in one transaction of a few statements."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.catalog import drop_versions, new_version_id, stop_jobs
from ingest.database import Database, discard
from ingest.documents import Document, DocumentState, NewUpload, Version, content_key
from ingest.grouping import Grouped
from ingest.jobs import Job, JobChanges, JobOutcome, JobStage, JobState, new_id, now_us
from ingest.rows import job_values, to_version, version_values
from ingest.tables import VERSION_IS_LIVE, documents, jobs, versions

MAX_GROUP = 128


class Stopped(Exception):
    """The archive whose members these are has been stopped; none of them is registered."""


@dataclass(frozen=True)
class StoredUpload:
    """An upload whose raw file is kept under `raw_key`; an empty key where its bytes, live a moment ago, did not come."""

    upload: NewUpload
    sha256: str
    size_bytes: int
    raw_key: str


@dataclass(frozen=True)
class Registered:
    """An upload's document and job as they now are."""

    document: Document
    job: Job


@dataclass(frozen=True)
class _Known:
    """A document that is there already: when it came, its live version, whether a job is just being published."""

    created_us: int
    live: Version | None
    publishing: bool


class Registration:
    """Registers uploads, several in one transaction."""

    def __init__(self, database: Database, changes: JobChanges) -> None:
        self._database = database
        self._changes = changes
        self._register = Grouped(self._register_all, MAX_GROUP)
        self._find = Grouped(self._find_all, MAX_GROUP)

    async def register(self, stored: StoredUpload) -> Registered:
        """Makes a job of an upload; older jobs of the document that can still be stopped are cancelled.

        Content that is live already makes a job that has ended, and the raw file is discarded.
        """
        registered = await self._register(stored)
        while registered is None:  # another upload of the same document was in the group
            registered = await self._register(stored)
        return registered

    async def unchanged(self, upload: NewUpload, sha256: str) -> Registered | None:
        """Registers an upload whose bytes are live already, before they are sent; None when they are not, or just ceased to be:
        the file that was kept of them may be discarded by then."""
        known = await self._find(upload)
        if known is None or known.live is None or known.publishing:
            return None
        if known.live.content_key != content_key(sha256, upload.metadata):
            return None
        return await self._register(StoredUpload(upload, sha256, known.live.size_bytes, ""))

    async def _find_all(self, uploads: Sequence[NewUpload]) -> list[_Known | None]:
        async with self._database.read() as connection:
            known = await _known(connection, uploads)
        return [known.get((upload.collection, upload.document_id)) for upload in uploads]

    async def register_members(self, job: str, members: Sequence[StoredUpload], kept: Sequence[NewUpload]) -> None:
        """Registers members of the archive that this job reads; `kept` are there already, and belong to it from now on.

        Stopped when the job has been: another upload or a deletion of the archive decides about its members then.
        """
        collection = members[0].upload.collection if members else kept[0].collection
        async with self._database.write(collection) as connection:
            reading = sa.select(jobs.c.document).where(jobs.c.id == job, jobs.c.state == JobState.RUNNING)
            archive = (await connection.execute(reading.with_for_update())).scalar_one_or_none()
            if archive is None:
                raise Stopped
            _, stopped = await self._register_in(connection, members)
            ids = [upload.document_id for upload in kept]
            theirs = sa.and_(
                documents.c.collection == collection, documents.c.id.in_(ids), documents.c.archive != archive
            )
            await connection.execute(documents.update().where(theirs).values(archive=archive))
        self._changes.announce(stopped)

    async def _register_all(self, group: Sequence[StoredUpload]) -> list[Registered | None]:
        async with self._database.write(*{stored.upload.collection for stored in group}) as connection:
            results, stopped = await self._register_in(connection, group)
        self._changes.announce(stopped)
        return results

    async def _register_in(
        self, connection: AsyncConnection, group: Sequence[StoredUpload]
    ) -> tuple[list[Registered | None], list[str]]:
        """One for each, or None for those without bytes that need them, and for the later ones of the same document, which must
        wait for the next transaction; and the jobs that were stopped for them."""
        known = await _known(connection, [stored.upload for stored in group])
        seen: set[tuple[str, str]] = set()
        results: list[Registered | None] = []
        for stored in group:
            identity = (stored.upload.collection, stored.upload.document_id)
            results.append(None if identity in seen else _plan(stored, known.get(identity)))
            seen.add(identity)
        made = [result for result in results if result is not None]
        stopped = await self._supersede(connection, made, known)
        await self._insert(connection, made)
        unused = [
            stored.raw_key
            for stored, result in zip(group, results, strict=True)
            if result and result.document.shown and result.document.shown.raw_key != stored.raw_key
        ]
        await discard(self._database, connection, unused)
        return results, stopped

    async def _supersede(
        self, connection: AsyncConnection, made: list[Registered], known: dict[tuple[str, str], _Known]
    ) -> list[str]:
        """Stops older jobs of documents that were there already, and drops versions that are not needed any more."""
        stopped: list[str] = []
        for registered in made:
            document = registered.document
            before = known.get((document.collection, document.id))
            if before is not None:
                stopped += await stop_jobs(connection, document.collection, document.id)
                keep = (before.live.id,) if before.live else ()
                await drop_versions(self._database, connection, document.collection, document.id, keep)
        return stopped

    async def _insert(self, connection: AsyncConnection, made: list[Registered]) -> None:
        new = [
            {"collection": done.document.collection, "document": done.document.id, **version_values(_version(done))}
            for done in made
            if done.job.outcome != JobOutcome.UNCHANGED
        ]
        if new:
            await connection.execute(versions.insert(), new)
        if not made:
            return
        await connection.execute(jobs.insert(), [job_values(done.job, _version(done)) for done in made])
        statement = self._database.insert(documents)
        update = {name: statement.excluded[name] for name in ("job", "updated_us", "archive")}
        statement = statement.on_conflict_do_update(index_elements=["collection", "id"], set_=update)
        await connection.execute(statement, [_document_values(done.document) for done in made])


def _version(done: Registered) -> Version:
    assert done.document.shown is not None  # noqa: S101 - _plan sets it
    return done.document.shown


async def _known(connection: AsyncConnection, uploads: Sequence[NewUpload]) -> dict[tuple[str, str], _Known]:
    """Those of the uploads' documents that are there already."""
    by_collection: dict[str, set[str]] = defaultdict(set)
    for upload in uploads:
        by_collection[upload.collection].add(upload.document_id)
    publishing = sa.exists().where(
        jobs.c.collection == documents.c.collection, jobs.c.document == documents.c.id, jobs.c.publishing
    )
    query = sa.select(
        documents.c.collection, documents.c.id.label("document"), documents.c.created_us,
        publishing.label("publishing"), *(column for column in versions.c if column.name not in ("collection", "document")),
    ).outerjoin(versions, VERSION_IS_LIVE)  # fmt: skip
    known: dict[tuple[str, str], _Known] = {}
    for collection, ids in by_collection.items():
        mine = sa.and_(documents.c.collection == collection, documents.c.id.in_(ids))
        for row in await connection.execute(query.where(mine)):
            live = to_version(row) if row.id is not None else None
            known[row.collection, row.document] = _Known(row.created_us, live, row.publishing)
    return known


def _plan(stored: StoredUpload, known: _Known | None) -> Registered | None:
    """The document and the job that an upload makes; None where it needs its bytes and has none."""
    key = content_key(stored.sha256, stored.upload.metadata)
    live = known.live if known else None
    if known and live and live.content_key == key and not known.publishing:
        job = replace(
            _queued_job(stored.upload), state=JobState.SUCCEEDED, stage=JobStage.LIVE, outcome=JobOutcome.UNCHANGED,
            total_chunks=live.chunk_count, indexed_chunks=live.chunk_count,
        )  # fmt: skip
        return Registered(_document(stored.upload, job, DocumentState.LIVE, live, live, known), job)
    if not stored.raw_key:
        return None
    version = Version(
        new_version_id(key), key, stored.sha256, stored.size_bytes, stored.raw_key, "", "", 0, 0, 0, 0,
        stored.upload.metadata, {},
    )  # fmt: skip
    job = _queued_job(stored.upload)
    return Registered(_document(stored.upload, job, DocumentState.PENDING, live, version, known), job)


def _queued_job(upload: NewUpload) -> Job:
    now = now_us()
    return Job(
        new_id(), upload.collection, upload.document_id, upload.display_name, upload.batch, JobState.QUEUED,
        JobStage.STORED, JobOutcome.UNSPECIFIED, 0, 0, None, now, now, upload.archive,
    )  # fmt: skip


def _document(
    upload: NewUpload, job: Job, state: DocumentState, live: Version | None, shown: Version, known: _Known | None
) -> Document:
    return Document(
        upload.collection, upload.document_id, upload.display_name, state, live.id if live else "", shown, None, job.id,
        known.created_us if known else job.created_us, job.updated_us, upload.archive,
    )  # fmt: skip


def _document_values(document: Document) -> dict[str, Any]:
    return {
        "collection": document.collection, "id": document.id, "display_name": document.display_name,
        "live_version": document.live_version, "job": document.job, "created_us": document.created_us,
        "updated_us": document.updated_us, "archive": document.archive,
    }  # fmt: skip
