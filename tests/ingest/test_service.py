"""The service over gRPC, on a retriever that keeps chunks in memory."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from ingest.parsers.text_types import MARKDOWN
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.retriever.v1.retriever_pb2 import Span
from tests.ingest.conftest import Service, sha256
from tests.ingest.fakes import away

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = "# Title\n\nThe first paragraph says something. Ünïcode 漢字 🙂 too.\n\n" + "The and of chunk ending. " * 60


async def test_an_uploaded_file_becomes_live_with_exact_spans(service: Service) -> None:
    job = await service.ingest("guide.md", TEXT.encode(), metadata={"year": 2024})

    assert (job.state, job.stage, job.outcome) == (pb.JOB_STATE_SUCCEEDED, pb.JOB_STAGE_LIVE, pb.JOB_OUTCOME_INDEXED)
    document = await service.document("guide.md")
    assert (document.state, document.media_type, document.text_length) == (pb.DOCUMENT_STATE_LIVE, MARKDOWN, len(TEXT))
    chunks = service.retriever.found(document.name)
    assert [chunk.index for chunk in chunks] == list(range(document.chunk_count))
    assert len(chunks) == job.total_chunks == job.indexed_chunks > 1
    for chunk in chunks:
        assert chunk.text == TEXT[chunk.span.start : chunk.span.end]
        assert chunk.metadata["year"] == 2024
        span = pb.GetDocumentTextRequest(name=document.name, span=chunk.span, version=chunk.version)
        assert (await service.stub.GetDocumentText(span)).text == chunk.text


async def test_the_same_content_again_is_unchanged_and_not_embedded(service: Service) -> None:
    data = b"Same content. " * 20
    await service.ingest("same.txt", data)
    before, objects = service.retriever.embedded.total(), service.objects()

    again = await service.upload("same.txt", data)
    by_hash = await service.upload("same.txt", b"", sha256=sha256(data))

    for response in (again, by_hash):
        assert (response.job.state, response.job.outcome) == (pb.JOB_STATE_SUCCEEDED, pb.JOB_OUTCOME_UNCHANGED)
    assert service.retriever.embedded.total() == before
    assert await service.text(await service.document("same.txt")) == data.decode()
    assert len(service.objects()) <= len(objects) + 1  # the second raw file is deleted with the next run


async def test_new_content_replaces_the_old_chunks(service: Service) -> None:
    await service.ingest("page.txt", b"Old words here. " * 40)
    job = await service.ingest("page.txt", b"New words here. " * 10)

    document = await service.document("page.txt")
    assert job.outcome == pb.JOB_OUTCOME_REPLACED
    assert all("New" in chunk.text for chunk in service.retriever.found(document.name))
    assert [chunk for chunk in service.retriever.staged() if chunk.document == document.name] == []
    assert await service.text(document) == "New words here. " * 10


async def test_other_metadata_replaces_too(service: Service) -> None:
    await service.ingest("meta.txt", b"Words.", metadata={"year": 1})
    job = await service.ingest("meta.txt", b"Words.", metadata={"year": 2})

    assert job.outcome == pb.JOB_OUTCOME_REPLACED
    assert (await service.document("meta.txt")).metadata["year"] == 2


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("empty.txt", b"", "empty"),
        ("zeros.docx", bytes(5000), "zero bytes"),
        ("random.pdf", bytes(range(256)) * 40, "neither text nor"),
        ("cut.pdf", b"%PDF-1.7\n", "cannot be read"),
        ("cut.docx", b"PK\x03\x04" + b"[Content_Types].xml word/document.xml" + bytes(99), "cannot be read"),
        ("blank.txt", b" \n\t\n ", "no text"),
        ("picture.txt", b"\x89PNG\r\n\x1a\n" + bytes(100), "image/png"),
    ],
)
async def test_what_cannot_be_read_is_listed_as_failed_and_can_be_deleted(
    service: Service, name: str, data: bytes, reason: str
) -> None:
    job = await service.ingest(name, data)

    document = await service.document(name)
    assert (job.state, document.state) == (pb.JOB_STATE_FAILED, pb.DOCUMENT_STATE_FAILED)
    assert reason in document.error.message
    assert document.error.message == job.error.message
    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.GetDocument(pb.GetDocumentRequest(name=document.name))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Füße älter".encode("latin-1"), "Füße älter"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("wide 漢字".encode("utf-16"), "wide 漢字"),
        (b"lines\r\nkept\r\n", "lines\r\nkept\r\n"),
    ],
)
async def test_text_in_any_encoding_is_read(service: Service, data: bytes, text: str) -> None:
    await service.ingest("encoded.txt", data)

    assert await service.text(await service.document("encoded.txt")) == text


@pytest.mark.parametrize(
    ("header", "field"),
    [
        ({"display_name": "../up.txt"}, "header.display_name"),
        ({"display_name": "bell\a.txt"}, "header.display_name"),
        ({"display_name": "a.txt", "collection": "Bad Name"}, "header.collection"),
        ({"display_name": "a.txt", "size_bytes": -1}, "header.size_bytes"),
        ({"display_name": "a.txt", "size_bytes": 3 * 1024 * 1024}, "header.size_bytes"),
        ({"display_name": "a.txt", "size_bytes": 2}, "header.size_bytes"),
        ({"display_name": "a.txt", "sha256": "xyz"}, "header.sha256"),
        ({"display_name": "a.txt", "sha256": "0" * 64}, "header.sha256"),
        ({"display_name": "a.txt", "metadata": {"x": {"y": 1}}}, "header.metadata.x"),
        ({"display_name": "a.txt", "batch": "b" * 65}, "header.batch"),
    ],
)
async def test_wrong_headers_are_refused_by_field(service: Service, header: dict[str, object], field: str) -> None:
    async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(header=pb.UploadHeader(**header))  # pyright: ignore[reportArgumentType]
        yield pb.UploadDocumentRequest(data=b"abc")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.UploadDocument(requests())
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert field.encode() in dict(raised.value.trailing_metadata() or ())["grpc-status-details-bin"]  # pyright: ignore


async def test_more_bytes_than_allowed_are_refused_while_they_come(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.upload("large.txt", b"x" * (2 * 1024 * 1024 + 1))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert not [path for path in service.objects() if "upload" in path.name]


async def test_an_unknown_collection_is_not_found(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.upload("a.txt", b"abc", collection="collections/nowhere")
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND
    assert "murphey collections create nowhere" in (raised.value.details() or "")


async def test_an_upload_broken_off_leaves_nothing(service: Service) -> None:
    objects, sent = set(service.objects()), asyncio.Event()

    async def requests() -> AsyncIterator[pb.UploadDocumentRequest]:
        yield pb.UploadDocumentRequest(header=pb.UploadHeader(display_name="half.txt"))
        for _ in range(6):
            yield pb.UploadDocumentRequest(data=b"x" * 200_000)
        sent.set()
        await asyncio.Event().wait()

    call = service.stub.UploadDocument(requests())
    await asyncio.wait_for(sent.wait(), 10)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await service.ingest("whole.txt", b"Another upload goes on as ever.")

    listed = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name="half.txt"))
    assert list(listed.documents) == []
    assert not [path for path in set(service.objects()) - objects if "upload" in path.name]


async def test_cancelled_jobs_leave_no_chunks_and_can_be_retried(service: Service) -> None:
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    started = await service.upload("stopped.txt", b"Words to be stopped. " * 50)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)

    cancelled = (await service.stub.CancelJob(pb.CancelJobRequest(name=started.job.name))).job
    service.retriever.gate.set()
    assert cancelled.state == pb.JOB_STATE_CANCELLED
    document = await service.document("stopped.txt")
    assert (document.state, document.version) == (pb.DOCUMENT_STATE_FAILED, "")

    retried = (await service.stub.RetryJob(pb.RetryJobRequest(name=started.job.name))).job
    assert retried.state == pb.JOB_STATE_QUEUED
    ended = await service.ended(started.job.name)
    assert ended.outcome == pb.JOB_OUTCOME_INDEXED
    await service.ingest("after.txt", b"The run before has been cleaned up when this one is.")
    assert [chunk for chunk in service.retriever.staged() if chunk.document == document.name] == []


async def test_a_job_that_has_ended_cannot_be_retried_and_stays_when_cancelled(service: Service) -> None:
    job = await service.ingest("ended.txt", b"Some words.")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.RetryJob(pb.RetryJobRequest(name=job.name))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert (await service.stub.CancelJob(pb.CancelJobRequest(name=job.name))).job == job


async def test_a_newer_upload_supersedes_the_job_that_runs(service: Service) -> None:
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    first = await service.upload("twice.txt", b"First words. " * 50)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)
    second = await service.upload("twice.txt", b"Second words. " * 50)
    service.retriever.gate.set()

    assert (await service.ended(first.job.name)).state == pb.JOB_STATE_CANCELLED
    assert (await service.ended(second.job.name)).outcome == pb.JOB_OUTCOME_INDEXED
    document = await service.document("twice.txt")
    assert {chunk.text[:6] for chunk in service.retriever.found(document.name)} == {"Second"}


async def test_a_retriever_that_is_away_for_a_moment_is_waited_for(service: Service) -> None:
    service.retriever.failures.extend([away(), away()])

    job = await service.ingest("patient.txt", b"It comes back.")

    assert job.outcome == pb.JOB_OUTCOME_INDEXED


async def test_deleting_removes_chunks_text_and_file(service: Service) -> None:
    await service.ingest("gone.md", TEXT.encode())
    document = await service.document("gone.md")
    mine = document.name.rsplit("/", 1)[1]
    assert [path for path in service.objects() if mine in str(path)]

    deleted = await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))

    assert deleted.deleted_chunks == document.chunk_count
    assert not [chunk for chunk in service.retriever.chunks.values() if chunk.document == document.name]
    assert not [path for path in service.objects() if mine in str(path)]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


async def test_deleting_while_a_job_runs_cancels_it(service: Service) -> None:
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    started = await service.upload("racing.txt", b"Words in flight. " * 50)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)
    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=started.document.name))
    service.retriever.gate.set()

    assert (await service.ended(started.job.name)).state == pb.JOB_STATE_CANCELLED
    await service.ingest("later.txt", b"The run before has been cleaned up when this one is.")
    assert not [chunk for chunk in service.retriever.chunks.values() if chunk.document == started.document.name]


async def test_downloads_are_the_bytes_that_were_uploaded(service: Service) -> None:
    data = "Füße".encode("latin-1") * 100_000
    await service.ingest("raw.txt", data)
    document = await service.document("raw.txt")

    responses = [item async for item in service.stub.DownloadDocument(pb.DownloadDocumentRequest(name=document.name))]

    assert responses[0].document.display_name == "raw.txt"
    assert b"".join(item.data for item in responses[1:]) == data


@pytest.mark.parametrize("span", [Span(start=0, end=1000), Span(start=-1, end=2), Span(start=5, end=2)])
async def test_a_span_outside_of_the_text_is_refused(service: Service, span: Span) -> None:
    await service.ingest("span.txt", b"Short.")
    document = await service.document("span.txt")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.GetDocumentText(pb.GetDocumentTextRequest(name=document.name, span=span))
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_text_of_another_version_is_refused(service: Service) -> None:
    await service.ingest("versioned.txt", b"Words.")
    document = await service.document("versioned.txt")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.GetDocumentText(pb.GetDocumentTextRequest(name=document.name, version="other"))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_lists_come_in_pages(service: Service) -> None:
    jobs = await asyncio.gather(
        *(service.ingest(f"paged/{number}.txt", b"Words.", batch="paged") for number in range(5))
    )

    first = await service.stub.ListJobs(pb.ListJobsRequest(batch="paged", page_size=3))
    rest = await service.stub.ListJobs(pb.ListJobsRequest(batch="paged", page_size=3, page_token=first.next_page_token))
    listed = [job.name for job in [*first.jobs, *rest.jobs]]
    assert listed == sorted((job.name for job in jobs), reverse=True)
    assert rest.next_page_token == ""

    names: list[str] = []
    request = pb.ListDocumentsRequest(page_size=2)
    while True:
        page = await service.stub.ListDocuments(request)
        names += [document.display_name for document in page.documents]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert {f"paged/{number}.txt" for number in range(5)} <= set(names)
