"""Opens the stores that the settings name, with the catalog and the states of their contents."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from retriever.catalog import Catalog, FileCatalog
from retriever.corpus import CorpusVersions, ProcessCorpusVersions
from retriever.placing import EDGE, SERVER, PlacedCatalog
from retriever.settings import RetrieverSettings
from retriever.stores.base import Store
from retriever.stores.placed import PlacedStore


@dataclass(frozen=True)
class Opened:
    """The store over all stores, its catalog, and the states of its contents."""

    store: PlacedStore
    catalog: Catalog
    versions: CorpusVersions


class OnServer:
    """What is on the Qdrant server of the settings. Its client is imported only where it is needed, and made once."""

    def __init__(self, settings: RetrieverSettings) -> None:
        self._settings = settings

    @cached_property
    def _client(self) -> Any:
        from retriever.stores.server.options import connect

        return connect(self._settings)

    @cached_property
    def _options(self) -> Any:
        from retriever.stores.server.options import ServerOptions

        return ServerOptions.of(self._settings)

    def store(self) -> Store:
        """Chunks."""
        from retriever.stores.server.store import ServerStore

        return ServerStore(self._client, self._options)

    def catalog(self) -> Catalog:
        """Collections."""
        from retriever.stores.server.catalog import ServerCatalog

        return ServerCatalog(self._client, self._options)

    def versions(self) -> CorpusVersions:
        """States of the contents."""
        from retriever.stores.server.corpus import ServerCorpusVersions

        return ServerCorpusVersions(self._client, self._options)


async def open_stores(settings: RetrieverSettings) -> Opened:
    """With the embedded store, the server's is opened when a collection is there, or is to be moved there."""
    server = OnServer(settings)
    if settings.store == SERVER:
        return Opened(PlacedStore(SERVER, {SERVER: server.store}), server.catalog(), server.versions())
    from retriever.stores.edge.store import EdgeStore

    state = settings.data / settings.service
    edge = await EdgeStore.open(
        state / "indexes",
        max_waiting_searches=settings.max_waiting_searches,
        optimize_after_chunks=settings.optimize_after_chunks,
    )
    store = PlacedStore(EDGE, {EDGE: lambda: edge, SERVER: server.store})
    store.named(EDGE)
    catalog = PlacedCatalog(FileCatalog(state / "catalog.json"), server.catalog, store)
    try:
        if "qdrant_url" in settings.model_fields_set:
            await catalog.adopt()
    except BaseException:
        await store.close()
        raise
    return Opened(store, catalog, ProcessCorpusVersions())
