"""Killed with -9 while a collection is indexed anew, ingest goes on with it: every document is there once, in the new index."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from murphey.ingest.v1 import ingest_pb2 as pb
from tests.ingest.postgres import postgres_server
from tests.ingest.processes import IngestProcess, ended, ingest_process, upload
from tests.ingest.real_retriever import RealRetriever, serving_real_retriever

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")]

DOCUMENTS = 24
SETTINGS: dict[str, object] = {"batch_documents": 4, "upsert_chunks": 16}


@pytest.fixture(params=["edge and SQLite", "server and Postgres"])
def rooms(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, object]]]:
    """The retriever's store, and ingest's settings: as on a laptop, and as in a cluster."""
    if request.param == "edge and SQLite":
        yield "edge", {}
        return
    with postgres_server() as server:
        server.create("reindex-kill")
        yield "server", {"database_url": server.url("reindex-kill")}


async def test_killed_in_the_middle_it_is_swapped_in_whole(
    tmp_path: Path, tokenizer_folder: Path, rooms: tuple[str, dict[str, object]]
) -> None:
    store, settings = rooms[0], SETTINGS | rooms[1]
    async with serving_real_retriever(tmp_path / "retriever", store_name=store) as retriever:
        async with ingest_process(tmp_path, retriever.target, tokenizer_folder, **settings) as service:
            uploads = [upload(service.stub, f"{number}.txt", content(number)) for number in range(DOCUMENTS)]
            for response in await asyncio.gather(*uploads):
                assert (await ended(service.stub, response.job.name)).state == pb.JOB_STATE_SUCCEEDED
            request = pb.ReindexCollectionRequest(name="collections/default", embedder="small")
            job = (await service.stub.ReindexCollection(request, timeout=30)).job
            await embeds_more(retriever)
        for number in range(3):
            async with ingest_process(tmp_path, retriever.target, tokenizer_folder, **settings) as service:
                if number < 2:
                    await embeds_more(retriever)
                else:
                    assert (await ended(service.stub, job.name)).state == pb.JOB_STATE_SUCCEEDED
                    await check(service, retriever)


async def embeds_more(retriever: RealRetriever) -> None:
    """Returns when the other embedder has embedded something more, or all."""
    before, chunks = len(retriever.small.batches), (await retriever.collection()).chunk_count
    async with asyncio.timeout(120):
        while len(retriever.small.batches) == before:
            if sum(size for _, size in retriever.small.batches) >= chunks:
                return
            await asyncio.sleep(0.01)


async def check(service: IngestProcess, retriever: RealRetriever) -> None:
    listed = (await service.stub.ListDocuments(pb.ListDocumentsRequest(page_size=1000))).documents
    now = await retriever.collection()
    assert (now.embedder, now.HasField("building")) == ("small", False)
    assert len(listed) == DOCUMENTS
    assert await retriever.stored() == {(each.name, each.version): (each.chunk_count, 0) for each in listed}
    request = pb.FindOrphansRequest(minimum_age=Duration())
    found = [answer async for answer in service.stub.FindOrphans(request, timeout=60)]
    assert [answer.orphan for answer in found if answer.HasField("orphan")] == []


def content(number: int) -> bytes:
    return f"Document {number} says this in words of its own. ".encode() * 60
