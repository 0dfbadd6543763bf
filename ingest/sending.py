"""Sends files to an ingest service and follows their jobs to the end. Knows nothing of terminals."""

import asyncio
import hashlib
import secrets
import stat
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from google.protobuf.struct_pb2 import Struct

from ingest.documents import Metadata
from ingest.sources import Source
from mesh.errors import InvalidInput, MurpheyError, Overloaded, Unavailable, translated
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

UPLOADS_AT_ONCE = 16
PIECE_BYTES = 512 * 1024
POLL_S = 0.3
CLOCK_MARGIN_US = 1_500_000
"""Changes are stored a little after the time that they carry."""
LOOK_AT_ALL_S = 10.0
"""Without any change for so long, all jobs are looked at, in case that one was missed."""
PATIENCE_S = 60.0
"""A service that has been away or overloaded for so long is not tried again, for no file."""
UPLOAD_TIMEOUT_S = 3600.0
CALL_TIMEOUT_S = 30.0

Status = Literal["indexed", "unchanged", "replaced", "failed"]
_STATUS: dict[int, Status] = {
    pb.JOB_OUTCOME_INDEXED: "indexed", pb.JOB_OUTCOME_UNCHANGED: "unchanged", pb.JOB_OUTCOME_REPLACED: "replaced",
}  # fmt: skip
_ENDED = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)


@dataclass(frozen=True)
class Result:
    """What became of a file."""

    path: Path
    document: str
    status: Status
    chunks: int
    error: str | None


@dataclass
class Progress:
    """How far all files together are; chunks are those of files that have been cut."""

    found: int = 0
    stored: int = 0
    parsed: int = 0
    chunks: int = 0
    embedded: int = 0
    ended: int = 0


@dataclass
class Sender:
    """One command's sending. `report` is called for each file once, when its end is known; `advance` on any progress."""

    stub: IngestServiceStub
    collection: str
    metadata: Metadata
    report: Callable[[Result], None]
    advance: Callable[[Progress], None]
    batch: str = field(default_factory=lambda: secrets.token_hex(8))
    progress: Progress = field(default_factory=Progress)
    _reached_s: float = 0.0
    _seen_us: int = 0
    _changed_s: float = 0.0
    _open: dict[str, tuple[Source, pb.Job]] = field(default_factory=dict)

    async def send(self, sources: Sequence[Source]) -> None:
        """Sends the files, several at a time, and waits until every job has ended."""
        self.progress.found = len(sources)
        waiting = iter(sources)
        uploads = asyncio.gather(*(self._send_from(waiting) for _ in range(UPLOADS_AT_ONCE)))
        try:
            while not uploads.done() or self._open:
                await asyncio.wait([uploads], timeout=POLL_S) if not uploads.done() else await asyncio.sleep(POLL_S)
                await self._follow()
            await uploads
        finally:
            uploads.cancel()
            await asyncio.gather(uploads, return_exceptions=True)

    async def _send_from(self, waiting: "AsyncIterator[Source] | object") -> None:
        for source in waiting:  # pyright: ignore[reportGeneralTypeIssues] - all senders share one iterator
            try:
                if source.problem:
                    raise InvalidInput(source.problem)
                job = await self._patiently(source)
            except (MurpheyError, OSError) as error:
                self._end(source, "failed", 0, _message(error))
                continue
            self.progress.stored += 1
            self._take(source, job)

    async def _patiently(self, source: Source) -> pb.Job:
        """Uploads; tries again while the service is away or has no room. The same upload twice does no harm."""
        loop = asyncio.get_running_loop()
        self._reached_s, pause_s = self._reached_s or loop.time(), 0.2
        while True:
            try:
                job = await self._upload(source)
                self._reached_s = loop.time()
                return job
            except (Unavailable, Overloaded) as error:
                if loop.time() - self._reached_s > PATIENCE_S:
                    raise
                pause_s = min(5.0, max(2 * pause_s, error.retry_after_s or 0))
            await asyncio.sleep(pause_s)

    async def _upload(self, source: Source) -> pb.Job:
        sha256, size_bytes = await asyncio.to_thread(_digest, source.path)
        metadata = Struct()
        metadata.update(self.metadata)
        header = pb.UploadHeader(
            collection=self.collection, display_name=source.display_name, size_bytes=size_bytes, sha256=sha256,
            metadata=metadata, batch=self.batch,
        )  # fmt: skip
        with translated("ingest service"):
            call = self.stub.UploadDocument(_requests(header, source.path), timeout=UPLOAD_TIMEOUT_S)
            return (await call).job

    async def _follow(self) -> None:
        """Reads what changed since the last look."""
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        look_at_all = loop.time() - self._changed_s > LOOK_AT_ALL_S
        if look_at_all:
            self._changed_s = loop.time()
        request = pb.ListJobsRequest(page_size=1000, batch=self.batch)
        request.updated_since.FromMicroseconds(0 if look_at_all else max(0, self._seen_us - CLOCK_MARGIN_US))
        while True:
            try:
                with translated("ingest service"):
                    response = await self.stub.ListJobs(request, timeout=CALL_TIMEOUT_S)
            except (Unavailable, Overloaded):
                if loop.time() - self._reached_s > PATIENCE_S:
                    raise
                return  # the next look will tell
            self._reached_s = loop.time()
            for job in response.jobs:
                if job.name in self._open and job.update_time != self._open[job.name][1].update_time:
                    self._changed_s = loop.time()
                    self._take(self._open[job.name][0], job)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    def _take(self, source: Source, job: pb.Job) -> None:
        """The job as it now is."""
        self._seen_us = max(self._seen_us, job.update_time.ToMicroseconds())
        before = self._open.pop(job.name, (source, pb.Job()))[1]
        self.progress.parsed += (job.stage >= pb.JOB_STAGE_PARSED) - (before.stage >= pb.JOB_STAGE_PARSED)
        self.progress.chunks += job.total_chunks - before.total_chunks
        self.progress.embedded += job.indexed_chunks - before.indexed_chunks
        if job.state not in _ENDED:
            self._open[job.name] = (source, job)
            self.advance(self.progress)
        elif job.state == pb.JOB_STATE_SUCCEEDED:
            self._end(source, _STATUS[job.outcome], job.total_chunks, None)
        else:
            stopped = "The job was cancelled, or a newer upload of the same name took its place."
            self._end(source, "failed", 0, job.error.message or stopped)

    def _end(self, source: Source, status: Status, chunks: int, error: str | None) -> None:
        self.progress.ended += 1
        self.report(Result(source.path, source.display_name, status, chunks, error))
        self.advance(self.progress)


async def _requests(header: pb.UploadHeader, path: Path) -> AsyncIterator[pb.UploadDocumentRequest]:
    yield pb.UploadDocumentRequest(header=header)
    with path.open("rb") as file:
        while data := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield pb.UploadDocumentRequest(data=data)


def _digest(path: Path) -> tuple[str, int]:
    """A file's SHA-256 and its size in bytes. OSError for what is no file or cannot be read."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(f"{path} is not a regular file.")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), file.tell()


def _message(error: MurpheyError | OSError) -> str:
    if isinstance(error, OSError):
        return f"The file cannot be read: {error.strerror or error}"
    return error.message
