"""Documents over gRPC, on a retriever that keeps chunks in memory: what becomes of them, and what is read back."""

import gzip

import grpc
import pytest
from google.protobuf import struct_pb2

from ingest.parsers.text_types import MARKDOWN
from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.retriever.v1.retriever_pb2 import Span
from tests.ingest.conftest import Service, sha256

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


async def test_metadata_that_json_does_not_have_is_refused(service: Service) -> None:
    metadata = struct_pb2.Struct()
    metadata.fields["x"].number_value = float("nan")

    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.upload("nan.txt", b"Words.", metadata=metadata)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


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


async def test_rows_of_a_large_table_carry_its_header_and_packed_files_their_name(service: Service) -> None:
    rows = "".join(f"the {number},{number}\n" for number in range(300))

    await service.ingest("people.csv.gz", gzip.compress(f"name,score\n{rows}".encode()))

    document = await service.document("people.csv.gz")
    going_on = [chunk for chunk in service.retriever.found(document.name) if chunk.text.startswith("| the ")]
    assert len(going_on) > 3
    for chunk in going_on:
        assert (chunk.place.table, chunk.place.table_header) == (1, "| name | score |")
        assert chunk.place.member == "people.csv"
        request = pb.GetDocumentTextRequest(name=document.name, span=chunk.span)
        read = await service.stub.GetDocumentText(request)
        assert (read.text, read.place.member) == (chunk.text, "people.csv")


async def test_a_mistyped_collection_is_told_from_an_empty_one(service: Service) -> None:
    service.retriever.collections.add("empty")
    listed = await service.stub.ListDocuments(pb.ListDocumentsRequest(parent="collections/empty"))
    with pytest.raises(grpc.aio.AioRpcError) as mistyped:
        await service.stub.ListDocuments(pb.ListDocumentsRequest(parent="collections/defualt"))
    files = [pb.ComparedFile(display_name="a.txt", sha256="0" * 64)]
    with pytest.raises(grpc.aio.AioRpcError) as compared:
        await service.stub.CompareDocuments(pb.CompareDocumentsRequest(parent="collections/defualt", files=files))

    assert list(listed.documents) == []
    for raised in (mistyped, compared):
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        assert "There is no collection defualt" in (raised.value.details() or "")


async def test_documents_of_a_deleted_collection_can_still_be_deleted(service: Service) -> None:
    service.retriever.collections.add("gone")
    await service.ingest("left.txt", b"What is left of a collection.", collection="collections/gone")
    service.retriever.collections.discard("gone")
    request = pb.ListDocumentsRequest(parent="collections/gone")
    [left] = (await service.stub.ListDocuments(request)).documents
    deleted = await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=left.name))

    assert deleted.deleted_chunks == 0
    assert list((await service.stub.ListDocuments(request)).documents) == []
