"""Jobs: making one upload searchable, or another index of a collection; and word of their changes to whoever watches."""

import asyncio
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum

from ingest.documents import Failure
from mesh.names import document_name


class JobState(IntEnum):
    """Numbered as in the contract."""

    QUEUED = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self >= JobState.SUCCEEDED


class JobStage(IntEnum):
    """Numbered as in the contract."""

    STORED = 1
    PARSED = 2
    CHUNKED = 3
    INDEXED = 4
    LIVE = 5


class JobKind(IntEnum):
    """Numbered as in the contract."""

    DOCUMENT = 1
    REINDEX = 2


class JobOutcome(IntEnum):
    """Numbered as in the contract."""

    UNSPECIFIED = 0
    INDEXED = 1
    UNCHANGED = 2
    REPLACED = 3


@dataclass(frozen=True)
class Job:
    """A job as people see it. Times are microseconds since 1970; `archive` is the id of the document around its own."""

    id: str
    collection: str
    document_id: str
    display_name: str
    batch: str
    state: JobState
    stage: JobStage
    outcome: JobOutcome
    total_chunks: int
    indexed_chunks: int
    failure: Failure | None
    created_us: int
    updated_us: int
    archive: str = ""
    kind: JobKind = JobKind.DOCUMENT
    total_documents: int = 0
    indexed_documents: int = 0

    @property
    def name(self) -> str:
        """Its resource name."""
        return f"jobs/{self.id}"

    @property
    def document(self) -> str:
        """The document's resource name; empty where the job is for a whole collection."""
        return document_name(self.collection, self.document_id) if self.kind == JobKind.DOCUMENT else ""


def now_us() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def new_id() -> str:
    """An id that sorts by time: 13 digits of the microsecond and 6 random ones, in hexadecimal."""
    return f"{now_us():013x}{secrets.token_hex(3)}"


class JobChanges:
    """Tells those who wait for a job, within this process, that it has changed."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def announce(self, jobs: Iterable[str]) -> None:
        """These jobs have changed, and the change is stored."""
        for job in jobs:
            for event in self._waiting.get(job, ()):
                event.set()

    @contextmanager
    def watched(self, job: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the job changes; whoever waits clears it before reading the job."""
        event = asyncio.Event()
        self._waiting.setdefault(job, set()).add(event)
        try:
            yield event
        finally:
            self._waiting[job].discard(event)
            if not self._waiting[job]:
                del self._waiting[job]
