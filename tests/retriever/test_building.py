"""An index is built beside the live one and takes its place, by another chunking or another embedder, and goes back."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from qdrant_client import AsyncQdrantClient

from murphey.retriever.v1 import retriever_pb2 as pb
from retriever.catalog import CollectionRecord, FileCatalog, Splitter
from retriever.filters import Fields
from retriever.stores.base import Store
from retriever.stores.edge.store import EdgeStore
from retriever.stores.server.catalog import ServerCatalog
from retriever.stores.server.store import ServerStore
from tests.retriever.conftest import Served
from tests.retriever.fakes import document_name

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")
DEFAULT = "collections/default"


@pytest.fixture(params=["edge", "server"])
async def edge_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """The store that the service of these tests is on: each of them, in the place of the embedded one."""
    opened = (
        await EdgeStore.open(tmp_path / "indexes")
        if request.param == "edge"
        else ServerStore(AsyncQdrantClient(":memory:"))
    )
    yield opened
    await opened.close()


def a_chunk(text: str, index: int = 0, version: str = "1", document: str = "a") -> pb.Chunk:
    number = hash((text, version, document)) % 10**12
    return pb.Chunk(
        id=f"00000000-0000-0000-0000-{number:012d}", document=document_name(document), version=version, index=index, text=text,
        span=pb.Span(start=0, end=len(text)),
    )  # fmt: skip


async def upsert(served: Served, *chunks: pb.Chunk, index: str = "", reuse: int = -1) -> pb.UpsertChunksResponse:
    ranges = [pb.ChunkRange(document=chunks[0].document, version="1", first=0, last=reuse)] if reuse >= 0 else []
    request = pb.UpsertChunksRequest(collection=DEFAULT, chunks=chunks, staged=True, index_version=index, reuse=ranges)
    return await served.stub.UpsertChunks(request)


async def publish(served: Served, version: str = "1", index: str = "", document: str = "a") -> None:
    named = pb.DocumentVersion(document=document_name(document), version=version)
    await served.stub.PublishDocuments(pb.PublishDocumentsRequest(documents=[named], index_version=index))


async def found(served: Served) -> set[str]:
    return {passage.chunk.text for passage in (await served.stub.Search(pb.SearchRequest(text="tea"))).passages}


async def begun(served: Served, **wanted: object) -> pb.Collection:
    return (await served.stub.BuildIndex(pb.BuildIndexRequest(**wanted))).collection  # pyright: ignore


async def swapped(served: Served, index: str) -> pb.Collection:
    return (await served.stub.SwapIndex(pb.SwapIndexRequest(index_version=index))).collection


@pytest.mark.parametrize("wanted", [{"chunking": pb.Chunking(chunk_tokens=32)}, {"embedder": "more-words"}])
async def test_swapped_in_and_back(served: Served, wanted: dict[str, object]) -> None:
    await upsert(served, a_chunk("green tea and black tea"))
    await publish(served)
    before = (await served.stub.GetCollection(pb.GetCollectionRequest())).collection

    building = (await begun(served, **wanted)).building
    again = (await begun(served, **wanted)).building
    assert building.index_version == again.index_version != before.index_version
    await upsert(served, a_chunk("green tea"), a_chunk("black tea", 1), index=building.index_version)
    await publish(served, index=building.index_version)
    assert await found(served) == {"green tea and black tea"}

    now = await swapped(served, building.index_version)
    assert await found(served) == {"green tea", "black tea"}
    assert (now.index_version, now.previous.index_version) == (building.index_version, before.index_version)
    assert not now.HasField("building")
    assert await swapped(served, building.index_version) == now
    await upsert(served, a_chunk("white tea", document="b"))
    await publish(served, document="b")
    assert await found(served) == {"green tea", "black tea", "white tea"}

    back = await begun(served, previous=True)
    assert back.building.index_version == before.index_version
    restored = await swapped(served, before.index_version)
    assert await found(served) == {"green tea and black tea"}
    assert restored.previous.index_version == building.index_version
    assert restored.dimensions == before.dimensions


async def test_deleting_a_document_deletes_it_from_every_index(served: Served) -> None:
    await upsert(served, a_chunk("green tea"))
    await publish(served)
    building = (await begun(served, embedder="more-words")).building.index_version
    await upsert(served, a_chunk("green tea"), index=building)
    await publish(served, index=building)

    await served.stub.DeleteChunks(pb.DeleteChunksRequest(documents=pb.DocumentNames(documents=[document_name("a")])))

    for index in ("", building):
        stored = served.stub.ListStoredVersions(pb.ListStoredVersionsRequest(index_version=index))
        assert [page async for page in stored] == []


async def test_an_index_that_is_no_longer_in_use_is_refused(served: Served) -> None:
    live = (await served.stub.GetCollection(pb.GetCollectionRequest())).collection.index_version
    building = (await begun(served, embedder="more-words")).building.index_version
    await upsert(served, a_chunk("green tea"), index=building)
    await publish(served, index=building)
    await swapped(served, building)

    for call in (upsert(served, a_chunk("late tea"), index=live), publish(served, index=live)):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert await found(served) == {"green tea"}


async def test_a_half_built_index_is_dropped_and_one_that_was_live_is_kept(served: Served) -> None:
    first = (await begun(served, embedder="more-words")).building.index_version
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await begun(served, chunking=pb.Chunking(chunk_tokens=20))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    left = (await served.stub.DropIndex(pb.DropIndexRequest(index_version=first))).collection
    assert not left.HasField("building")

    await begun(served, embedder="more-words")
    now = await swapped(served, first)
    await begun(served, previous=True)
    request = pb.DropIndexRequest(index_version=now.previous.index_version, keep=True)
    kept = (await served.stub.DropIndex(request)).collection
    assert (kept.index_version, kept.previous.index_version) == (first, now.previous.index_version)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.stub.DropIndex(pb.DropIndexRequest(index_version=first))
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_chunks_that_read_the_same_are_not_embedded_again(served: Served) -> None:
    await upsert(served, a_chunk("green tea"), a_chunk("black tea", 1), a_chunk("white tea", 2))
    await publish(served)

    edited = await upsert(
        served, a_chunk("new tea", 0, "2"), a_chunk("green tea", 1, "2"), a_chunk("white tea", 3, "2"), reuse=5
    )
    building = (await begun(served, chunking=pb.Chunking(chunk_tokens=32))).building.index_version
    recut = await upsert(served, a_chunk("green tea", 7), a_chunk("black", 8), index=building, reuse=5)
    other = (await served.stub.DropIndex(pb.DropIndexRequest(index_version=building))).collection
    small = (await begun(served, embedder="more-words")).building.index_version
    anew = await upsert(served, a_chunk("green tea", 7), index=small, reuse=5)

    assert (edited.embedded, recut.embedded, anew.embedded) == (1, 1, 1)
    assert other.chunk_count == 3


async def test_an_embedder_that_is_not_known_is_refused(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await begun(served, embedder="unheard-of")
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "more-words" in (raised.value.details() or "")


@pytest.mark.parametrize("kind", ["file", "server"])
async def test_what_stands_beside_the_live_index_is_kept_over_restarts(kind: str, tmp_path: Path) -> None:
    client = AsyncQdrantClient(":memory:")
    catalog = FileCatalog(tmp_path / "catalog.json") if kind == "file" else ServerCatalog(client)
    for index in ("notes--1", "notes--2", "notes--3"):
        await client.create_collection(f"murphey--{index}", vectors_config={})
    live = CollectionRecord(
        "notes", "words", "1", 32, 64, 32, "english", "notes--2", datetime.now(UTC), Fields(), max_tokens=64
    )
    older = replace(live, index="notes--1", splitter=Splitter.SENTENCE)
    record = replace(
        live, previous=older, building=replace(live, index="notes--3", embedder="more-words", dimensions=33)
    )

    assert await catalog.load() == {}
    await catalog.put(record)

    assert await catalog.load() == {"notes": record}
    await client.close()
