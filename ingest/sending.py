"""Sends sources to an ingest service and follows their jobs to the end. Knows nothing of terminals."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from ingest.following import Follower
from ingest.metadata_messages import to_struct
from ingest.patience import Patience
from ingest.planning import Planner, Step
from ingest.results import Progress, Result, Status
from ingest.sources import Changed, Source, Unreadable
from mesh.errors import InvalidInput, MurpheyError, translated
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub

UPLOADS_AT_ONCE = 16
SMALL_BYTES = 64 * 1024
"""Files of no more are sent together: a call of its own takes longer than all that is done with one."""
MAX_TOGETHER = 32
TOGETHER_AT_ONCE = 2
WAITING_GROUPS = 32
UPLOAD_TIMEOUT_S = 2 * 3600.0
TOGETHER_TIMEOUT_S = 60.0


@dataclass
class Sender:
    """One command's sending. `report` is called for each source once, when its end is known; `advance` on any progress."""

    stub: IngestServiceStub
    collection: str
    report: Callable[[Result], None]
    advance: Callable[[Progress], None]
    settled: dict[str, Step] | None = None
    patience: Patience = field(default_factory=Patience)
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self) -> None:
        self.planner = Planner(self.stub, self.collection, self.patience, self.settled)
        self.follower = Follower(self.stub, self.patience, self.progress, self._end)
        self._together = asyncio.Semaphore(TOGETHER_AT_ONCE)

    async def send(self, sources: Sequence[Source]) -> None:
        """Sends what is new or changed, several at a time, and waits until every job has ended."""
        self.progress.found += len(sources)
        waiting: asyncio.Queue[list[Step] | None] = asyncio.Queue(WAITING_GROUPS)
        work = [self._plan(sources, waiting), *(self._upload_all(waiting) for _ in range(UPLOADS_AT_ONCE))]
        tasks = [asyncio.create_task(each) for each in work]
        uploads: asyncio.Future[Any] = asyncio.gather(*tasks)
        try:
            await self.follower.follow(uploads)
            await uploads
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(uploads, return_exceptions=True)

    async def _plan(self, sources: Sequence[Source], waiting: "asyncio.Queue[list[Step] | None]") -> None:
        """Settles what needs no upload, and hands on the rest: small files in groups, others alone."""
        group: list[Step] = []
        async with aclosing(self.planner.steps(sources)) as steps:
            async for step in steps:
                if step.problem or step.comparison == pb.COMPARISON_UNCHANGED:
                    expected = step.expected()
                    self._end(step.source, expected.status, expected.chunks, expected.error, idle=True)
                elif step.comparison == pb.COMPARISON_PENDING:
                    self._follow(step.source, step.compared.job)
                elif not _is_small(step):
                    await waiting.put([step])
                else:
                    group.append(step)
                    if len(group) == MAX_TOGETHER:
                        await waiting.put(group)
                        group = []
        if group:
            await waiting.put(group)
        for _ in range(UPLOADS_AT_ONCE):
            await waiting.put(None)

    async def _upload_all(self, waiting: "asyncio.Queue[list[Step] | None]") -> None:
        while group := await waiting.get():
            for step in await self._upload_together(group):
                await self._upload_alone(step)

    async def _upload_together(self, group: list[Step]) -> list[Step]:
        """Sends a group in one call. Answers with those that are to be sent alone, whatever the reason is: that will show."""
        if len(group) == 1:
            return group
        async with self._together:
            contents = [await _content(step) for step in group]
            documents = [
                pb.SmallDocument(header=self._header(step), data=data)
                for step, data in zip(group, contents, strict=True)
                if data is not None
            ]
            try:
                with translated("ingest service"):
                    request = pb.UploadDocumentsRequest(documents=documents)
                    answers = (await self.stub.UploadDocuments(request, timeout=TOGETHER_TIMEOUT_S)).documents
            except MurpheyError:
                return group
        self.patience.reached()
        sent = [step for step, data in zip(group, contents, strict=True) if data is not None]
        stored = {id(step): done.job for step, done in zip(sent, answers, strict=True) if done.HasField("job")}
        for step in group:
            if id(step) in stored:
                self._follow(step.source, stored[id(step)])
        return [step for step in group if id(step) not in stored]

    async def _upload_alone(self, step: Step) -> None:
        try:
            job = await self.patience(lambda: self._upload(step))
        except MurpheyError as error:
            self._end(step.source, "failed", 0, error.message, idle=True)
        else:
            self._follow(step.source, job)

    async def _upload(self, step: Step) -> pb.Job:
        """Sends it, and once more when it changes meanwhile. The same upload twice does no harm."""
        assert step.source.content is not None  # noqa: S101 - the planner has seen to it
        try:
            return await self._stream(step)
        except Changed:
            step = replace(step, identity=await step.source.content.identify())
        try:
            return await self._stream(step)
        except Changed:
            raise Unreadable(
                "It changed while it was read, and again when it was read anew. Ingest it when nothing writes to it."
            ) from None

    async def _stream(self, step: Step) -> pb.Job:
        assert step.identity is not None and step.source.content is not None  # noqa: S101, PT018 - the planner has seen to it
        try:
            with translated("ingest service"):
                return await self._call(self._header(step), step.source.content.pieces(step.identity))
        except InvalidInput as error:
            if error.field == "header.sha256":
                raise Changed from error
            raise

    async def _call(self, header: pb.UploadHeader, pieces: AsyncGenerator[bytes, None]) -> pb.Job:
        call: Any = self.stub.UploadDocument(timeout=UPLOAD_TIMEOUT_S)
        try:
            async with aclosing(pieces):
                await _write(call, header, pieces)
            return (await call).job
        finally:
            call.cancel()

    def _header(self, step: Step) -> pb.UploadHeader:
        assert step.identity is not None  # noqa: S101 - as above
        return pb.UploadHeader(
            collection=self.collection, display_name=step.source.display_name, size_bytes=step.identity.size_bytes,
            sha256=step.identity.sha256, metadata=to_struct(step.metadata), batch=self.follower.batch,
        )  # fmt: skip

    def _follow(self, source: Source, job: pb.Job) -> None:
        self.progress.stored += 1
        self.follower.take(source, job)
        self.advance(self.progress)

    def _end(self, source: Source, status: Status, chunks: int, error: str | None, *, idle: bool = False) -> None:
        self.progress.ended += 1
        self.progress.idle += idle
        self.report(Result(source.path, source.display_name, status, chunks, error))
        self.advance(self.progress)


def _is_small(step: Step) -> bool:
    return step.identity is not None and bool(step.identity.sha256) and step.identity.size_bytes <= SMALL_BYTES


async def _content(step: Step) -> bytes | None:
    """All bytes of a small file; None when they cannot be read as they were identified."""
    assert step.identity is not None and step.source.content is not None  # noqa: S101, PT018 - as above
    try:
        async with aclosing(step.source.content.pieces(step.identity)) as pieces:
            return b"".join([piece async for piece in pieces])
    except (Changed, MurpheyError):
        return None


async def _write(call: Any, header: pb.UploadHeader, pieces: AsyncGenerator[bytes, None]) -> None:
    """The header and the bytes, or as many as the service wants before it answers."""
    try:
        await call.write(pb.UploadDocumentRequest(header=header))
        async for data in pieces:
            if call.done():
                return
            await call.write(pb.UploadDocumentRequest(data=data))
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        return  # the call has ended; whoever awaits it learns how
