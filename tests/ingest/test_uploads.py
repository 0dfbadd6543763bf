"""Uploads over gRPC: what is refused, and by which field; what is broken off leaves nothing."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


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


async def test_small_documents_come_together_and_what_one_is_refused_for_stops_no_other(service: Service) -> None:
    def small(name: str, data: bytes, **header: object) -> pb.SmallDocument:
        return pb.SmallDocument(header=pb.UploadHeader(display_name=name, **header), data=data)  # pyright: ignore

    request = pb.UploadDocumentsRequest(
        documents=[
            small("small/one.txt", b"Words of the first."),
            small("small/../two.txt", b"Words of the second."),
            small("small/three.txt", b"Words of the third.", sha256="0" * 64),
            small("small/four.txt", b"Words of the fourth.", size_bytes=20, batch="b"),
        ]
    )
    one, two, three, four = (await service.stub.UploadDocuments(request, timeout=30)).documents
    assert [two.error.code, three.error.code] == [grpc.StatusCode.INVALID_ARGUMENT.value[0]] * 2
    assert b"header.display_name" in two.error.details[1].value
    assert "SHA-256" in three.error.message
    assert four.job.batch == "b"
    ended = [await service.ended(job.name) for job in (one.job, four.job)]
    assert [job.outcome for job in ended] == [pb.JOB_OUTCOME_INDEXED] * 2
    assert await service.text(await service.document("small/one.txt")) == "Words of the first."
    again = await service.stub.UploadDocuments(pb.UploadDocumentsRequest(documents=request.documents[:1]), timeout=30)
    assert again.documents[0].job.outcome == pb.JOB_OUTCOME_UNCHANGED


@pytest.mark.parametrize("count", [0, 129])
async def test_none_or_too_many_small_documents_are_refused(service: Service, count: int) -> None:
    documents = [pb.SmallDocument(header=pb.UploadHeader(display_name=f"{n}.txt")) for n in range(count)]
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await service.stub.UploadDocuments(pb.UploadDocumentsRequest(documents=documents), timeout=30)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(count) in str(raised.value.details())
