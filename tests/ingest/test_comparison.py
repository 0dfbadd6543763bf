"""What an upload would do, and new metadata for what is live: nothing is embedded for either."""

from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.struct_pb2 import Struct

from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service, sha256

pytestmark = pytest.mark.asyncio(loop_scope="module")


def struct(**values: object) -> Struct:
    return ParseDict(values, Struct())


def raw_files(service: Service) -> set[Path]:
    return {path for path in service.objects() if "raw" in path.parts}


async def compare(service: Service, name: str, data: bytes | None, **metadata: object) -> pb.ComparedDocument:
    file = pb.ComparedFile(display_name=name, sha256=sha256(data) if data else "", metadata=struct(**metadata))
    response = await service.stub.CompareDocuments(pb.CompareDocumentsRequest(files=[file]), timeout=10)
    return response.documents[0]


async def test_each_difference_is_told(service: Service) -> None:
    name, data = "compare.txt", b"Some words to compare."
    assert (await compare(service, name, data)).comparison == pb.COMPARISON_NEW
    await service.ingest(name, data, metadata=struct(year=2024))
    unchanged = await compare(service, name, data, year=2024)
    assert (unchanged.comparison, unchanged.chunk_count) == (pb.COMPARISON_UNCHANGED, 1)
    assert (await compare(service, name, data, year=2025)).comparison == pb.COMPARISON_METADATA_CHANGED
    assert (await compare(service, name, b"Others.", year=2024)).comparison == pb.COMPARISON_CHANGED


async def test_without_a_hash_the_metadata_decides(service: Service) -> None:
    await service.ingest("object.txt", b"Words of an object.", metadata=struct(etag='"1"'))
    assert (await compare(service, "object.txt", None, etag='"1"')).comparison == pb.COMPARISON_UNCHANGED
    assert (await compare(service, "object.txt", None, etag='"2"')).comparison == pb.COMPARISON_CHANGED
    assert (await compare(service, "object.txt", None)).comparison == pb.COMPARISON_CHANGED


async def test_the_same_that_is_on_its_way_is_pending_with_its_job(service: Service) -> None:
    service.retriever.gate.clear()
    job = (await service.upload("slow.txt", b"Slow words.")).job
    pending = await compare(service, "slow.txt", b"Slow words.")
    assert (pending.comparison, pending.job.name) == (pb.COMPARISON_PENDING, job.name)
    assert (await compare(service, "slow.txt", b"Other words.")).comparison == pb.COMPARISON_CHANGED
    service.retriever.gate.set()
    await service.ended(job.name)
    assert (await compare(service, "slow.txt", b"Slow words.")).comparison == pb.COMPARISON_UNCHANGED


async def test_a_failed_document_is_to_be_sent_again(service: Service) -> None:
    await service.ingest("damaged.pdf", b"%PDF-1.4 damaged")
    assert (await compare(service, "damaged.pdf", b"%PDF-1.4 damaged")).comparison == pb.COMPARISON_CHANGED


@pytest.mark.parametrize("announced", [True, False])
async def test_new_metadata_embeds_nothing(service: Service, announced: bool) -> None:
    name, data = f"label-{announced}.txt", b"Words with a label."
    await service.ingest(name, data, metadata=struct(year=2024, draft=True))
    before = await service.document(name)
    embedded, files = service.retriever.embedded.total(), raw_files(service)
    header = {"sha256": sha256(data)} if announced else {}
    job = (await service.upload(name, data, metadata=struct(year=2025, tags=["a", "b"]), **header)).job

    assert (job.state, job.outcome, job.total_chunks) == (pb.JOB_STATE_SUCCEEDED, pb.JOB_OUTCOME_REPLACED, 1)
    after = await service.document(name)
    assert (after.version, after.job, after.state) == (before.version, job.name, pb.DOCUMENT_STATE_LIVE)
    assert MessageToDict(after.metadata) == {"year": 2025, "tags": ["a", "b"]}
    [chunk] = service.retriever.found(after.name)
    assert MessageToDict(chunk.metadata) == {"year": 2025, "tags": ["a", "b"]}
    assert (service.retriever.embedded.total(), raw_files(service)) == (embedded, files)
    assert (await service.ingest(name, data, metadata=struct(year=2025, tags=["a", "b"]))).outcome == (
        pb.JOB_OUTCOME_UNCHANGED
    )


async def test_documents_are_listed_by_the_beginning_of_their_name(service: Service) -> None:
    for name in ("list_a/1.txt", "list_a/2.txt", "listXa/3.txt", "LIST_A/4.txt"):
        await service.ingest(name, b"Words.")
    found = await service.stub.ListDocuments(pb.ListDocumentsRequest(display_name_prefix="list_a/"), timeout=10)
    assert [document.display_name for document in found.documents] == ["list_a/1.txt", "list_a/2.txt"]


async def test_lists_of_numbers_are_metadata(service: Service) -> None:
    await service.ingest("numbers.txt", b"Words of years.", metadata=struct(years=[2023, 2024.5]))
    assert MessageToDict((await service.document("numbers.txt")).metadata) == {"years": [2023, 2024.5]}
