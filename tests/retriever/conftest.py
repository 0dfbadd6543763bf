"""Stores, and a retriever served over gRPC, for the tests of this folder."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio
import pytest
import pytest_asyncio
from qdrant_client import AsyncQdrantClient

from bench.qdrant_stand_in import standing_in
from mesh.caching import ByteCache
from mesh.server import Hosted, serving
from mesh.weights import resolve
from murphey.retriever.v1 import retriever_pb2_grpc
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from retriever.building import Building
from retriever.catalog import FileCatalog
from retriever.collections import Collections
from retriever.corpus import ProcessCorpusVersions
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
from retriever.stores.server.store import ServerStore
from retriever.stores.versioned import VersionedStore
from tests.retriever.fakes import FakeRerankers, WordsEmbedder, open_fake
from tests.retriever.moves import Retriever, opened, stored_in


def shared_data() -> Path:
    """The folder of data sets beside the repository; a test that needs it fails where it is missing."""
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.fail(f"{folder} is missing: this test measures on its data sets.")
    return folder


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of downloaded models, with the default embedder in it."""
    folder = RetrieverSettings().models
    resolve("all-minilm-l6-v2", folder)
    return folder


@pytest.fixture
async def edge_store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    store = await EdgeStore.open(tmp_path / "indexes", optimize_after_chunks=1_000)
    yield store
    await store.close()


@pytest_asyncio.fixture(params=["edge", "server", "grpc"], scope="module", loop_scope="module")
async def opened_store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Store]:
    """Each store. `server`: the client's local mode, or what MURPHEY_TEST_QDRANT_URL names; `grpc`: Qdrant's own protocol."""
    folder = tmp_path_factory.mktemp(request.param)
    async with AsyncExitStack() as stack:
        if request.param == "edge":
            opened: Store = await EdgeStore.open(folder / "indexes")
        elif request.param == "grpc":
            _, port = await stack.enter_async_context(standing_in(folder))
            url = "http://127.0.0.1:6333"
            opened = ServerStore(AsyncQdrantClient(url, grpc_port=port, prefer_grpc=True, check_compatibility=False))
        else:
            url = os.environ.get("MURPHEY_TEST_QDRANT_URL")
            opened = ServerStore(AsyncQdrantClient(url=url, prefer_grpc=True) if url else AsyncQdrantClient(":memory:"))
        yield opened
        await opened.close()


@pytest_asyncio.fixture(loop_scope="module")
async def store(opened_store: Store) -> AsyncIterator[Store]:
    """Each store, with an empty index `test`."""
    await opened_store.create_index("test", WordsEmbedder.dimensions)
    yield opened_store
    await opened_store.drop_index("test")


@dataclass(frozen=True)
class Served:
    """A retriever that answers on a port of this machine."""

    stub: RetrieverServiceStub
    embedder: WordsEmbedder
    store: EdgeStore
    rerankers: FakeRerankers


@pytest.fixture
async def served(tmp_path: Path, edge_store: EdgeStore) -> AsyncIterator[Served]:
    """The whole service but for the model, over real gRPC."""
    embedder = WordsEmbedder()
    embedders = NamedEmbedders(embedder, ["more-words", "broken"], open_fake, max_waiting_texts=3_000)
    versions = ProcessCorpusVersions()
    store = VersionedStore(edge_store, versions)
    collections = Collections(FileCatalog(tmp_path / "catalog.json"), store, embedders)
    await collections.open()
    fakes = FakeRerankers()
    rerankers = Rerankers(["shared-words", "broken"], fakes, max_waiting_texts=100)
    searcher = Searcher(collections, QueryVectors(ByteCache("queries", 100_000)), store, Ordering(store, rerankers))
    kept = KeptSearches(ByteCache("searches", 100_000), versions)
    building = Building(collections, store, embedders)
    servicer = RetrieverServicer(
        collections, Indexer(collections, store), searcher, building, embedders, kept, rerankers,
        stored_in("edge", edge_store, collections, tmp_path),
    )  # fmt: skip
    hosted = Hosted(NAME, partial(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, servicer))
    settings = RetrieverSettings(data=tmp_path, drain_s=0)
    async with serving(settings, [hosted]) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Served(RetrieverServiceStub(channel), embedder, edge_store, fakes)
    await rerankers.close()
    await embedders.close()


@pytest.fixture(params=["local", "grpc"])
async def qdrant(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncQdrantClient]:
    """`local`: the client's local mode, or the server that MURPHEY_TEST_QDRANT_URL names. `grpc`: Qdrant's own protocol."""
    async with AsyncExitStack() as stack:
        if request.param == "grpc":
            _, port = await stack.enter_async_context(standing_in(tmp_path / "peer"))
            url = "http://127.0.0.1:6333"
            yield AsyncQdrantClient(url, grpc_port=port, prefer_grpc=True, check_compatibility=False)
        else:
            url = os.environ.get("MURPHEY_TEST_QDRANT_URL")
            yield AsyncQdrantClient(url=url, prefer_grpc=True) if url else AsyncQdrantClient(":memory:")


@pytest.fixture
async def filled(tmp_path: Path, qdrant: AsyncQdrantClient) -> AsyncIterator[Retriever]:
    """With 300 documents published, ten of them as new versions still on their way."""
    async with opened(tmp_path, qdrant) as retriever:
        await retriever.put(*range(300))
        await retriever.put(*range(10), version="2", staged=True)
        yield retriever
