"""Rows of the database as domain objects, and back."""

from typing import Any

import sqlalchemy as sa

from ingest.documents import Document, DocumentState, Failure, Version
from ingest.jobs import Job, JobKind, JobOutcome, JobStage, JobState
from ingest.tables import documents, jobs, versions
from mesh.errors import Cancelled

ACTIVE = (JobState.QUEUED, JobState.RUNNING)

_SHOWN_VERSION = sa.case((documents.c.live_version != "", documents.c.live_version), else_=jobs.c.version)
_STATE = sa.case(
    (jobs.c.state.in_(ACTIVE), int(DocumentState.PENDING)),
    (jobs.c.state == JobState.SUCCEEDED, int(DocumentState.LIVE)),
    (sa.and_(jobs.c.state == JobState.CANCELLED, documents.c.live_version != ""), int(DocumentState.LIVE)),
    else_=int(DocumentState.FAILED),
)

DOCUMENTS = (
    sa.select(
        documents,
        _STATE.label("state"),
        jobs.c.state.label("job_state"),
        jobs.c.failure,
        *(
            column.label(f"version_{column.name}")
            for column in versions.c
            if column.name not in ("collection", "document")
        ),
    )
    .join(jobs, jobs.c.id == documents.c.job)
    .outerjoin(
        versions,
        sa.and_(
            versions.c.collection == documents.c.collection,
            versions.c.document == documents.c.id,
            versions.c.id == _SHOWN_VERSION,
        ),
    )
)
"""Documents with their state, their last failure, and the version that is shown."""

STATE_OF_DOCUMENT = _STATE


def to_job(row: Any) -> Job:
    """From a row of `jobs`."""
    failure = Failure(**row.failure) if row.failure else None
    return Job(
        row.id, row.collection, row.document, row.display_name, row.batch, JobState(row.state), JobStage(row.stage),
        JobOutcome(row.outcome), row.total_chunks, row.indexed_chunks, failure, row.created_us, row.updated_us,
        row.archive, JobKind(row.kind), row.total_documents, row.indexed_documents,
    )  # fmt: skip


def to_document(row: Any) -> Document:
    """From a row of DOCUMENTS."""
    state = DocumentState(row.state)
    return Document(
        row.collection, row.id, row.display_name, state, row.live_version, _shown(row), _failure(row, state), row.job,
        row.created_us, row.updated_us, row.archive,
    )  # fmt: skip


def to_version(row: Any) -> Version:
    """From a row of `versions`."""
    return Version(
        row.id, row.content_key, row.sha256, row.size_bytes, row.raw_key, row.text_key, row.media_type, row.text_bytes,
        row.text_length, row.page_count, row.chunk_count, row.metadata, row.found,
    )  # fmt: skip


def job_values(job: Job, version: Version) -> dict[str, Any]:
    """The columns of a new job for a version."""
    return {
        "id": job.id, "collection": job.collection, "document": job.document_id, "display_name": job.display_name,
        "version": version.id, "batch": job.batch, "size_bytes": version.size_bytes, "state": job.state,
        "stage": job.stage, "outcome": job.outcome, "publishing": False, "run": "", "total_chunks": job.total_chunks,
        "indexed_chunks": job.indexed_chunks, "failure": None, "created_us": job.created_us, "updated_us": job.updated_us,
        "archive": job.archive,
    }  # fmt: skip


def version_values(version: Version) -> dict[str, Any]:
    """The columns of a version."""
    return vars(version)


def _shown(row: Any) -> Version | None:
    if row.version_id is None:
        return None
    return Version(
        row.version_id, row.version_content_key, row.version_sha256, row.version_size_bytes, row.version_raw_key,
        row.version_text_key, row.version_media_type, row.version_text_bytes, row.version_text_length,
        row.version_page_count, row.version_chunk_count, row.version_metadata, row.version_found,
    )  # fmt: skip


def _failure(row: Any, state: DocumentState) -> Failure | None:
    if state != DocumentState.FAILED:
        return None
    if row.failure:
        return Failure(**row.failure)
    return Failure.of(
        Cancelled(f"The job was cancelled. Retry it with `murphey jobs retry {row.job}`, or upload again.")
    )
