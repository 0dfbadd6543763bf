"""The retriever as it is, on either of its stores, but for the model: two embedders of random directions.

`server` is a Qdrant server where MURPHEY_TEST_QDRANT_URL names one, and the client's local mode otherwise.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
from qdrant_client import AsyncQdrantClient

from mesh.caching import ByteCache
from mesh.server import Hosted, serving
from murphey.retriever.v1 import retriever_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import (
    RetrieverServiceStub,
    add_RetrieverServiceServicer_to_server,
)
from retriever.building import Building
from retriever.catalog import Catalog, FileCatalog
from retriever.collections import Collections
from retriever.corpus import CorpusVersions, ProcessCorpusVersions
from retriever.embedding import Purpose
from retriever.indexing import Indexer
from retriever.kept_searches import KeptSearches
from retriever.named_embedders import NamedEmbedders
from retriever.ordering import Ordering
from retriever.query_vectors import QueryVectors
from retriever.reranking import Rerankers
from retriever.search import Searcher
from retriever.service import NAME, RetrieverServicer
from retriever.settings import RetrieverSettings
from retriever.stores.base import Store
from retriever.stores.edge.store import EdgeStore
from retriever.stores.server.catalog import ServerCatalog
from retriever.stores.server.corpus import ServerCorpusVersions
from retriever.stores.server.store import ServerStore
from retriever.stores.versioned import VersionedStore
from tests.retriever.fakes import FakeRerankers, MoreWordsEmbedder, WordsEmbedder
from tests.retriever.moves import stored_in


@dataclass(frozen=True)
class RealRetriever:
    """Where it answers, and what it embedded. `held` makes every embedding of documents wait."""

    target: str
    stub: RetrieverServiceStub
    words: WordsEmbedder
    small: WordsEmbedder

    @property
    def embedded(self) -> int:
        """Texts of documents, by both embedders."""
        batches = [*self.words.batches, *self.small.batches]
        return sum(size for purpose, size in batches if purpose is Purpose.DOCUMENT)

    async def found(self, text: str, collection: str = "default", limit: int = 200) -> list[pb.Chunk]:
        """What a search finds."""
        request = pb.SearchRequest(collection=f"collections/{collection}", text=text, limit=limit)
        return [passage.chunk for passage in (await self.stub.Search(request, timeout=30)).passages]

    async def collection(self, name: str = "default") -> pb.Collection:
        """As it is now."""
        return (await self.stub.GetCollection(pb.GetCollectionRequest(name=f"collections/{name}"))).collection

    async def stored(self, index_version: str = "") -> dict[tuple[str, str], tuple[int, int]]:
        """Live and staged chunks by document and version."""
        request = pb.ListStoredVersionsRequest(index_version=index_version)
        pages = [page async for page in self.stub.ListStoredVersions(request)]
        return {(v.document, v.version): (v.live_chunks, v.staged_chunks) for page in pages for v in page.versions}


@asynccontextmanager
async def serving_real_retriever(
    folder: Path,
    servicer_class: type[RetrieverServicer] = RetrieverServicer,
    store_name: str = "edge",
    **settings: Any,
) -> AsyncIterator[RealRetriever]:
    """One of its own."""
    inner, catalog, versions = await _opened(store_name, folder)
    store = VersionedStore(inner, versions)
    words, small = WordsEmbedder(slices_at_once=2), MoreWordsEmbedder(slices_at_once=2, name="small")
    words.max_tokens = small.max_tokens = 256
    embedders = NamedEmbedders(words, ["small"], lambda _: small)
    collections = Collections(catalog, store, embedders)
    await collections.open()
    rerankers = Rerankers(["shared-words"], FakeRerankers())
    servicer = servicer_class(
        collections, Indexer(collections, store),
        Searcher(collections, QueryVectors(ByteCache("queries", 0)), store, Ordering(store, rerankers)),
        Building(collections, store, embedders), embedders, KeptSearches(ByteCache("searches", 0), versions),
        rerankers, stored_in(store_name, inner, collections, folder),
    )  # fmt: skip
    hosted = Hosted(NAME, partial(add_RetrieverServiceServicer_to_server, servicer))
    chosen = RetrieverSettings(**{"data": folder, "drain_s": 0, **settings})
    async with serving(chosen, [hosted]) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RealRetriever(f"127.0.0.1:{port}", RetrieverServiceStub(channel), words, small)
    await embedders.close()
    if store_name == "server":  # which others may use too
        await collections.delete("default", force=True)
    await store.close()


async def _opened(name: str, folder: Path) -> tuple[Store, Catalog, CorpusVersions]:
    if name == "edge":
        catalog = FileCatalog(folder / "catalog.json")
        return await EdgeStore.open(folder / "indexes"), catalog, ProcessCorpusVersions()
    url = os.environ.get("MURPHEY_TEST_QDRANT_URL")
    client = AsyncQdrantClient(url=url, prefer_grpc=True) if url else AsyncQdrantClient(":memory:")
    return ServerStore(client), ServerCatalog(client), ServerCorpusVersions(client)
