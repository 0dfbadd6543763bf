"""A store whose every write names a new state of the index's contents; reads go through unchanged."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from retriever.chunks import Chunk, Description, DocumentVersion
from retriever.corpus import CorpusVersions
from retriever.filters import Kind
from retriever.stores.base import Counts, Hit, IndexedChunk, Page, Selection, Store, StoreQuery, Window

Result = TypeVar("Result")


class VersionedStore:
    """Implements `base.Store` over another store."""

    def __init__(self, store: Store, versions: CorpusVersions) -> None:
        self._store, self._versions = store, versions
        self._writes: set[asyncio.Task[Any]] = set()

    async def create_index(self, index: str, dimensions: int) -> None:
        await self._store.create_index(index, dimensions)

    async def drop_index(self, index: str) -> None:
        await self._written(index, self._store.drop_index(index), removal=True)

    async def add_fields(self, index: str, fields: Sequence[tuple[str, Kind]]) -> None:
        await self._store.add_fields(index, fields)

    async def upsert(self, index: str, chunks: Sequence[IndexedChunk], *, staged: bool) -> None:
        write = self._store.upsert(index, chunks, staged=staged)
        await (write if staged else self._written(index, write))  # no search sees what is staged

    async def publish(self, index: str, versions: Sequence[DocumentVersion]) -> int:
        return await self._written(index, self._store.publish(index, versions))

    async def describe(self, index: str, descriptions: Sequence[Description]) -> int:
        return await self._written(index, self._store.describe(index, descriptions))

    async def delete(self, index: str, selection: Selection) -> int:
        return await self._written(index, self._store.delete(index, selection), removal=True)

    async def search(self, index: str, query: StoreQuery) -> list[Hit]:
        return await self._store.search(index, query)

    async def neighbors(self, index: str, windows: Sequence[Window]) -> Mapping[Window, list[Chunk]]:
        return await self._store.neighbors(index, windows)

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, tuple[Chunk, Sequence[float]]]:
        return await self._store.vectors(index, ids)

    async def stored(self, index: str) -> Mapping[DocumentVersion, Counts]:
        return await self._store.stored(index)

    async def count(self, index: str) -> Counts:
        return await self._store.count(index)

    async def page(self, index: str, *, staged: bool, after: str = "", documents: Sequence[str] = ()) -> Page:
        return await self._store.page(index, staged=staged, after=after, documents=documents)

    async def close(self) -> None:
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._store.close()

    async def _written(self, index: str, write: Coroutine[Any, Any, Result], *, removal: bool = False) -> Result:
        """A caller that leaves does not stop the write: the store may do it all the same, and then the state must be new."""
        task = asyncio.ensure_future(self._write(index, write, removal))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)

    async def _write(self, index: str, write: Coroutine[Any, Any, Result], removal: bool) -> Result:
        try:
            return await write
        finally:  # what failed may have been done in part
            await self._versions.move(index, removal=removal)
