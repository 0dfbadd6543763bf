"""Takes a set's corpus in, as a user's documents, into a collection of its own that later runs find again."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field

from mesh.errors import FailedPrecondition, InvalidInput, Unavailable, translated
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceStub
from orchestrator.evaluation.clients.collections import CollectionSettings, create_collection, live_documents
from orchestrator.evaluation.clients.mesh import LiveMesh
from orchestrator.evaluation.pacing import for_each, patiently
from orchestrator.evaluation.runs import slug
from orchestrator.evaluation.sets import Corpus, Document

UPLOADS_AT_ONCE, FOLLOWERS = 16, 4
WAITING_JOBS = 2_000
"""Uploaded and not yet searchable: enough for the service to embed many together, few enough to hold."""
PIECE_BYTES = 512 * 1024
UPLOAD_TIMEOUT_S = 600.0
JOB_TIMEOUT_S = 3600.0
TOLERATED_SHARE = 0.05
"""Of documents that cannot be read: more of them, and something is wrong with the mesh or the set."""

Advance = Callable[[int], None]
"""Told how many documents have ended."""


@dataclass(frozen=True)
class Unread:
    """A document that could not be taken in, and why."""

    document: str
    reason: str


def own_collection(name: str, corpus: Corpus, settings: CollectionSettings) -> str:
    """The id of the collection for a corpus: the same content with the same settings has the same one."""
    described = json.dumps([corpus.fingerprint, asdict(settings)])
    return f"eval-{slug(name)}-{hashlib.sha256(described.encode()).hexdigest()[:12]}"


async def take_in(
    mesh: LiveMesh, collection: str, corpus: Corpus, settings: CollectionSettings, advance: Advance
) -> list[Unread]:
    """Makes every document of a corpus searchable, those that are already left as they are; gives the ones that failed.

    FailedPrecondition when many of them fail.
    """
    await create_collection(mesh, collection, settings)
    live = await live_documents(mesh, collection)
    taking = _Taking(IngestServiceStub(mesh.ingest), collection, len(corpus.ids), advance, ended=len(live))
    advance(len(live))
    todo = (document for document in corpus.documents() if document.content and document.file_name not in live)
    tasks = [lambda: taking.upload_all(todo), *[taking.follow] * FOLLOWERS]
    await for_each(tasks, lambda task: task(), at_once=len(tasks))
    return taking.failed


@dataclass
class _Taking:
    """Documents on their way. Jobs end about in the order of their uploads, so a few followers meet mostly ended ones."""

    stub: IngestServiceStub
    collection: str
    documents: int
    advance: Advance
    ended: int
    failed: list[Unread] = field(default_factory=list)
    jobs: asyncio.Queue[tuple[str, pb.Job] | None] = field(default_factory=lambda: asyncio.Queue(WAITING_JOBS))

    async def upload_all(self, documents: Iterable[Document]) -> None:
        """Uploads several at a time."""

        async def upload(document: Document) -> None:
            try:
                job = await patiently(lambda: _upload(self.stub, self.collection, document))
            except InvalidInput as error:
                self._end(document.id, error.message)
            else:
                await self.jobs.put((document.id, job))

        await for_each(documents, upload, UPLOADS_AT_ONCE)
        for _ in range(FOLLOWERS):
            await self.jobs.put(None)

    async def follow(self) -> None:
        """Waits for jobs, one after the other, until there are no more."""
        while taken := await self.jobs.get():
            document, job = taken
            job = await patiently(lambda job=job: _ended(self.stub, job))
            succeeded = job.state == pb.JOB_STATE_SUCCEEDED
            self._end(document, "" if succeeded else job.error.message or "The job was cancelled.")

    def _end(self, document: str, problem: str) -> None:
        if problem:
            self.failed.append(Unread(document, problem))
            _check_share(self.failed, self.documents)
        self.ended += 1
        self.advance(self.ended)


def _check_share(failed: list[Unread], documents: int) -> None:
    if len(failed) > max(1, TOLERATED_SHARE * documents):
        first = failed[0]
        raise FailedPrecondition(
            f"{len(failed)} documents could not be taken in so far, the first one {first.document!r}: {first.reason}"
        )


async def _upload(stub: IngestServiceStub, collection: str, document: Document) -> pb.Job:
    content = f"{document.content}\n".encode()

    async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(
            header=pb.UploadHeader(
                collection=f"collections/{collection}", display_name=document.file_name, size_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
            )
        )  # fmt: skip
        for start in range(0, len(content), PIECE_BYTES):
            yield pb.UploadDocumentRequest(data=content[start : start + PIECE_BYTES])

    with translated("ingest service"):
        return (await stub.UploadDocument(requests(), timeout=UPLOAD_TIMEOUT_S)).job


async def _ended(stub: IngestServiceStub, job: pb.Job) -> pb.Job:
    """The job once it has ended."""
    if job.state in (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED):
        return job
    call = stub.WatchJob(pb.WatchJobRequest(name=job.name), timeout=JOB_TIMEOUT_S)
    last = job
    with translated("ingest service"):
        try:
            async for response in call:
                last = response.job
        finally:
            call.cancel()
    if last.state in (pb.JOB_STATE_QUEUED, pb.JOB_STATE_RUNNING):
        raise Unavailable("The ingest service stopped telling of a job.")
    return last
