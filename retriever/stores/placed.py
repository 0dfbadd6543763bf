"""A store over several: each index is in one of them, and may be moved to another one while it is used.

Where an index is, the catalog says (`placing.py`); how it is moved, `moving/`.
"""

from collections.abc import Callable, Mapping, Sequence

from retriever.chunks import Chunk, Description, DocumentVersion
from retriever.filters import Kind
from retriever.stores.base import (
    Counts,
    Hit,
    IndexedChunk,
    OfDocuments,
    OfIds,
    Page,
    Selection,
    Store,
    StoreQuery,
    Window,
)
from retriever.stores.gates import Gate


class PlacedStore:
    """Implements `base.Store`. A store is opened when it is first needed; `default` has the indexes that are in no other."""

    def __init__(self, default: str, stores: Mapping[str, Callable[[], Store]]) -> None:
        self.default = default
        self._openers = stores
        self._opened: dict[str, Store] = {}
        self._gates: dict[str, Gate] = {}
        self.places: dict[str, str] = {}
        """Index -> the store that it is in."""
        self.targets: dict[str, str] = {}
        """Index -> the store that it is being copied to."""

    @property
    def names(self) -> list[str]:
        """Of the stores that there are."""
        return list(self._openers)

    def named(self, name: str) -> Store:
        """The store of that name."""
        if name not in self._opened:
            self._opened[name] = self._openers[name]()
        return self._opened[name]

    def gate(self, index: str) -> Gate:
        """What calls of an index pass."""
        return self._gates.setdefault(index, Gate())

    def _of(self, index: str) -> Store:
        return self.named(self.places.get(index, self.default))

    async def create_index(self, index: str, dimensions: int) -> None:
        await self._of(index).create_index(index, dimensions)

    async def drop_index(self, index: str) -> None:
        await self._of(index).drop_index(index)
        self._gates.pop(index, None)
        self.places.pop(index, None)

    async def add_fields(self, index: str, fields: Sequence[tuple[str, Kind]]) -> None:
        await self._of(index).add_fields(index, fields)
        if (target := self.targets.get(index)) is not None:
            await self.named(target).add_fields(index, fields)

    async def upsert(self, index: str, chunks: Sequence[IndexedChunk], *, staged: bool) -> None:
        async with self.gate(index).writing({item.chunk.document for item in chunks}):
            await self._of(index).upsert(index, chunks, staged=staged)

    async def publish(self, index: str, versions: Sequence[DocumentVersion]) -> int:
        async with self.gate(index).writing({version.document for version in versions}):
            return await self._of(index).publish(index, versions)

    async def describe(self, index: str, descriptions: Sequence[Description]) -> int:
        async with self.gate(index).writing({description.version.document for description in descriptions}):
            return await self._of(index).describe(index, descriptions)

    async def delete(self, index: str, selection: Selection) -> int:
        async with self.gate(index).writing(await self._documents(index, selection)):
            return await self._of(index).delete(index, selection)

    async def search(self, index: str, query: StoreQuery) -> list[Hit]:
        with self.gate(index).reading():
            return await self._of(index).search(index, query)

    async def neighbors(self, index: str, windows: Sequence[Window]) -> Mapping[Window, list[Chunk]]:
        with self.gate(index).reading():
            return await self._of(index).neighbors(index, windows)

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, tuple[Chunk, Sequence[float]]]:
        with self.gate(index).reading():
            return await self._of(index).vectors(index, ids)

    async def stored(self, index: str) -> Mapping[DocumentVersion, Counts]:
        with self.gate(index).reading():
            return await self._of(index).stored(index)

    async def count(self, index: str) -> Counts:
        with self.gate(index).reading():
            return await self._of(index).count(index)

    async def page(self, index: str, *, staged: bool, after: str = "", documents: Sequence[str] = ()) -> Page:
        with self.gate(index).reading():
            return await self._of(index).page(index, staged=staged, after=after, documents=documents)

    async def close(self) -> None:
        for store in self._opened.values():
            await store.close()

    async def _documents(self, index: str, selection: Selection) -> set[str]:
        match selection:
            case OfDocuments(documents):
                return set(documents)
            case DocumentVersion(document):
                return {document}
            case OfIds(ids) if index in self.targets:
                return {chunk.document for chunk, _ in (await self.vectors(index, ids)).values()}
            case OfIds():
                return set()
