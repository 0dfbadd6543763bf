"""Statements that record what became of the jobs of a run, and the values that they select by."""

from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from ingest.documents import Metadata, Version
from ingest.jobs import Job, JobOutcome, JobStage, JobState, now_us
from ingest.tables import documents, jobs, versions


@dataclass(frozen=True)
class Work:
    """A job that goes on, with its version and its run."""

    job: Job
    version: Version
    run: str


@dataclass(frozen=True)
class ParsedText:
    """What parsing found."""

    text_key: str
    media_type: str
    text_bytes: int
    text_length: int
    page_count: int
    found: Metadata


def of_version(work: Work) -> dict[str, str]:
    """What UPDATE_VERSION and its like select by."""
    return {
        "b_job": work.job.id, "b_collection": work.job.collection, "b_document": work.job.document_id,
        "b_version": work.version.id,
    }  # fmt: skip


def live_values(work: Work, earlier: str) -> dict[str, Any]:
    """What MAKE_LIVE and POINT_TO_LIVE take; `earlier` is the version that was live before."""
    outcome = JobOutcome.REPLACED if earlier else JobOutcome.INDEXED
    return of_version(work) | {"outcome": int(outcome), "now": now_us()}


PARSED = [field.name for field in fields(ParsedText)]
UPDATE_VERSION = versions.update().where(
    versions.c.collection == sa.bindparam("b_collection"),
    versions.c.document == sa.bindparam("b_document"),
    versions.c.id == sa.bindparam("b_version"),
)
MAKE_LIVE = (
    jobs.update()
    .where(jobs.c.id == sa.bindparam("b_job"))
    .values(
        state=int(JobState.SUCCEEDED), stage=int(JobStage.LIVE), publishing=False, outcome=sa.bindparam("outcome"),
        updated_us=sa.bindparam("now"),
    )
)  # fmt: skip
POINT_TO_LIVE = (
    documents.update()
    .where(documents.c.collection == sa.bindparam("b_collection"), documents.c.id == sa.bindparam("b_document"))
    .values(live_version=sa.bindparam("b_version"), updated_us=sa.bindparam("now"))
)
