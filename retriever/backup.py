"""The retriever's part of a backup and of a restore: its catalog, and its chunks with their vectors.

Of a retriever that runs with an embedded store, whose folder belongs to its process, pages are asked by gRPC; all others are
read from their stores.
"""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from mesh import discovery
from mesh.access import credentials
from mesh.access.tenants import tenant_of
from mesh.backup.parts import ChunkRow, SeenCollection
from mesh.channel import open_channel
from mesh.deadline import call_options
from mesh.errors import Corrupt, FailedPrecondition, NotFound, Unavailable, translated
from murphey.retriever.v1 import stored_chunks_pb2 as pb
from murphey.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub
from retriever import stored_messages
from retriever.catalog import Catalog, FileCatalog, from_json, to_json
from retriever.filters import Fields
from retriever.opening import OnServer, Opened, open_stores
from retriever.placing import EDGE
from retriever.settings import RetrieverSettings
from retriever.stores.base import Counts, Store

PAGE_TIMEOUT_S = 120.0
_UPSERT_AT_ONCE = 256


class BackedUpChunks:
    """Implements `parts.Chunks`, from a retriever that runs or from its stores."""

    def __init__(self, catalog: Catalog, source: Store | RetrieverServiceStub) -> None:
        self._catalog, self._source = catalog, source

    async def collections(self) -> list[SeenCollection]:
        records = await self._catalog.load()
        return [
            SeenCollection(to_json(record), tuple((index.index, index.dimensions) for index in record.indexes))
            for _, record in sorted(records.items())
        ]

    async def page(
        self, index: str, *, staged: bool, after: str, documents: Sequence[str] = ()
    ) -> tuple[list[ChunkRow], str]:
        if isinstance(self._source, RetrieverServiceStub):
            request = pb.ReadChunksRequest(index=index, staged=staged, after=after, documents=documents)
            with translated("retriever"):
                response = await self._source.ReadChunks(request, **call_options(PAGE_TIMEOUT_S, tenant_of(index)))
            return [_row(chunk) for chunk in response.page.chunks], response.after
        page = await self._source.page(index, staged=staged, after=after, documents=documents)
        return [_row(chunk) for chunk in stored_messages.to_message(page.chunks).chunks], page.after


class RestoredChunks:
    """Implements `parts.ChunksTarget` on the stores that the settings name."""

    def __init__(self, opened: Opened) -> None:
        self._store, self._catalog = opened.store, opened.catalog

    async def begin(self, collection: SeenCollection, *, replace: bool) -> None:
        record = from_json(collection.record)
        for index in record.indexes:
            if await self._chunks_in(index.index) and not replace:
                raise FailedPrecondition(f"The store has chunks in {index.index} already. Say --replace to drop them.")
            await self._store.drop_index(index.index)
            await self._store.create_index(index.index, index.dimensions)
            await self._store.add_fields(index.index, record.fields.minus(Fields()))

    async def _chunks_in(self, index: str) -> int:
        try:
            counts = await self._store.count(index)
        except NotFound:
            return 0
        return counts.live + counts.staged

    async def put(self, index: str, content: bytes, *, staged: bool, without: frozenset[str]) -> int:
        chunks = stored_messages.from_message(pb.StoredChunks.FromString(content))
        wanted = [item for item in chunks if item.chunk.document not in without]
        for at in range(0, len(wanted), _UPSERT_AT_ONCE):
            await self._store.upsert(index, wanted[at : at + _UPSERT_AT_ONCE], staged=staged)
        return len(wanted)

    async def finish(self, collection: SeenCollection, counts: dict[str, tuple[int, int]]) -> None:
        for index, (live, staged) in counts.items():
            counted = await self._store.count(index)
            if counted != Counts(live, staged):
                raise Corrupt(f"The index {index} should have {live} + {staged} chunks, and has {counted}.")
        await self._catalog.put(from_json(collection.record).placed(""))


@asynccontextmanager
async def chunks_of(settings: RetrieverSettings) -> AsyncIterator[BackedUpChunks]:
    """Of the mesh of these settings, whether it runs or not."""
    async with AsyncExitStack() as stack:
        if settings.store == EDGE and (address := _running(settings)) is not None:
            name = discovery.full_name("retriever")
            channel = await stack.enter_async_context(
                open_channel(address, name, ["ReadChunks"], credentials.of_service(settings))
            )
            catalog = FileCatalog(settings.data / settings.service / "catalog.json")
            yield BackedUpChunks(catalog, RetrieverServiceStub(channel))
        elif settings.store == EDGE:
            opened = await open_stores(settings)
            stack.push_async_callback(opened.store.close)
            yield BackedUpChunks(opened.catalog, opened.store)
        else:
            server = OnServer(settings)
            store = server.store()
            stack.push_async_callback(store.close)
            yield BackedUpChunks(server.catalog(), store)


@asynccontextmanager
async def restored_into(settings: RetrieverSettings) -> AsyncIterator[RestoredChunks]:
    """The stores of a mesh that does not run."""
    opened = await open_stores(settings)
    try:
        yield RestoredChunks(opened)
    finally:
        await opened.store.close()


def _running(settings: RetrieverSettings) -> str | None:
    try:
        return discovery.find(settings.data).services["retriever"]
    except Unavailable:
        return None


def _row(chunk: pb.StoredChunk) -> ChunkRow:
    payload: dict[str, Any] = json.loads(chunk.payload)
    content = pb.StoredChunks(chunks=[chunk]).SerializeToString(deterministic=True)
    return ChunkRow(chunk.id, payload["document"], payload["version"], content)
