"""A collection is cut and embedded anew beside itself: atomic, exact, with what changes meanwhile, and back again."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from murphey.ingest.v1 import ingest_pb2 as pb
from murphey.retriever.v1 import retriever_pb2
from murphey.retriever.v1.retriever_pb2 import Chunking
from tests.ingest.conftest import Service, running_service
from tests.ingest.postgres import Postgres, postgres_server
from tests.ingest.real_retriever import RealRetriever, serving_real_retriever

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant"),
]
NAME = "collections/default"


@dataclass(frozen=True)
class Rooms:
    """Ingest and the retriever behind it."""

    service: Service
    retriever: RealRetriever

    async def reindex(self, **wanted: Any) -> pb.Job:
        """The job when it has ended."""
        request = pb.ReindexCollectionRequest(name=NAME, **wanted)
        return await self.service.ended((await self.service.stub.ReindexCollection(request, timeout=30)).job.name)

    async def rollback(self) -> pb.Job:
        """The job when it has ended."""
        request = pb.RollbackCollectionRequest(name=NAME)
        return await self.service.ended((await self.service.stub.RollbackCollection(request, timeout=30)).job.name)

    async def check(self, texts: dict[str, str]) -> int:
        """Exactly these documents are live, each exactly once, all spans hold, nothing is left over; answers the chunks."""
        listed = (await self.service.stub.ListDocuments(pb.ListDocumentsRequest(page_size=1000))).documents
        stored = await self.retriever.stored()
        assert {document.display_name for document in listed} == texts.keys()
        assert stored == {(document.name, document.version): (document.chunk_count, 0) for document in listed}
        chunks = await self.retriever.found("words")
        assert len(chunks) == sum(document.chunk_count for document in listed)
        for chunk in chunks:
            assert chunk.text == texts[chunk.display_name][chunk.span.start : chunk.span.end]
        request = pb.FindOrphansRequest(minimum_age=Duration())
        found = [answer async for answer in self.service.stub.FindOrphans(request, timeout=30)]
        assert [answer.orphan for answer in found if answer.HasField("orphan")] == []
        return len(chunks)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["edge and SQLite", "server and Postgres"])
async def all_rooms(request: pytest.FixtureRequest, tmp_path: Path, tokenizer_folder: Path) -> AsyncIterator[Rooms]:
    """As on a laptop, and as in a cluster."""
    store, _, database = request.param.split()
    settings = {}
    if database == "Postgres":
        server: Postgres = request.getfixturevalue("postgres")
        name = f"reindex-{tmp_path.name}"
        server.create(name)
        settings["database_url"] = server.url(name)
    async with (
        serving_real_retriever(tmp_path / "retriever", store_name=store) as retriever,
        running_service(tmp_path, tokenizer_folder, target=retriever.target, **settings) as service,
    ):
        yield Rooms(service, retriever)


def text_of(number: int, sentences: int = 40) -> str:
    paragraphs = [
        " ".join(f"Document {number} has the words of sentence {part}." for part in range(start, start + 8))
        for start in range(0, sentences, 8)
    ]
    return "\n\n".join(paragraphs)


async def filled(rooms: Rooms, count: int = 4) -> dict[str, str]:
    texts = {f"{number}.txt": text_of(number) for number in range(count)}
    await asyncio.gather(*(rooms.service.ingest(name, text.encode()) for name, text in texts.items()))
    return texts


async def test_another_chunking_cuts_the_stored_text_and_goes_back(all_rooms: Rooms) -> None:
    texts = await filled(all_rooms)
    before = await all_rooms.check(texts)
    versions = {document for document, _ in await all_rooms.retriever.stored()}

    job = await all_rooms.reindex(chunking=Chunking(chunk_tokens=64, overlap_tokens=0))
    assert (job.state, job.stage, job.kind) == (pb.JOB_STATE_SUCCEEDED, pb.JOB_STAGE_LIVE, pb.JOB_KIND_REINDEX)
    assert (job.total_documents, job.indexed_documents) == (4, 4)
    small = await all_rooms.check(texts)
    assert small > before
    assert job.indexed_chunks == small
    assert {document for document, _ in await all_rooms.retriever.stored()} == versions

    texts["0.txt"], texts["new.txt"] = text_of(10), text_of(11)
    for name in ("0.txt", "new.txt"):
        await all_rooms.service.ingest(name, texts[name].encode())
    gone = await all_rooms.service.document("1.txt")
    await all_rooms.service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=gone.name))
    del texts["1.txt"]
    kept = (await all_rooms.retriever.collection()).previous.index_version
    assert gone.name not in {document for document, _ in await all_rooms.retriever.stored(kept)}

    embedded = all_rooms.retriever.embedded
    back = await all_rooms.rollback()
    assert back.state == pb.JOB_STATE_SUCCEEDED
    assert await all_rooms.check(texts) == before
    assert (await all_rooms.retriever.collection()).index_version == kept
    again = await all_rooms.retriever.collection()
    assert all_rooms.retriever.embedded - embedded < before  # only what changed meanwhile
    assert again.chunking.chunk_tokens > 64


async def test_another_embedder_while_documents_come_and_go(all_rooms: Rooms) -> None:
    service, retriever = all_rooms.service, all_rooms.retriever
    texts = await filled(all_rooms, 6)
    live = (await retriever.collection()).index_version
    retriever.small.may_run.clear()

    started = (await service.stub.ReindexCollection(pb.ReindexCollectionRequest(name=NAME, embedder="small"))).job
    assert await asyncio.to_thread(retriever.small.started.wait, 30)
    texts["0.txt"], texts["late.txt"] = text_of(20), text_of(21)
    for name in ("0.txt", "late.txt"):
        assert (await service.ingest(name, texts[name].encode())).state == pb.JOB_STATE_SUCCEEDED
    gone = await service.document("1.txt")
    await service.stub.DeleteDocument(pb.DeleteDocumentRequest(name=gone.name))
    del texts["1.txt"]
    relabelled = await service.ingest("2.txt", texts["2.txt"].encode(), metadata={"year": 2024})
    assert relabelled.outcome == pb.JOB_OUTCOME_REPLACED
    assert (await retriever.collection()).index_version == live
    assert len(await retriever.found("words")) > 0
    retriever.small.may_run.set()

    ended = await service.ended(started.name)
    assert ended.state == pb.JOB_STATE_SUCCEEDED
    await all_rooms.check(texts)
    now = await retriever.collection()
    assert (now.embedder, now.dimensions) == ("small", 33)
    labels = {chunk.display_name: dict(chunk.metadata) for chunk in await retriever.found("words")}
    assert [name for name, metadata in labels.items() if metadata.get("year") == 2024] == ["2.txt"]


async def test_what_is_on_its_way_at_the_swap_is_cut_anew(all_rooms: Rooms) -> None:
    service, retriever = all_rooms.service, all_rooms.retriever
    texts = await filled(all_rooms, 2)
    retriever.words.started.clear()
    retriever.words.may_run.clear()
    texts["slow.txt"] = text_of(30)
    slow = await service.upload("slow.txt", texts["slow.txt"].encode())
    assert await asyncio.to_thread(retriever.words.started.wait, 30)

    job = await all_rooms.reindex(embedder="small")
    retriever.words.may_run.set()

    assert job.state == pb.JOB_STATE_SUCCEEDED
    assert (await service.ended(slow.job.name)).state == pb.JOB_STATE_SUCCEEDED
    kept = (await retriever.collection()).previous.index_version
    async with asyncio.timeout(30):
        while any(staged for _, staged in (await retriever.stored(kept)).values()):  # noqa: ASYNC110 - the run cleans up
            await asyncio.sleep(0.05)
    await all_rooms.check(texts)


async def test_a_cancelled_one_leaves_nothing_and_an_abandoned_one_is_found(all_rooms: Rooms) -> None:
    service, retriever = all_rooms.service, all_rooms.retriever
    texts = await filled(all_rooms, 3)
    retriever.small.may_run.clear()
    request = pb.ReindexCollectionRequest(name=NAME, embedder="small")
    started = (await service.stub.ReindexCollection(request)).job
    assert (await service.stub.ReindexCollection(request)).job.name == started.name
    assert await asyncio.to_thread(retriever.small.started.wait, 30)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await all_rooms.reindex(chunking=Chunking(chunk_tokens=32))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION

    await service.stub.CancelJob(pb.CancelJobRequest(name=started.name))
    retriever.small.may_run.set()
    assert (await service.ended(started.name)).state == pb.JOB_STATE_CANCELLED
    async with asyncio.timeout(30):
        while (await retriever.collection()).HasField("building"):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await all_rooms.check(texts)

    await retriever.stub.BuildIndex(retriever_pb2.BuildIndexRequest(embedder="small"))
    looked = pb.FindOrphansRequest(minimum_age=Duration(), remove=True)
    found = [answer.orphan async for answer in service.stub.FindOrphans(looked) if answer.HasField("orphan")]
    assert [(orphan.kind, orphan.removed) for orphan in found] == [(pb.ORPHAN_KIND_INDEX, True)]
    await all_rooms.check(texts)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await all_rooms.rollback()
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_small_edit_embeds_only_what_changed(all_rooms: Rooms) -> None:
    sections = [f"# Part {number}\n\n{text_of(number, 24)}\n\n" for number in range(8)]
    await all_rooms.service.ingest("book.md", "".join(sections).encode())
    before, chunks = all_rooms.retriever.embedded, len(await all_rooms.retriever.found("words"))

    sections[3] = "# Part 3\n\nAnother text with words.\n\n"
    job = await all_rooms.service.ingest("book.md", "".join(sections).encode())

    assert job.outcome == pb.JOB_OUTCOME_REPLACED
    assert all_rooms.retriever.embedded - before == 1
    assert chunks > 8
    await all_rooms.check({"book.md": "".join(sections)})
