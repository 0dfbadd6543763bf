"""The retriever's wiring: settings -> embedder, store, catalog -> domain -> servicer."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from mesh.caching import MEGABYTE, ByteCache
from mesh.server import Hosted
from mesh.server import main as serve
from mesh.weights import known_embedders, resolve
from murphey.retriever.v1 import retriever_pb2_grpc
from retriever.building import Building
from retriever.collections import Collections
from retriever.embedding import Embedder, Purpose
from retriever.indexing import Indexer
from retriever.kept_searches import KeptSearches
from retriever.moving.mover import Mover
from retriever.moving.state import MoveFiles
from retriever.named_embedders import NamedEmbedders
from retriever.opening import open_stores
from retriever.ordering import Ordering
from retriever.query_vectors import QueryVectors
from retriever.rerankers import late_interaction
from retriever.reranking import Reranker, Rerankers
from retriever.search import Searcher
from retriever.service import NAME, RetrieverServicer, Stored
from retriever.settings import RetrieverSettings
from retriever.stores.versioned import VersionedStore

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that weighs words or pickles chunks may keep the event loop from Python's lock, at each of its turns."""


def main() -> None:
    """`python -m retriever`."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    serve(RetrieverSettings, open_service)


@asynccontextmanager
async def open_service(settings: RetrieverSettings) -> AsyncIterator[list[Hosted]]:
    """The retriever, ready to be served; embedder and store are open inside."""
    embedder, opened = await asyncio.gather(asyncio.to_thread(open_embedder, settings), open_stores(settings))
    store = VersionedStore(opened.store, opened.versions)
    embedders = NamedEmbedders(
        embedder,
        {*settings.more_embedders, *known_embedders()},
        partial(open_embedder, settings),
        max_waiting_texts=settings.max_waiting_texts,
        leftovers=settings.data / settings.service / "unstored",
    )
    rerankers = Rerankers(
        [settings.reranker, *settings.more_rerankers, late_interaction.NAME], partial(open_reranker, settings)
    )
    collections = Collections(opened.catalog, store, embedders)
    mover = Mover(collections, opened.store, MoveFiles(settings.data / settings.service / "moves"))
    try:
        await collections.open()
        await mover.open()
        vectors = QueryVectors(ByteCache("queries", settings.query_cache_mb * MEGABYTE))
        searcher = Searcher(collections, vectors, store, Ordering(store, rerankers))
        kept = KeptSearches(ByteCache("searches", settings.search_cache_mb * MEGABYTE), opened.versions)
        await collections.warm()
        await (await embedders.queue()).embed(["warm"], Purpose.QUERY)
        building = Building(collections, store, embedders)
        servicer = RetrieverServicer(
            collections, Indexer(collections, store), searcher, building, embedders, kept, rerankers,
            Stored(opened.store, mover),
        )  # fmt: skip
        add = partial(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, servicer)
        yield [Hosted(NAME, add)]
    finally:
        await mover.close()
        await rerankers.close()
        await embedders.close()
        await store.close()


def open_embedder(settings: RetrieverSettings, name: str = "") -> Embedder:
    """The embedder of a name, or the default one: OpenVINO on CPU, torch on CUDA."""
    name = name or settings.embedder
    model = resolve(name, settings.models)
    if _on_cuda(settings):
        from retriever.embedders.torch import TorchEmbedder

        return TorchEmbedder(name, model)
    from retriever.embedders.openvino import OpenVinoEmbedder

    return OpenVinoEmbedder(name, *_converted(settings, model))


async def open_reranker(settings: RetrieverSettings, name: str) -> Reranker:
    """Late interaction on the default embedder's tokens, or a cross-encoder in a process of its own."""
    if name == late_interaction.NAME:
        return late_interaction.LateInteraction(await asyncio.to_thread(_open_token_vectors, settings))
    from retriever.rerankers.process import CrossEncoderProcess

    return await CrossEncoderProcess.open(
        name, str(resolve(name, settings.models)), "cuda" if _on_cuda(settings) else "cpu"
    )


def _open_token_vectors(settings: RetrieverSettings) -> late_interaction.TokenVectors:
    model = resolve(settings.embedder, settings.models)
    if _on_cuda(settings):
        from retriever.embedders.torch import TorchTokenVectors

        return TorchTokenVectors(settings.embedder, model)
    from retriever.embedders.token_vectors import OpenVinoTokenVectors

    return OpenVinoTokenVectors(settings.embedder, *_converted(settings, model))


def _converted(settings: RetrieverSettings, model: Path | str) -> tuple[Path, int, str]:
    """The folder of a model that runs by OpenVINO, the threads that it gets, and how it computes."""
    from retriever.embedders.conversion import converted

    quantized = settings.precision == "int8"
    folder = converted(model, settings.models / "openvino", quantized=quantized)
    return (
        folder,
        settings.embed_threads,
        "f32" if quantized else settings.precision,
    )  # what is not quantized stays in f32


def _on_cuda(settings: RetrieverSettings) -> bool:
    return settings.device == "cuda" or (settings.device == "auto" and _has_cuda())


def _has_cuda() -> bool:
    """Asks the driver, not torch, whose import alone takes seconds and a gigabyte."""
    from ctypes import CDLL, byref, c_int

    try:
        driver = CDLL("libcuda.so.1")
    except OSError:
        return False
    count = c_int(0)
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(byref(count)) == 0 and count.value > 0
