"""The embedded store, as the retriever sees it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from retriever.chunks import Chunk, Description, DocumentVersion
from retriever.filters import Kind
from retriever.stores.base import Counts, Hit, IndexedChunk, Selection, StoreQuery, Window
from retriever.stores.edge.process import EngineProcess
from retriever.stores.edge.shard import FoundPoint
from retriever.stores.hits import arrange, merged
from retriever.stores.payload import to_chunk


class EdgeStore:
    """Indexes in a folder of this machine. One process at a time: the engine's log is locked."""

    def __init__(self, engine: EngineProcess) -> None:
        self._engine = engine

    @classmethod
    async def open(
        cls, root: Path, *, max_waiting_searches: int = 1_024, optimize_after_chunks: int = 8_000
    ) -> "EdgeStore":
        """Starts the engine's process."""
        engine = EngineProcess(root, max_waiting_searches, optimize_after_chunks)
        await engine.start()
        return cls(engine)

    @property
    def engine(self) -> EngineProcess:
        """The process that does the work."""
        return self._engine

    async def create_index(self, index: str, dimensions: int) -> None:
        await self._engine.call("", "create", index, dimensions)

    async def drop_index(self, index: str) -> None:
        await self._engine.call("", "drop", index)

    async def add_fields(self, index: str, fields: Sequence[tuple[str, Kind]]) -> None:
        await self._engine.call(index, "add_fields", list(fields))

    async def upsert(self, index: str, chunks: Sequence[IndexedChunk], *, staged: bool) -> None:
        await self._engine.call(index, "upsert", list(chunks), staged)

    async def publish(self, index: str, versions: Sequence[DocumentVersion]) -> int:
        return await self._engine.call(index, "publish", list(versions))

    async def describe(self, index: str, descriptions: Sequence[Description]) -> int:
        return await self._engine.call(index, "describe", list(descriptions))

    async def delete(self, index: str, selection: Selection) -> int:
        return await self._engine.call(index, "delete", selection)

    async def search(self, index: str, query: StoreQuery) -> list[Hit]:
        found: list[FoundPoint] = await self._engine.search(index, query)
        return [Hit(to_chunk(point_id, payload), score, cosine) for point_id, score, cosine, payload in found]

    async def neighbors(self, index: str, windows: Sequence[Window]) -> Mapping[Window, list[Chunk]]:
        if not windows:
            return {}
        found = await self._engine.call(index, "windows", list(windows))
        return arrange(windows, [to_chunk(point_id, payload) for point_id, payload in found])

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, tuple[Chunk, Sequence[float]]]:
        found = await self._engine.call(index, "vectors", list(ids))
        return {point_id: (to_chunk(point_id, payload), vector) for point_id, payload, vector in found}

    async def stored(self, index: str) -> Mapping[DocumentVersion, Counts]:
        live: Counter[DocumentVersion] = Counter()
        page, after = await self._engine.call(index, "versions", None)
        live.update(page)
        while after is not None:  # page by page, so that searches come in between
            page, after = await self._engine.call(index, "versions", after)
            live.update(page)
        return merged(live, await self._engine.call(index, "staged_versions"))

    async def count(self, index: str) -> Counts:
        return await self._engine.call(index, "count")

    async def close(self) -> None:
        await self._engine.close()
