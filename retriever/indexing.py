"""Writes chunks: embeds those that come without a vector, weighs their words, stores, publishes and deletes them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retriever.chunks import Chunk, Description, DocumentVersion, text_to_index
from retriever.collections import Collections
from retriever.embedding import Purpose
from retriever.sparse import SparseVector, words_of
from retriever.stores.base import Counts, IndexedChunk, Selection, Store


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
    ) -> Stored:
        """All or none. `vectors` holds None for a chunk that is to be embedded here, unless its twin, by id, has a vector."""
        record, embedding = await self._collections.usable(collection)
        vectors = await self._from_twins(record.index, chunks, vectors, twins)
        missing = [row for row, vector in enumerate(vectors) if vector is None]
        texts = [text_to_index(chunks[row]) for row in missing]
        embedded = await embedding.embed(texts, Purpose.DOCUMENT)
        dense: list[Sequence[float]] = [vector if vector is not None else () for vector in vectors]
        for row, vector in zip(missing, embedded, strict=True):
            dense[row] = vector  # pyright: ignore[reportArgumentType] - a row of numbers
        sparse = await asyncio.to_thread(_weigh, chunks, record.language)
        await self._collections.learn_fields(collection, [chunk.metadata for chunk in chunks])
        items = [IndexedChunk(*parts) for parts in zip(chunks, dense, sparse, strict=True)]
        await self._store.upsert(record.index, items, staged=staged)
        embedding.stored(texts)
        return Stored(len(chunks), len(missing), record.index_version)

    async def stored(self, collection: str) -> Mapping[DocumentVersion, Counts]:
        """Every version that has chunks."""
        record = await self._collections.get(collection)
        return await self._store.stored(record.index)

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

    async def publish(self, collection: str, versions: Sequence[DocumentVersion]) -> int:
        """Makes these versions the ones that searches find; returns how many chunks of others were removed."""
        record = await self._collections.get(collection)
        return await self._store.publish(record.index, versions)

    async def describe(self, collection: str, descriptions: Sequence[Description]) -> int:
        """Gives live versions other metadata; returns how many chunks have it now."""
        record = await self._collections.get(collection)
        await self._collections.learn_fields(collection, [description.metadata for description in descriptions])
        return await self._store.describe(record.index, descriptions)

    async def delete(self, collection: str, selection: Selection) -> int:
        """Returns how many chunks there were."""
        record = await self._collections.get(collection)
        return await self._store.delete(record.index, selection)


def unit(vector: Sequence[float]) -> Sequence[float]:
    """The vector at length 1, as the store keeps it."""
    values = np.asarray(vector, np.float32)
    return values / np.linalg.norm(values)  # pyright: ignore[reportReturnType] - a row of numbers


def _weigh(chunks: Sequence[Chunk], language: str) -> list[SparseVector]:
    words = words_of(language)
    return [words.of_document(text_to_index(chunk)) for chunk in chunks]
