"""The IngestService: checks, converts, calls the library, converts back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta

import grpc.aio

from ingest.comparison import Comparer
from ingest.documents import DocumentState
from ingest.index.chunk_index import NewIndex
from ingest.jobs import Job, JobState
from ingest.library import Library
from ingest.messages import (
    compared_message,
    document_message,
    job_message,
    orphan_message,
    to_description,
    to_new_index,
    to_upload,
)
from ingest.orphans import Orphans
from ingest.place_messages import chunk_place
from ingest.reindexing import Reindexer
from mesh.access import tenants
from mesh.errors import InvalidInput, MurpheyError, to_status
from mesh.names import collection_id, document_ids, resource_id
from mesh.paging import decode_token, encode_token, page_size
from mesh.times import duration, microseconds
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.ingest.v1.ingest_pb2_grpc import IngestServiceServicer

NAME = "murphey.ingest.v1.IngestService"
MAX_PIECE_BYTES = 1024 * 1024
MAX_COMPARED = 1000
MAX_SMALL_DOCUMENTS = 128
MINIMUM_AGE = timedelta(hours=1)
CANCELLATION_COMES_WITHIN_S = 0.05

Context = grpc.aio.ServicerContext


class IngestServicer(IngestServiceServicer):
    """One method an RPC; the contract describes them."""

    def __init__(
        self, library: Library, comparer: Comparer, reindexer: Reindexer, orphans: Callable[[str, float], Orphans]
    ) -> None:
        self._library = library
        self._reindexer = reindexer
        self._orphans = orphans
        self._comparer = comparer
        self._catalog = library.catalog

    async def UploadDocument(
        self, request_iterator: AsyncIterator[pb.UploadDocumentRequest], context: Context
    ) -> pb.UploadDocumentResponse:
        requests = aiter(request_iterator)
        first = await anext(requests, None)
        if first is None or not first.HasField("header"):
            raise InvalidInput("The first message of an upload must hold its header.", field="header")
        header, upload = first.header, to_upload(first.header)
        pieces = _pieces(requests) if header.size_bytes or header.sha256 else _unbroken(_pieces(requests))
        done = await self._library.upload(upload, header.size_bytes, header.sha256, pieces)
        return pb.UploadDocumentResponse(document=document_message(done.document), job=job_message(done.job))

    async def UploadDocuments(self, request: pb.UploadDocumentsRequest, context: Context) -> pb.UploadDocumentsResponse:
        if not 1 <= len(request.documents) <= MAX_SMALL_DOCUMENTS:
            message = f"The call has {len(request.documents)} documents; 1 to {MAX_SMALL_DOCUMENTS} are taken."
            raise InvalidInput(message, field="documents")
        uploaded = await asyncio.gather(*map(self._upload_small, request.documents))
        return pb.UploadDocumentsResponse(documents=uploaded)

    async def _upload_small(self, small: pb.SmallDocument) -> pb.UploadedDocument:
        try:
            upload = to_upload(small.header)
            done = await self._library.upload(upload, small.header.size_bytes, small.header.sha256, _once(small.data))
        except MurpheyError as error:
            return pb.UploadedDocument(error=to_status(error, NAME))
        return pb.UploadedDocument(job=job_message(done.job))

    async def GetDocument(self, request: pb.GetDocumentRequest, context: Context) -> pb.GetDocumentResponse:
        document = await self._catalog.document(*document_ids(request.name))
        return pb.GetDocumentResponse(document=document_message(document))

    async def ListDocuments(self, request: pb.ListDocumentsRequest, context: Context) -> pb.ListDocumentsResponse:
        size = page_size(request.page_size)
        found = await self._library.list(
            collection_id(request.parent, "parent"),
            after=decode_token(request.page_token),
            limit=size + 1,
            state=_document_state(request.state),
            display_name=request.display_name,
            prefix=request.display_name_prefix,
            archive=document_ids(request.archive, "archive")[1] if request.archive else "",
        )
        token = encode_token(found[size - 1].display_name) if len(found) > size else ""
        documents = [document_message(document) for document in found[:size]]
        return pb.ListDocumentsResponse(documents=documents, next_page_token=token)

    async def CompareDocuments(
        self, request: pb.CompareDocumentsRequest, context: Context
    ) -> pb.CompareDocumentsResponse:
        if not 1 <= len(request.files) <= MAX_COMPARED:
            raise InvalidInput(f"{len(request.files)} files are named; 1 to {MAX_COMPARED} can be.", field="files")
        files = [to_description(file, f"files[{row}]") for row, file in enumerate(request.files)]
        collection = collection_id(request.parent, "parent")
        await self._library.check_listed(collection)
        compared = await self._comparer.compare(collection, files)
        return pb.CompareDocumentsResponse(documents=[compared_message(each) for each in compared])

    async def DeleteDocument(self, request: pb.DeleteDocumentRequest, context: Context) -> pb.DeleteDocumentResponse:
        return pb.DeleteDocumentResponse(deleted_chunks=await self._library.delete(*document_ids(request.name)))

    async def GetDocumentText(self, request: pb.GetDocumentTextRequest, context: Context) -> pb.GetDocumentTextResponse:
        span = (request.span.start, request.span.end) if request.HasField("span") else None
        found = await self._library.text(*document_ids(request.name), span, request.version)
        return pb.GetDocumentTextResponse(
            text=found.text, span={"start": found.start, "end": found.end}, text_length=found.text_length,
            version=found.version, page=found.place.page, place=chunk_place(found.place),
        )  # fmt: skip

    async def DownloadDocument(
        self, request: pb.DownloadDocumentRequest, context: Context
    ) -> AsyncIterator[pb.DownloadDocumentResponse]:
        document, pieces = await self._library.download(*document_ids(request.name))
        yield pb.DownloadDocumentResponse(document=document_message(document))
        async for piece in pieces:
            yield pb.DownloadDocumentResponse(data=piece)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.GetJobResponse:
        return pb.GetJobResponse(job=job_message(await self._own_job(request.name)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsResponse:
        size = page_size(request.page_size)
        found = await self._catalog.jobs(
            tenants.current(),
            before=decode_token(request.page_token),
            limit=size + 1,
            batch=request.batch,
            state=_job_state(request.state),
            updated_since_us=microseconds(request.updated_since, "updated_since"),
        )
        token = encode_token(found[size - 1].id) if len(found) > size else ""
        return pb.ListJobsResponse(jobs=[job_message(job) for job in found[:size]], next_page_token=token)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Context) -> pb.CancelJobResponse:
        return pb.CancelJobResponse(job=job_message(await self._catalog.cancel((await self._own_job(request.name)).id)))

    async def RetryJob(self, request: pb.RetryJobRequest, context: Context) -> pb.RetryJobResponse:
        return pb.RetryJobResponse(job=job_message(await self._library.retry((await self._own_job(request.name)).id)))

    async def ReindexCollection(
        self, request: pb.ReindexCollectionRequest, context: Context
    ) -> pb.ReindexCollectionResponse:
        collection = collection_id(request.name, "name")
        job = await self._reindexer.begin(collection, to_new_index(request), request.batch)
        return pb.ReindexCollectionResponse(job=job_message(job))

    async def RollbackCollection(
        self, request: pb.RollbackCollectionRequest, context: Context
    ) -> pb.RollbackCollectionResponse:
        job = await self._reindexer.begin(collection_id(request.name, "name"), NewIndex(previous=True))
        return pb.RollbackCollectionResponse(job=job_message(job))

    async def FindOrphans(
        self, request: pb.FindOrphansRequest, context: Context
    ) -> AsyncIterator[pb.FindOrphansResponse]:
        age = duration(request.minimum_age, "minimum_age") if request.HasField("minimum_age") else MINIMUM_AGE
        orphans = self._orphans(tenants.current(), age.total_seconds())
        async for orphan in orphans.find():
            removed = request.remove and orphan.removable
            if removed:
                await orphans.remove(orphan)
            yield pb.FindOrphansResponse(orphan=orphan_message(orphan, removed))
        yield pb.FindOrphansResponse(summary=pb.OrphanSummary(**vars(orphans.looked)))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.WatchJobResponse]:
        async for job in self._library.watch((await self._own_job(request.name)).id):
            yield pb.WatchJobResponse(job=job_message(job))

    async def _own_job(self, name: str) -> Job:
        """One of the caller's tenant."""
        return await self._catalog.job_of(tenants.current(), resource_id(name, "jobs"))


async def _pieces(requests: AsyncIterator[pb.UploadDocumentRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        if request.HasField("header"):
            raise InvalidInput("Only the first message of an upload holds a header.", field="header")
        if len(request.data) > MAX_PIECE_BYTES:
            raise InvalidInput(
                f"A piece of the upload has {len(request.data)} bytes; {MAX_PIECE_BYTES} are allowed.", field="data"
            )
        yield request.data


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _unbroken(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of an upload that announced neither size nor hash. When a caller breaks off, grpc.aio ends the messages as
    if they were complete, and cancels this call a moment later: without waiting for that, half a file passes for a whole.
    """
    async for piece in pieces:
        yield piece
    await asyncio.sleep(CANCELLATION_COMES_WITHIN_S)


def _document_state(number: int) -> DocumentState | None:
    if number and number not in DocumentState.__members__.values():
        raise InvalidInput(f"{number} is not a state of documents.", field="state")
    return DocumentState(number) if number else None


def _job_state(number: int) -> JobState | None:
    if number and number not in JobState.__members__.values():
        raise InvalidInput(f"{number} is not a state of jobs.", field="state")
    return JobState(number) if number else None
