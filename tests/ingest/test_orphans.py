"""What a deletion leaves is nothing; what is planted in a store is found there, and removed; what is missing is told."""

import pytest
from google.protobuf.duration_pb2 import Duration

from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.retriever.v1 import retriever_pb2
from tests.ingest.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def orphans(service: Service, *, remove: bool = False) -> list[pb.Orphan]:
    """All, however young."""
    request = pb.FindOrphansRequest(remove=remove, minimum_age=Duration())
    found = [response async for response in service.stub.FindOrphans(request, timeout=30)]
    assert found[-1].WhichOneof("content") == "summary"
    return [response.orphan for response in found[:-1]]


@pytest.mark.slow
async def test_a_deleted_document_leaves_nothing_anywhere(service: Service) -> None:
    await service.ingest("kept.txt", b"This one stays. " * 50)
    await service.ingest("wide/secret-name.md", "# Ünïcode\n\n".encode() + b"This one goes. " * 50)
    document = await service.document("wide/secret-name.md")

    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))

    assert await orphans(service) == []
    left = "".join(str(job) for job in (await service.stub.ListJobs(pb.ListJobsRequest())).jobs)
    assert "secret-name" not in left
    mine = document.name.rsplit("/", 1)[1]
    assert not [path for path in service.objects() if mine in str(path)]


async def test_what_belongs_to_no_document_is_found_and_removed(service: Service) -> None:
    await service.ingest("kept.txt", b"This one stays. " * 50)
    kept = await service.document("kept.txt")
    objects = service.settings.data / "ingest" / "objects"
    (objects / "raw" / "default").mkdir(parents=True, exist_ok=True)
    (objects / "raw" / "default" / "lost").write_bytes(b"left by a kill")
    (objects / "raw" / "default" / "half#1").write_bytes(b"left by another")
    for document, version in (("collections/default/documents/gone", "1"), (kept.name, "older")):
        chunk = retriever_pb2.Chunk(id=f"{document}{version}", document=document, version=version, text="left")
        service.retriever.chunks[chunk.id] = chunk

    found = await orphans(service)
    removed = await orphans(service, remove=True)

    assert {(item.kind, item.name, item.version) for item in found} == {
        (pb.ORPHAN_KIND_OBJECT, "raw/default/lost", ""),
        (pb.ORPHAN_KIND_OBJECT, "raw/default/half#1", ""),
        (pb.ORPHAN_KIND_CHUNKS, "collections/default/documents/gone", "1"),
        (pb.ORPHAN_KIND_CHUNKS, kept.name, "older"),
    }
    assert [item.removed for item in removed] == [True] * 4
    assert await orphans(service) == []
    assert len(service.retriever.found(kept.name)) == kept.chunk_count


async def test_what_a_document_lacks_is_told_and_not_removed(service: Service) -> None:
    await service.ingest("robbed.txt", b"Somebody takes from this one. " * 50)
    document = await service.document("robbed.txt")
    del service.retriever.chunks[service.retriever.found(document.name)[0].id]
    raw = next(path for path in service.objects() if document.name.rsplit("/", 1)[1] in str(path))
    content = raw.read_bytes()
    raw.unlink()

    found = await orphans(service, remove=True)

    assert {(item.kind, item.amount, item.removed) for item in found} == {
        (pb.ORPHAN_KIND_MISSING_OBJECT, 1, False), (pb.ORPHAN_KIND_MISSING_CHUNKS, 1, False)
    }  # fmt: skip
    raw.write_bytes(content)
    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=document.name))
    assert await orphans(service) == []


async def test_young_files_are_let_alone(service: Service) -> None:
    folder = service.settings.data / "ingest" / "objects" / "raw" / "default"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "just-coming").write_bytes(b"an upload")

    found = [response async for response in service.stub.FindOrphans(pb.FindOrphansRequest(remove=True), timeout=30)]

    (folder / "just-coming").unlink()
    assert [response.WhichOneof("content") for response in found] == ["summary"]
