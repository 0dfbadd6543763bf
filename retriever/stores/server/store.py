"""The store on a Qdrant server.

An index is two Qdrant collections: the one that is searched, and one without a search index for staged chunks, because a
filter on every search would cost more than the search. Publishing copies from the second to the first. For the searches of
this process it happens at once; another replica's search may see both versions of a document for some milliseconds.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from retriever.chunks import Chunk, Description, DocumentVersion
from retriever.filters import Kind
from retriever.sparse import SparseVector
from retriever.stores import conditions, fusion
from retriever.stores.base import Counts, Hit, IndexedChunk, Mode, OfDocuments, Page, Selection, StoreQuery, Window
from retriever.stores.hits import arrange, dense_score, merged
from retriever.stores.payload import (
    COLUMN_INDEXES,
    DENSE,
    FIXED_INDEXES,
    SPARSE,
    column,
    metadata_columns,
    to_chunk,
)
from retriever.stores.server.options import DEFAULT_OPTIONS, ServerOptions
from retriever.stores.server.points import from_record, to_point
from retriever.stores.server.qdrant import PREFIX, SERVER, translated

CHUNKS_AT_ONCE = 256
_SCROLL_POINTS = 1_000
_INDEX_TYPES = {kind.value: kind for kind in models.PayloadSchemaType}


class ServerStore:
    """Indexes on a Qdrant server. `client` is closed with the store."""

    def __init__(self, client: AsyncQdrantClient, options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self._client, self._options = client, options
        self._hidden: dict[str, list[models.Filter]] = {}
        self._searches: dict[str, set[asyncio.Future[Any]]] = {}

    async def create_index(self, index: str, dimensions: int) -> None:
        with translated(f"index {index!r}"):
            await self._create(_live(index), dimensions, self._options.hnsw, self._options.dense)
            await self._create(_staged(index), dimensions, models.HnswConfigDiff(m=0), {})

    async def drop_index(self, index: str) -> None:
        with translated(f"index {index!r}"):
            for name in (_live(index), _staged(index)):
                if await self._client.collection_exists(name):
                    await self._client.delete_collection(name)

    async def add_fields(self, index: str, fields: Sequence[tuple[str, Kind]]) -> None:
        with translated(f"index {index!r}"):
            for key, kind in fields:
                await self._client.create_payload_index(
                    _live(index), column(key, kind), _INDEX_TYPES[COLUMN_INDEXES[kind]]
                )

    async def upsert(self, index: str, chunks: Sequence[IndexedChunk], *, staged: bool) -> None:
        with translated(f"index {index!r}"):
            await self._client.upsert(_staged(index) if staged else _live(index), [to_point(item) for item in chunks])
            if not staged:
                ids: list[Any] = [item.chunk.id for item in chunks]
                await self._client.delete(_staged(index), models.PointIdsList(points=ids))

    async def publish(self, index: str, versions: Sequence[DocumentVersion]) -> int:
        """The new chunks are stored unseen; then searches turn from the old to the new; then the old are deleted."""
        with translated(f"index {index!r}"):
            shown = [version for version in versions if await self._has(_live(index), version)]
            fresh = [v for v in versions if v not in shown and await self._has(_staged(index), v)]
            versions = [*shown, *fresh]
            if not versions:
                return 0
            new, old = conditions.of_versions(versions, SERVER), conditions.of_other_versions(versions, SERVER)
            unseen = conditions.of_versions(fresh, SERVER) if fresh else models.Filter(must=[SERVER.has_id([])])
            async with self._hiding(index, unseen):
                await self._older_searches(index)
                await self._copy(_staged(index), _live(index), new)
            async with self._hiding(index, old):
                await self._older_searches(index)
                removed = (await self._client.count(_live(index), old)).count
                await self._client.delete(_live(index), models.FilterSelector(filter=old))
            await self._client.delete(_staged(index), models.FilterSelector(filter=new))
        return removed

    async def describe(self, index: str, descriptions: Sequence[Description]) -> int:
        updated = 0
        with translated(f"index {index!r}"):
            for description in descriptions:
                condition = conditions.of_versions([description.version], SERVER)
                updated += (await self._client.count(_live(index), condition)).count
                await self._client.set_payload(_live(index), metadata_columns(description.metadata), condition)
        return updated

    async def delete(self, index: str, selection: Selection) -> int:
        condition, deleted = conditions.selected(selection, SERVER), 0
        with translated(f"index {index!r}"):
            for name in (_live(index), _staged(index)):
                deleted += (await self._client.count(name, condition)).count
                await self._client.delete(name, models.FilterSelector(filter=condition))
        return deleted

    async def search(self, index: str, query: StoreQuery) -> list[Hit]:
        hidden = self._hidden.get(index)
        condition = conditions.searchable(
            query.condition, models.Filter(should=list(hidden)) if hidden else None, SERVER
        )
        running = self._searches.setdefault(index, set())
        find = self._search_hybrid if query.mode is Mode.HYBRID else self._search_plain
        with translated(f"index {index!r}"):
            asked = asyncio.ensure_future(find(_live(index), query, condition))
            running.add(asked)
            asked.add_done_callback(running.discard)
            return await asked

    async def _search_plain(self, name: str, query: StoreQuery, condition: models.Filter) -> list[Hit]:
        vector = query.dense if query.mode is Mode.DENSE else query.sparse
        points = await self._nearest(name, vector, condition, query.limit, with_payload=True)
        return [Hit(to_chunk(str(p.id), p.payload or {}), p.score, dense_score(query, p.score, None)) for p in points]

    async def _search_hybrid(self, name: str, query: StoreQuery, condition: models.Filter) -> list[Hit]:
        """Fused; a question of many words is asked twice."""
        words = query.sparse.words if query.sparse else 0
        depth, weight = fusion.candidates(query.limit), fusion.feedback_weight(words)
        dense, sparse = await asyncio.gather(
            *(self._scores(name, vector, condition, depth) for vector in (query.dense, query.sparse))
        )
        found = fusion.fused(dense, sparse, words)
        if found and weight:
            near = await self._points(name, [key for key, _ in found[: fusion.FEEDBACK_PASSAGES]])
            if near:
                asked = query.dense if query.dense is not None else ()
                moved = fusion.moved(asked, [vector for _, vector in near.values()], weight)
                found = fusion.fused(await self._scores(name, moved.tolist(), condition, depth), sparse, words)
        hits = found[: query.limit]
        points = await self._points(name, [key for key, _ in hits])
        return [
            Hit(points[key][0], score, dense_score(query, score, points[key][1]))
            for key, score in hits
            if key in points
        ]

    async def _scores(self, name: str, vector: Any, condition: models.Filter, depth: int) -> dict[str, float]:
        points = await self._nearest(name, vector, condition, depth, with_payload=False)
        return {str(point.id): point.score for point in points}

    async def _nearest(
        self, name: str, vector: Any, condition: models.Filter, limit: int, *, with_payload: bool
    ) -> list[models.ScoredPoint]:
        if vector is None:
            return []
        wanted: Any = [float(number) for number in vector] if not isinstance(vector, SparseVector) else None
        if isinstance(vector, SparseVector):
            wanted = models.SparseVector(indices=vector.indices, values=vector.values)
        using = SPARSE if isinstance(vector, SparseVector) else DENSE
        found = await self._client.query_points(
            name, query=wanted, using=using, query_filter=condition, limit=limit, with_payload=with_payload,
            search_params=self._options.search if using == DENSE else None, consistency=self._options.consistency,
        )  # fmt: skip
        return found.points

    async def _points(self, name: str, ids: Sequence[str]) -> dict[str, tuple[Chunk, Sequence[float]]]:
        """Chunks with their dense vectors by id; one that was deleted meanwhile is not there."""
        records = await self._client.retrieve(
            name, list(ids), with_vectors=[DENSE], consistency=self._options.consistency
        )
        vectors: dict[str, Any] = {str(record.id): record.vector for record in records}
        return {str(r.id): (to_chunk(str(r.id), r.payload or {}), vectors[str(r.id)][DENSE]) for r in records}

    async def neighbors(self, index: str, windows: Sequence[Window]) -> Mapping[Window, list[Chunk]]:
        if not windows:
            return {}
        condition = conditions.in_windows(windows, SERVER)
        with translated(f"index {index!r}"):
            found = [to_chunk(str(r.id), r.payload or {}) async for r in self._scroll(_live(index), condition)]
        return arrange(windows, found)

    async def vectors(self, index: str, ids: Sequence[str]) -> Mapping[str, tuple[Chunk, Sequence[float]]]:
        with translated(f"index {index!r}"):
            found = [await self._points(name, ids) for name in (_staged(index), _live(index))]
        return {**found[0], **found[1]}

    async def stored(self, index: str) -> Mapping[DocumentVersion, Counts]:
        with translated(f"index {index!r}"):
            return merged(await self._versions(_live(index)), await self._versions(_staged(index)))

    async def count(self, index: str) -> Counts:
        with translated(f"index {index!r}"):
            live, staged = await asyncio.gather(self._client.count(_live(index)), self._client.count(_staged(index)))
        return Counts(live.count, staged.count)

    async def page(self, index: str, *, staged: bool, after: str = "", documents: Sequence[str] = ()) -> Page:
        condition = conditions.selected(OfDocuments(tuple(documents)), SERVER) if documents else None
        with translated(f"index {index!r}"):
            records, offset = await self._client.scroll(
                _staged(index) if staged else _live(index), condition, limit=CHUNKS_AT_ONCE, offset=after or None,
                with_vectors=True, consistency=self._options.consistency,
            )  # fmt: skip
        return Page([from_record(record) for record in records], str(offset) if offset is not None else "")

    async def close(self) -> None:
        await self._client.close()

    async def _create(self, name: str, dimensions: int, hnsw: models.HnswConfigDiff, dense: Mapping[str, Any]) -> None:
        if await self._client.collection_exists(name):
            return
        await self._client.create_collection(
            name,
            vectors_config={DENSE: models.VectorParams(size=dimensions, distance=models.Distance.COSINE, **dense)},
            sparse_vectors_config={SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)},
            hnsw_config=hnsw,
            **self._options.storage,
            **self._options.replication,
        )
        for path, kind in FIXED_INDEXES.items():
            await self._client.create_payload_index(name, path, _INDEX_TYPES[kind])

    @asynccontextmanager
    async def _hiding(self, index: str, condition: models.Filter) -> AsyncIterator[None]:
        """Searches that begin inside do not see what it selects."""
        hidden = self._hidden.setdefault(index, [])
        hidden.append(condition)
        try:
            yield
        finally:
            hidden.remove(condition)

    async def _older_searches(self, index: str) -> None:
        """Waits for those that began before, and hide something else."""
        if running := list(self._searches.get(index, ())):
            await asyncio.wait(running)

    async def _has(self, name: str, version: DocumentVersion) -> bool:
        return (await self._client.count(name, conditions.of_versions([version], SERVER))).count > 0

    async def _versions(self, name: str) -> Counter[DocumentVersion]:
        found: Counter[DocumentVersion] = Counter()
        async for record in self._scroll(name, models.Filter(), with_payload=["document", "version"]):
            payload = record.payload or {}
            found[DocumentVersion(payload["document"], payload["version"])] += 1
        return found

    async def _copy(self, source: str, target: str, condition: models.Filter) -> None:
        batch: list[models.PointStruct] = []
        async for record in self._scroll(source, condition, with_vectors=True):
            batch.append(models.PointStruct(id=record.id, vector=record.vector or {}, payload=record.payload))  # pyright: ignore[reportArgumentType] - the same vectors
            if len(batch) == CHUNKS_AT_ONCE:
                await self._client.upsert(target, batch)
                batch = []
        if batch:
            await self._client.upsert(target, batch)

    async def _scroll(
        self,
        name: str,
        condition: models.Filter,
        *,
        with_vectors: bool = False,
        with_payload: bool | list[str] = True,
    ) -> AsyncIterator[models.Record]:
        offset: Any = None
        while True:
            records, offset = await self._client.scroll(
                name,
                condition,
                limit=_SCROLL_POINTS,
                offset=offset,
                with_vectors=with_vectors,
                with_payload=with_payload,
                consistency=self._options.consistency,
            )
            for record in records:
                yield record
            if offset is None:
                return


def _live(index: str) -> str:
    return PREFIX + index


def _staged(index: str) -> str:
    return f"{PREFIX}{index}--staged"
