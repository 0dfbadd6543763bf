"""Caches of the retriever over gRPC: what is found again, and that no write leaves anything stale behind."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import grpc
import pytest
from qdrant_client import AsyncQdrantClient

from mesh.caching import ByteCache, Use
from murphey.retriever.v1 import cache_pb2
from murphey.retriever.v1 import retriever_pb2 as pb
from retriever.catalog import CollectionRecord
from retriever.chunks import DocumentVersion
from retriever.corpus import CorpusVersions, ProcessCorpusVersions
from retriever.embedding import Purpose
from retriever.kept_searches import KeptSearches
from retriever.stores.edge.store import EdgeStore
from retriever.stores.server.corpus import ServerCorpusVersions
from retriever.stores.versioned import VersionedStore
from tests.retriever.conftest import Served
from tests.retriever.fakes import DIMENSIONS, chunk, document_name, indexed
from tests.retriever.requests import message, on, struct

SEARCH = pb.SearchRequest(text="hot tea", limit=5)


async def search(served: Served, **changes: object) -> pb.SearchResponse:
    asked = pb.SearchRequest()
    asked.CopyFrom(SEARCH)
    asked.MergeFrom(pb.SearchRequest(**changes))  # pyright: ignore[reportArgumentType]
    return await served.stub.Search(asked)


async def upsert(served: Served, *chunks: pb.Chunk, staged: bool = False) -> None:
    await served.stub.UpsertChunks(pb.UpsertChunksRequest(chunks=chunks, staged=staged))


def queries_embedded(served: Served) -> int:
    return sum(count for purpose, count in served.embedder.batches if purpose is Purpose.QUERY)


async def test_the_same_search_is_answered_from_what_was_kept(served: Served) -> None:
    await upsert(served, message("Hot tea.", metadata=struct(year=2020)), message("Cold milk.", index=1))
    first, again = await search(served), await search(served)
    assert (first.cached, again.cached) == (False, True)
    assert again.passages == first.passages
    assert again.index_version == first.index_version
    assert not again.HasField("store_time")
    assert queries_embedded(served) == 1


async def test_another_search_is_not(served: Served) -> None:
    await upsert(served, message("Hot tea.", metadata=struct(year=2020)))
    await search(served)
    for change in ({"text": "hot teas"}, {"limit": 6}, {"neighbors": 1}, {"mode": pb.SEARCH_MODE_DENSE},
                   {"minimum_score": 0.1}, {"filter": on("metadata.year", exists=True)}):  # fmt: skip
        assert not (await search(served, **change)).cached, change
    assert queries_embedded(served) == 2  # "hot tea" and "hot teas"


async def test_what_was_found_in_another_index_is_not_kept() -> None:
    kept, use = KeptSearches(ByteCache("searches", 10_000), ProcessCorpusVersions()), Use()
    embedder = ("words", "1", DIMENSIONS, 64, 8, "english")
    record = CollectionRecord("c", *embedder, index="c--1", created=datetime.now(UTC))
    for version, state_named, cached in (("2", False, False), ("1", True, False), ("1", True, True)):

        async def found(version: str = version) -> pb.SearchResponse:
            return pb.SearchResponse(index_version=version)

        answer = await kept.search(SEARCH, record, use, found)
        assert (bool(answer.corpus_version), answer.cached) == (state_named, cached)


async def test_a_call_may_want_nothing_of_it(served: Served) -> None:
    await upsert(served, message("Hot tea."))
    await search(served, cache=cache_pb2.CacheControl(no_store=True))
    assert not (await search(served)).cached
    assert not (await search(served, cache=cache_pb2.CacheControl(no_cache=True))).cached
    assert queries_embedded(served) == 3
    old = cache_pb2.CacheControl()
    old.max_age.SetInParent()
    assert not (await search(served, cache=old)).cached
    old.max_age.seconds = 3600
    assert (await search(served, cache=old)).cached
    old.max_age.seconds = -1
    with pytest.raises(grpc.aio.AioRpcError, match="max_age is -1"):
        await search(served, cache=old)


async def publish(served: Served) -> None:
    await upsert(served, message("Hot tea with lemon.", version="2"), staged=True)
    version = pb.DocumentVersion(document=document_name("a"), version="2")
    await served.stub.PublishDocuments(pb.PublishDocumentsRequest(documents=[version]))


async def describe(served: Served) -> None:
    described = pb.DocumentMetadata(document=document_name("a"), version="1", metadata=struct(year=2021))
    await served.stub.SetDocumentMetadata(pb.SetDocumentMetadataRequest(documents=[described]))


async def delete_document(served: Served) -> None:
    names = pb.DocumentNames(documents=[document_name("a")])
    await served.stub.DeleteChunks(pb.DeleteChunksRequest(documents=names))


async def delete_chunk(served: Served) -> None:
    ids = pb.ChunkIds(ids=[message("Hot tea.").id])
    await served.stub.DeleteChunks(pb.DeleteChunksRequest(chunks=ids))


async def delete_collection(served: Served) -> None:
    await served.stub.DeleteCollection(pb.DeleteCollectionRequest(name="collections/default", force=True))
    await served.stub.CreateCollection(pb.CreateCollectionRequest(collection=pb.Collection(name="collections/default")))


WRITES: list[tuple[Callable[[Served], Awaitable[None]], str, bool]] = [
    (lambda served: upsert(served, message("Hot tea, hot tea.", document="b")), "Hot tea, hot tea.", False),
    (lambda served: upsert(served, message("Iced tea.")), "Iced tea.", False),
    (publish, "Hot tea with lemon.", False),
    (describe, "2021", False),
    (delete_document, "", True),
    (delete_chunk, "", True),
    (delete_collection, "", True),
]


@pytest.mark.parametrize(("write", "expected", "removal"), WRITES)
async def test_no_search_is_stale_after_a_write(
    served: Served, write: Callable[[Served], Awaitable[None]], expected: str, removal: bool
) -> None:
    await upsert(served, message("Hot tea.", metadata=struct(year=2020)))
    before = await served.stub.GetCorpusVersion(pb.GetCorpusVersionRequest())
    await search(served)
    assert (await search(served)).cached
    await write(served)
    after = await served.stub.GetCorpusVersion(pb.GetCorpusVersionRequest())
    assert after.version != before.version
    assert (after.removals != before.removals) == removal
    found = await search(served)
    assert not found.cached
    assert expected in str(found.passages)
    assert (len(found.passages) == 0) == (not expected)


async def test_what_no_search_sees_changes_nothing(served: Served) -> None:
    await upsert(served, message("Hot tea."))
    await search(served)
    await upsert(served, message("Hotter tea.", version="2"), staged=True)
    assert (await search(served)).cached


async def test_an_unknown_collection_has_no_version(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await served.stub.GetCorpusVersion(pb.GetCorpusVersionRequest(collection="collections/none"))
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


class SlowStore(EdgeStore):
    """Deletes only when it may."""

    def __init__(self) -> None:
        self.deleting, self.may_delete = asyncio.Event(), asyncio.Event()

    async def delete(self, index: str, selection: object) -> int:
        self.deleting.set()
        await self.may_delete.wait()
        return 1

    async def close(self) -> None: ...


async def test_a_write_whose_caller_has_left_still_names_a_new_state() -> None:
    slow, versions = SlowStore(), ProcessCorpusVersions()
    store = VersionedStore(slow, versions)
    before = await versions.of("i")
    caller = asyncio.create_task(store.delete("i", DocumentVersion("a", "1")))
    await slow.deleting.wait()
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert await versions.of("i") == before  # the store has not done it yet
    slow.may_delete.set()
    await store.close()
    assert await versions.of("i") != before


@pytest.fixture(params=["process", "server"])
def versions(request: pytest.FixtureRequest) -> CorpusVersions:
    return (
        ProcessCorpusVersions() if request.param == "process" else ServerCorpusVersions(AsyncQdrantClient(":memory:"))
    )


async def test_states_are_per_index_and_never_come_again(versions: CorpusVersions) -> None:
    other = await versions.of("other")
    seen = [await versions.of("one")]
    for removal in (False, True, False):
        await versions.move("one", removal=removal)
        seen.append(await versions.of("one"))
    assert await versions.of("one") == seen[-1]
    assert len({version.contents for version in seen}) == 4
    assert [seen[0].removals == seen[1].removals, seen[1].removals == seen[2].removals] == [True, False]
    assert seen[2].removals == seen[3].removals
    assert await versions.of("other") == other
    assert other.contents != seen[0].contents


async def test_replicas_on_one_server_see_one_state() -> None:
    client = AsyncQdrantClient(":memory:")
    one, two = ServerCorpusVersions(client), ServerCorpusVersions(client)
    before = await one.of("i")
    await two.move("i", removal=False)
    assert await one.of("i") == await two.of("i") != before


async def test_a_failed_write_names_a_new_state_too(edge_store: EdgeStore) -> None:
    versions = ProcessCorpusVersions()
    store = VersionedStore(edge_store, versions)
    await store.create_index("i", DIMENSIONS + 1)
    before = await versions.of("i")
    with pytest.raises(Exception, match=r".+"):
        await store.upsert("i", [indexed(chunk("tea"))], staged=False)
    assert await versions.of("i") != before
