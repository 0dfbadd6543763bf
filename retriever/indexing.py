"""Writes chunks: embeds those that come without a vector, weighs their words, stores, publishes and deletes them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retriever.catalog import CollectionRecord
from retriever.chunks import Chunk, Description, DocumentVersion, text_to_index
from retriever.collections import Collections
from retriever.embedding import Purpose
from retriever.languages import weigh
from retriever.stores.base import Counts, IndexedChunk, Selection, Store, Window


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upsert did."""

    stored: int
    embedded: int
    index_version: str


class Indexer:
    """The retriever's writing side."""

    def __init__(self, collections: Collections, store: Store) -> None:
        self._collections, self._store = collections, store

    async def upsert(
        self,
        collection: str,
        chunks: Sequence[Chunk],
        vectors: Sequence[Sequence[float] | None],
        *,
        staged: bool,
        twins: Sequence[str] = (),
        index_version: str = "",
        reuse: Sequence[Window] = (),
    ) -> Stored:
        """All or none. `vectors` holds None for a chunk that is to be embedded here, unless its twin, by id, or a chunk of the
        live index in `reuse` that reads the same has a vector."""
        record, embedding = await self._collections.usable(collection, index_version)
        vectors = await self._from_twins(record.index, chunks, vectors, twins)
        vectors = await self._from_live(collection, record, chunks, vectors, reuse)
        missing = [row for row, vector in enumerate(vectors) if vector is None]
        texts = [text_to_index(chunks[row]) for row in missing]
        embedded = await embedding.embed(texts, Purpose.DOCUMENT)
        dense: list[Sequence[float]] = [vector if vector is not None else () for vector in vectors]
        for row, vector in zip(missing, embedded, strict=True):
            dense[row] = vector  # pyright: ignore[reportArgumentType] - a row of numbers
        sparse, languages = await asyncio.to_thread(weigh, chunks, record.language)
        await self._collections.learn_languages(collection, languages)
        await self._collections.learn_fields(collection, [chunk.metadata for chunk in chunks])
        items = [IndexedChunk(*parts) for parts in zip(chunks, dense, sparse, strict=True)]
        await self._store.upsert(record.index, items, staged=staged)
        embedding.stored(texts)
        return Stored(len(chunks), len(missing), record.index_version)

    async def stored(self, collection: str, index_version: str = "") -> Mapping[DocumentVersion, Counts]:
        """Every version that has chunks in an index of the collection, the live one by default; none where it is gone."""
        record = await self._collections.get(collection)
        for index in record.indexes:
            if index_version in ("", index.index_version):
                return await self._store.stored(index.index)
        return {}

    async def _from_twins(
        self, index: str, chunks: Sequence[Chunk], vectors: Sequence[Sequence[float] | None], twins: Sequence[str]
    ) -> Sequence[Sequence[float] | None]:
        """The vectors, with those of chunks that read the same filled in."""
        wanted = {twin for twin, vector in zip(twins, vectors, strict=False) if twin and vector is None}
        if not wanted:
            return vectors
        found = await self._store.vectors(index, sorted(wanted))
        filled = list(vectors)
        for row, (chunk, twin) in enumerate(zip(chunks, twins, strict=True)):
            if filled[row] is None and twin in found and text_to_index(found[twin][0]) == text_to_index(chunk):
                filled[row] = found[twin][1]
        return filled

    async def _from_live(
        self,
        collection: str,
        record: CollectionRecord,
        chunks: Sequence[Chunk],
        vectors: Sequence[Sequence[float] | None],
        reuse: Sequence[Window],
    ) -> Sequence[Sequence[float] | None]:
        """The vectors, with those of live chunks that read the same, whatever their number in their document."""
        wanted = {text_to_index(chunk) for chunk, vector in zip(chunks, vectors, strict=True) if vector is None}
        live = await self._collections.get(collection)
        same_embedder = (live.embedder, live.embedder_version) == (record.embedder, record.embedder_version)
        if not wanted or not reuse or not same_embedder:
            return vectors
        around = await self._store.neighbors(live.index, reuse)
        ids = {
            chunk.id: text for found in around.values() for chunk in found if (text := text_to_index(chunk)) in wanted
        }
        if not ids:
            return vectors
        by_text = {ids[key]: found[1] for key, found in (await self._store.vectors(live.index, sorted(ids))).items()}
        return [
            by_text.get(text_to_index(chunk)) if vector is None else vector
            for chunk, vector in zip(chunks, vectors, strict=True)
        ]

    async def publish(self, collection: str, versions: Sequence[DocumentVersion], index_version: str = "") -> int:
        """Makes these versions the ones that searches find; returns how many chunks of others were removed."""
        record = await self._collections.index(collection, index_version)
        return await self._store.publish(record.index, versions)

    async def describe(self, collection: str, descriptions: Sequence[Description]) -> int:
        """Gives live versions other metadata in every index; returns how many chunks of the live one have it now."""
        record = await self._collections.get(collection)
        await self._collections.learn_fields(collection, [description.metadata for description in descriptions])
        updated = [await self._store.describe(index.index, descriptions) for index in record.indexes]
        return updated[0]

    async def delete(self, collection: str, selection: Selection, index_version: str = "") -> int:
        """In one index of the collection, or in all; returns how many chunks the live one had, or the one that was named."""
        record = await self._collections.get(collection)
        chosen = [index for index in record.indexes if index_version in ("", index.index_version)]
        deleted = [await self._store.delete(index.index, selection) for index in chosen]
        return deleted[0] if deleted else 0


def unit(vector: Sequence[float]) -> Sequence[float]:
    """The vector at length 1, as the store keeps it."""
    values = np.asarray(vector, np.float32)
    return values / np.linalg.norm(values)  # pyright: ignore[reportReturnType] - a row of numbers
