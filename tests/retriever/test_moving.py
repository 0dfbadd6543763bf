"""A collection is moved between the embedded store and a Qdrant server, and back, while it is searched and written to."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from qdrant_client import AsyncQdrantClient

from mesh.errors import FailedPrecondition, NotFound
from retriever.catalog import CollectionRecord, FileCatalog
from retriever.chunks import Description, DocumentVersion
from retriever.collections import NewCollection
from retriever.moving.mover import Phase
from retriever.placing import PlacedCatalog
from retriever.stores.base import Counts, OfDocuments, OfIds
from retriever.stores.edge.store import EdgeStore
from retriever.stores.placed import PlacedStore
from retriever.stores.server.catalog import ServerCatalog
from tests.retriever.fakes import WordsEmbedder, chunk, document_name, indexed
from tests.retriever.moves import KeptServer, Retriever, opened

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")]


async def test_there_and_back_with_the_same_answers_and_nothing_embedded(filled: Retriever) -> None:
    before = await filled.ask("harbor lantern moss")
    embedded = list(filled.embedder.batches)
    for target, other in (("server", "edge"), ("edge", "server")):
        progress = await filled.move(target)
        assert [each.phase for each in progress if each.phase is not Phase.COPYING] == [Phase.COMPARING, Phase.DONE]
        copied = [each.copied for each in progress if each.phase is Phase.COPYING]
        assert copied == sorted(copied)
        assert copied[-1] == progress[-1].total == 310
        agreement = progress[-1].agreement
        assert agreement is not None
        assert (agreement.questions, agreement.same) == (50, 50)
        record = await filled.collections.get("default")
        assert (record.store, record.index) == (target, filled.index)
        assert await filled.store.count(filled.index) == Counts(300, 10)
        with pytest.raises(NotFound):
            await filled.store.named(other).count(filled.index)
        after = await filled.ask("harbor lantern moss")
        assert [hit.chunk.id for hit in after] == [hit.chunk.id for hit in before]
        assert [hit.chunk.metadata for hit in after] == [hit.chunk.metadata for hit in before]
        assert [hit.dense_score for hit in after] == pytest.approx([hit.dense_score for hit in before], abs=1e-4)
    assert filled.embedder.batches == embedded


async def test_what_is_staged_is_published_where_it_is_now(filled: Retriever) -> None:
    await filled.move("server")
    await filled.store.publish(filled.index, [DocumentVersion(document_name("d3"), "2")])
    assert ("d3", "2") in await filled.there("server")
    assert ("d3", "1") not in await filled.there("server")


async def test_the_server_knows_of_it_and_forgets_it(filled: Retriever) -> None:
    assert "default" not in await filled.server.load()
    await filled.move("server")
    assert (await filled.server.load())["default"].index == filled.index
    await filled.move("edge")
    assert "default" not in await filled.server.load()


async def test_searches_and_writes_go_on(filled: Retriever) -> None:
    """Every write that is acknowledged is there at the end, and no search finds nothing."""
    done = asyncio.Event()
    searched = 0

    async def search() -> None:
        nonlocal searched
        while not done.is_set():
            assert await filled.ask("harbor lantern moss")
            searched += 1

    async def write() -> None:
        number = 1_000
        while not done.is_set():
            await filled.put(number)
            await filled.put(number % 200, version="3", staged=True)
            await filled.store.publish(filled.index, [DocumentVersion(document_name(f"d{number % 200}"), "3")])
            await filled.store.delete(filled.index, OfDocuments((document_name(f"d{200 + number % 100}"),)))
            number += 1
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(search()), asyncio.create_task(write())]
    progress = await filled.move("server")
    done.set()
    await asyncio.gather(*tasks)
    assert progress[-1].phase is Phase.DONE
    assert searched
    expected = await filled.there("server")
    assert {f"d{number}" for number in range(1_000, 1_001)} <= {document for document, _ in expected}
    before = set(expected)
    await filled.move("edge")
    assert await filled.there("edge") == before


async def test_changes_after_the_copy_are_copied_again(filled: Retriever) -> None:
    """Of each kind, on documents that have been copied already."""
    moving = filled.mover.move("default", "server", questions_asked=20, least_agreement=0.99)
    async for progress in moving:
        if progress.phase is not Phase.COPYING or progress.copied != progress.total:
            continue
        await filled.put(5, version="9")
        await filled.store.delete(filled.index, OfDocuments((document_name("d6"),)))
        await filled.store.delete(filled.index, OfIds((chunk("", "d7").id,)))
        await filled.store.delete(filled.index, DocumentVersion(document_name("d9"), "2"))
        await filled.store.publish(filled.index, [DocumentVersion(document_name("d8"), "2")])
        described = Description(DocumentVersion(document_name("d20"), "1"), {"number": 77.0})
        await filled.store.describe(filled.index, [described])
    there = await filled.there("server")
    assert {("d5", "1"), ("d5", "9"), ("d5", "2"), ("d8", "2"), ("d7", "2"), ("d9", "1")} <= there
    assert not {("d6", "1"), ("d6", "2"), ("d7", "1"), ("d8", "1"), ("d9", "2")} & there
    found = await filled.store.vectors(filled.index, [chunk("", "d20").id])
    assert [item.metadata for item, _ in found.values()] == [{"number": 77.0}]


async def test_all_indexes_of_a_collection_go(tmp_path: Path, qdrant: AsyncQdrantClient) -> None:
    async with opened(tmp_path, qdrant) as retriever:
        await retriever.put(1)
        record = await retriever.collections.get("default")
        more = "default--more"
        await retriever.store.create_index(more, WordsEmbedder.dimensions)
        await retriever.store.upsert(more, [indexed(chunk("more", "y"))], staged=False)

        async def with_previous(found: CollectionRecord) -> CollectionRecord:
            return replace(found, previous=replace(record, index=more))

        await retriever.collections.update("default", with_previous)
        await retriever.move("server")
        moved = await retriever.collections.get("default")
        assert [index.store for index in moved.indexes] == ["server", "server"]
        assert await retriever.store.count(more) == Counts(1, 0)


async def test_an_empty_collection_and_a_store_that_is_not_there(tmp_path: Path, qdrant: AsyncQdrantClient) -> None:
    async with opened(tmp_path, qdrant) as retriever:
        await retriever.collections.create(NewCollection("empty"))
        moving = retriever.mover.move("empty", "server", questions_asked=5, least_agreement=1.0)
        assert [each.phase async for each in moving][-1] is Phase.DONE
        assert (await retriever.collections.get("empty")).store == "server"
        with pytest.raises(FailedPrecondition, match="no store"):
            await anext(retriever.mover.move("empty", "moon", questions_asked=5, least_agreement=1.0))
        with pytest.raises(NotFound):
            await anext(retriever.mover.move("nothing", "server", questions_asked=5, least_agreement=1.0))


async def test_a_new_retriever_takes_up_what_is_on_the_server(tmp_path: Path, qdrant: AsyncQdrantClient) -> None:
    async with opened(tmp_path / "one", qdrant) as first:
        await first.put(1)
        await first.move("server")
    edge = await EdgeStore.open(tmp_path / "two" / "indexes")
    store: PlacedStore = PlacedStore("edge", {"edge": lambda: edge, "server": lambda: KeptServer(qdrant)})
    store.named("edge")
    catalog = PlacedCatalog(FileCatalog(tmp_path / "two" / "catalog.json"), lambda: ServerCatalog(qdrant), store)
    await catalog.adopt()
    records = await catalog.load()
    assert records["default"].store == "server"
    assert await store.count(records["default"].index) == Counts(1, 0)
    await store.close()
