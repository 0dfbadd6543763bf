"""Follows jobs to their end, by what changed since the last look."""

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from ingest.patience import Patience
from ingest.results import Progress, Status
from ingest.sources import Source
from mesh.errors import Overloaded, Unavailable, translated
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

POLL_S = 0.3
MANY_JOBS, MANY_POLL_S = 64, 2.0
"""Each look costs the service time that the jobs themselves could have: while many are open, it is seldom taken, and at once
when the newest of them has ended."""
CLOCK_MARGIN_US = 1_500_000
"""Changes are stored a little after the time that they carry."""
LOOK_AT_ALL_S = 10.0
"""Without any change for so long, all jobs are looked at, in case that one was missed."""
CALL_TIMEOUT_S = 30.0
CANCELLED_AT_ONCE = 16

_STATUS: dict[int, Status] = {
    pb.JOB_OUTCOME_INDEXED: "indexed", pb.JOB_OUTCOME_UNCHANGED: "unchanged", pb.JOB_OUTCOME_REPLACED: "replaced",
}  # fmt: skip
_ENDED = (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)


@dataclass
class Follower:
    """The jobs of one command, those of its own `batch` and others that do the same already; and of members of archives."""

    stub: IngestServiceStub
    patience: Patience
    progress: Progress
    end: Callable[[Source, Status, int, str | None], None]
    batch: str = field(default_factory=lambda: secrets.token_hex(8))
    _seen_us: dict[str, int] = field(default_factory=dict)
    _changed_s: float = 0.0
    _open: dict[str, tuple[Source, pb.Job]] = field(default_factory=dict)
    _documents: dict[str, Source] = field(default_factory=dict)
    _members: set[str] = field(default_factory=set)
    _newest: "asyncio.Task[None] | None" = None

    def take(self, source: Source, job: pb.Job) -> None:
        """The job as it now is."""
        self._documents[job.document] = source
        before = self._open.pop(job.name, (source, pb.Job()))[1]
        self.progress.parsed += (job.stage >= pb.JOB_STAGE_PARSED) - (before.stage >= pb.JOB_STAGE_PARSED)
        self.progress.chunks += job.total_chunks - before.total_chunks
        self.progress.embedded += job.indexed_chunks - before.indexed_chunks
        if job.state not in _ENDED:
            self._open[job.name] = (source, job)
        elif job.state == pb.JOB_STATE_SUCCEEDED:
            self.end(source, _STATUS[job.outcome], job.total_chunks, None)
        else:
            stopped = "The job was cancelled, or a newer upload of the same name took its place."
            self.end(source, "failed", 0, job.error.message or stopped)

    @property
    def open_jobs(self) -> list[str]:
        """Jobs that have not ended."""
        return list(self._open)

    async def follow(self, uploads: "asyncio.Future[Any]") -> None:
        """Until the uploads are done and no job is open. Unavailable when the service stays away."""
        try:
            while not uploads.done() or self._open:
                await self._pause(uploads)
                try:
                    await self._look()
                except (Unavailable, Overloaded):
                    if self.patience.spent:
                        raise
        finally:
            if self._newest is not None:
                self._newest.cancel()

    async def _pause(self, uploads: "asyncio.Future[Any]") -> None:
        """Until the next look is worth its cost."""
        pause_s = POLL_S if len(self._open) < MANY_JOBS else MANY_POLL_S
        if not uploads.done():
            await asyncio.wait([uploads], timeout=pause_s)
        elif len(self._open) < MANY_JOBS:
            await asyncio.sleep(pause_s)
        else:
            if self._newest is None or self._newest.done():
                self._newest = asyncio.create_task(self._ended(max(self._open)))
            await asyncio.wait([self._newest], timeout=pause_s)

    async def _ended(self, job: str) -> None:
        """When it has. A service that is away is asked again at the next look."""
        try:
            async for _ in self.stub.WatchJob(pb.WatchJobRequest(name=job)):
                pass
        except grpc.RpcError:
            await asyncio.sleep(MANY_POLL_S)

    async def cancel(self) -> None:
        """Stops the jobs that have not ended."""
        places = asyncio.Semaphore(CANCELLED_AT_ONCE)

        async def stop(name: str) -> None:
            async with places:
                with translated("ingest service"):
                    await self.stub.CancelJob(pb.CancelJobRequest(name=name), timeout=CALL_TIMEOUT_S)

        await asyncio.gather(*(stop(name) for name in self._open))

    async def _look(self) -> None:
        """Reads what changed since the last look."""
        if not self._open:
            return
        loop = asyncio.get_running_loop()
        look_at_all = loop.time() - self._changed_s > LOOK_AT_ALL_S
        if look_at_all:
            self._changed_s = loop.time()
        for batch in sorted({job.batch for _, job in self._open.values()}):
            if batch:
                await self._look_at_batch(batch, look_at_all)
        for name in [name for name, (_, job) in self._open.items() if not job.batch]:
            await self._look_at_job(name)

    async def _look_at_batch(self, batch: str, look_at_all: bool) -> None:
        request = pb.ListJobsRequest(page_size=1000, batch=batch)
        since_us = 0 if look_at_all else max(0, self._seen_us.get(batch, 0) - CLOCK_MARGIN_US)
        request.updated_since.FromMicroseconds(since_us)
        while True:
            with translated("ingest service"):
                response = await self.stub.ListJobs(request, timeout=CALL_TIMEOUT_S)
            self.patience.reached()
            for job in response.jobs:
                self._notice(job)
            if not response.next_page_token:
                return
            request.page_token = response.next_page_token

    async def _look_at_job(self, name: str) -> None:
        with translated("ingest service"):
            self._notice((await self.stub.GetJob(pb.GetJobRequest(name=name), timeout=CALL_TIMEOUT_S)).job)
        self.patience.reached()

    def _notice(self, job: pb.Job) -> None:
        self._seen_us[job.batch] = max(self._seen_us.get(job.batch, 0), job.update_time.ToMicroseconds())
        archive = self._documents.get(job.archive)
        if archive is not None and job.name not in self._members:
            self._take_member(archive, job)
        elif job.name in self._open and job.update_time != self._open[job.name][1].update_time:
            self._changed_s = asyncio.get_running_loop().time()
            self.take(self._open[job.name][0], job)

    def _take_member(self, archive: Source, job: pb.Job) -> None:
        """Stands in no plan: the service finds it in the archive."""
        self._members.add(job.name)
        self.progress.found += 1
        self.progress.stored += 1
        below = job.display_name.removeprefix(archive.display_name)
        self.take(Source(archive.path + below, job.display_name), job)
