"""Equal content is embedded once, and one document's refusal is not another's."""

import asyncio

import pytest

from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.conftest import Service

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_equal_bytes_under_two_names_are_two_documents_that_share_embeddings(service: Service) -> None:
    data = b"# One\n\nThe same words in two files. " * 40
    await service.ingest("first.md", data)
    before = service.retriever.embedded.total()

    job = await service.ingest("second.md", data, metadata={"copy": True})

    first, second = await service.document("first.md"), await service.document("second.md")
    assert job.outcome == pb.JOB_OUTCOME_INDEXED
    assert first.name != second.name
    assert service.retriever.embedded.total() == before
    texts = [[chunk.text for chunk in service.retriever.found(document.name)] for document in (first, second)]
    assert texts[0] == texts[1]
    assert len(texts[0]) == second.chunk_count


async def test_uploads_of_the_same_content_at_once_are_embedded_once(service: Service) -> None:
    data = b"Everybody sends this at the same time. " * 60
    before = service.retriever.embedded.total()

    jobs = await asyncio.gather(*(service.ingest(f"at-once/{number}.txt", data) for number in range(5)))

    assert [job.outcome for job in jobs] == [pb.JOB_OUTCOME_INDEXED] * 5
    assert service.retriever.embedded.total() - before == jobs[0].total_chunks


async def test_a_refused_chunk_fails_its_document_and_no_other(service: Service) -> None:
    service.retriever.refused = "unspeakable"
    service.retriever.upserting.clear()
    service.retriever.gate.clear()
    await service.upload("held.txt", b"This one keeps the way until the others stand in one run. " * 20)
    await asyncio.wait_for(service.retriever.upserting.wait(), 20)
    names = ["good.txt", "bad.txt", "fair.txt"]
    texts = [b"Fine words. " * 50, b"Quite unspeakable words. " * 50, b"Fair words. " * 50]
    started = [await service.upload(name, text) for name, text in zip(names, texts, strict=True)]
    service.retriever.gate.set()

    good, bad, fair = [await service.ended(response.job.name) for response in started]

    service.retriever.refused = ""
    assert (good.state, fair.state) == (pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_SUCCEEDED)
    assert bad.state == pb.JOB_STATE_FAILED
    assert "refused" in bad.error.message
    assert bad.stage == pb.JOB_STAGE_CHUNKED
