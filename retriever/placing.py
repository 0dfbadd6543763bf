"""The catalog of a retriever whose collections may be in either store.

Its own one decides: the file of a retriever with an embedded store, or what all replicas see on the Qdrant server. The server
is told as well of what a file says is there, so that a retriever that has its catalog there finds it.
"""

from collections.abc import Callable

from mesh import logs
from mesh.errors import MurpheyError
from retriever.catalog import Catalog, CollectionRecord
from retriever.stores.placed import PlacedStore

log = logs.get(__name__)

EDGE, SERVER = "edge", "server"


class PlacedCatalog:
    """Implements `catalog.Catalog` over the file of an embedded store. Tells the store where each index is."""

    def __init__(self, own: Catalog, server: Callable[[], Catalog], store: PlacedStore) -> None:
        self._own, self._open_server, self._store = own, server, store
        self._on_server: Catalog | None = None

    async def load(self) -> dict[str, CollectionRecord]:
        records = await self._own.load()
        for record in records.values():
            self._place(record)
        return records

    async def put(self, record: CollectionRecord) -> None:
        """The write of the own catalog is the one that counts: before it the server's is of no effect, after it as well."""
        before = (await self._own.load()).get(record.id)
        if record.store == SERVER:
            await self._server.put(record)
        await self._own.put(record)
        self._place(record)
        if record.store != SERVER and before is not None and before.store == SERVER:
            await self._server.remove(record.id)

    async def remove(self, collection: str) -> None:
        before = (await self._own.load()).get(collection)
        await self._own.remove(collection)
        if before is not None and before.store == SERVER:
            await self._server.remove(collection)

    async def adopt(self) -> None:
        """Takes up the server's collections that the own catalog does not know. At the first start the server must answer."""
        known = await self._own.load()
        try:
            found = await self._server.load()
        except MurpheyError as error:
            if not known:
                raise
            log.warning("server_not_looked_at", error=error.message)
            return
        for record in found.values():
            if record.id not in known:
                await self._own.put(record.placed(SERVER))
                log.info("collection_adopted", collection=record.id, store=SERVER)

    @property
    def _server(self) -> Catalog:
        if self._on_server is None:
            self._on_server = self._open_server()
        return self._on_server

    def _place(self, record: CollectionRecord) -> None:
        for index in record.indexes:
            self._store.places[index.index] = record.store or self._store.default
