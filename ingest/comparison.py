"""What an upload of a file would do, told from what is known of the documents. Changes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import sqlalchemy as sa

from ingest.database import Database
from ingest.documents import Document, DocumentState, Metadata, Version, content_key, document_id
from ingest.jobs import Job
from ingest.rows import DOCUMENTS, to_document, to_job, to_version
from ingest.tables import VERSION_OF_JOB, documents, jobs, versions


class Comparison(IntEnum):
    """Numbered as in the contract."""

    NEW = 1
    CHANGED = 2
    METADATA_CHANGED = 3
    UNCHANGED = 4
    PENDING = 5


@dataclass(frozen=True)
class FileDescription:
    """A file as its holder knows it; without a `sha256` its metadata stands for its content."""

    display_name: str
    sha256: str
    metadata: Metadata


@dataclass(frozen=True)
class Compared:
    """What an upload would do, the chunks of the live version, and the job that does the same already."""

    comparison: Comparison
    chunk_count: int = 0
    job: Job | None = None


class Comparer:
    """Compares files with a collection's documents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def compare(self, collection: str, files: Sequence[FileDescription]) -> list[Compared]:
        """One answer for each file, in order."""
        ids = [document_id(file.display_name) for file in files]
        mine = sa.and_(documents.c.collection == collection, documents.c.id.in_(ids))
        async with self._database.read() as connection:
            known = {row.id: to_document(row) for row in await connection.execute(DOCUMENTS.where(mine))}
            going = [document.job for document in known.values() if document.state == DocumentState.PENDING]
            rows = list(await connection.execute(sa.select(jobs).where(jobs.c.id.in_(going))))
            coming = (
                sa.select(jobs.c.id.label("job"), versions).join(versions, VERSION_OF_JOB).where(jobs.c.id.in_(going))
            )
            by_job = {row.job: to_version(row) for row in await connection.execute(coming)}
        pending = {row.id: (to_job(row), by_job[row.id]) for row in rows if row.id in by_job}
        return [_compared(file, known.get(key), pending) for file, key in zip(files, ids, strict=True)]


def _compared(file: FileDescription, document: Document | None, pending: Mapping[str, tuple[Job, Version]]) -> Compared:
    if document is None:
        return Compared(Comparison.NEW)
    if document.job in pending:
        job, version = pending[document.job]
        if _same(file, version):
            return Compared(Comparison.PENDING, job=job)
    live = document.shown if document.live_version else None
    chunks = live.chunk_count if live else 0
    if live is None or document.state != DocumentState.LIVE:
        return Compared(Comparison.CHANGED, chunks)
    if _same(file, live):
        return Compared(Comparison.UNCHANGED, chunks)
    return Compared(Comparison.METADATA_CHANGED if same_bytes(live, file.sha256) else Comparison.CHANGED, chunks)


def _same(file: FileDescription, version: Version) -> bool:
    if not file.sha256:
        return bool(file.metadata) and file.metadata == version.metadata
    return version.content_key == content_key(file.sha256, file.metadata)


def same_bytes(version: Version, sha256: str) -> bool:
    """Whether it is of these bytes, and cut as they would be now."""
    return version.sha256 == sha256 and version.content_key == content_key(sha256, version.metadata)
