"""Collections: names that people use, each standing for one physical index made with one embedder and one chunking."""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mesh import logs
from mesh.errors import AlreadyExists, InvalidInput, MurpheyError, NotFound
from mesh.names import DEFAULT_COLLECTION
from retriever.batching import EmbeddingQueue
from retriever.catalog import Catalog, CollectionRecord
from retriever.chunks import MetadataValue
from retriever.filters import MAX_FIELDS, Fields
from retriever.named_embedders import NamedEmbedders
from retriever.sparse import DEFAULT_LANGUAGE, words_of
from retriever.stores.base import Counts, Store

log = logs.get(__name__)

DEFAULT_CHUNK_TOKENS, DEFAULT_OVERLAP_TOKENS = 240, 32
MIN_CHUNK_TOKENS = 16
_INDEX_FORMAT = 1
"""Counts up when chunks are stored or weighed otherwise, so that an old index is never searched as a new one."""


@dataclass(frozen=True, slots=True)
class NewCollection:
    """What its maker says of a collection; empty, 0 and None mean the defaults."""

    id: str
    embedder: str = ""
    chunk_tokens: int = 0
    overlap_tokens: int | None = None
    language: str = ""


class Collections:
    """The collections of this retriever."""

    def __init__(self, catalog: Catalog, store: Store, embedders: NamedEmbedders) -> None:
        self._catalog, self._store, self._embedders = catalog, store, embedders
        self._records: dict[str, CollectionRecord] = {}
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        """Reads the catalog and sees to it that the default collection exists."""
        self._records = await self._catalog.load()
        for record in self._records.values():
            try:
                await self._store.create_index(record.index, record.dimensions)
            except MurpheyError as error:  # the other collections can still be searched
                log.error("index_unusable", collection=record.id, index=record.index, error=error.message)
        if DEFAULT_COLLECTION not in self._records:
            await self.create(NewCollection(DEFAULT_COLLECTION))

    async def create(self, new: NewCollection) -> CollectionRecord:
        """The collection, made unless it is there. AlreadyExists when one of that name has other settings."""
        record = await self._planned(new)
        async with self._lock:
            self._records = await self._catalog.load()
            there = self._records.get(new.id)
            if there is not None:
                _check_same(there, record)
                return there
            await self._store.create_index(record.index, record.dimensions)
            await self._catalog.put(record)
            self._records[record.id] = record
            log.info("collection_created", collection=record.id, index=record.index)
            return record

    async def get(self, collection: str) -> CollectionRecord:
        """NotFound when there is none; asks the catalog again first, for another replica may have made it."""
        if collection not in self._records:
            self._records = await self._catalog.load()
        try:
            return self._records[collection]
        except KeyError:
            known = ", ".join(sorted(self._records)[:20])
            raise NotFound(
                f"There is no collection {collection!r}. Create it first, or use one of: {known}.", field="collection"
            ) from None

    async def usable(self, collection: str) -> tuple[CollectionRecord, EmbeddingQueue]:
        """The collection with the embedder that it was made with; FailedPrecondition when this retriever has none such."""
        record = await self.get(collection)
        return record, await self._embedders.of_index(record.embedder, record.embedder_version, collection)

    async def list(self, after: str, size: int) -> list[CollectionRecord]:
        """The next `size` by id."""
        self._records = await self._catalog.load()
        return [self._records[key] for key in sorted(self._records) if key > after][:size]

    async def delete(self, collection: str) -> None:
        """With all its chunks; nothing happens when there is none."""
        async with self._lock:
            self._records = await self._catalog.load()
            record = self._records.pop(collection, None)
            if record is None:
                return
            await self._catalog.remove(collection)
            await self._store.drop_index(record.index)
            log.info("collection_deleted", collection=collection)

    async def counts(self, record: CollectionRecord) -> Counts:
        """Chunks of a collection."""
        return await self._store.count(record.index)

    async def learn_fields(self, collection: str, metadata: Sequence[Mapping[str, MetadataValue]]) -> None:
        """Indexes metadata keys that were not seen before, so that they can be filtered."""
        seen = self._records[collection].fields
        fields = _with_all(seen, metadata)
        if fields is seen:
            return
        async with self._lock:
            record = (await self._catalog.load())[collection]
            fields = _with_all(record.fields, metadata)
            if len(fields.kinds) > MAX_FIELDS:
                raise InvalidInput(
                    f"The collection {collection!r} would have {len(fields.kinds)} metadata keys; {MAX_FIELDS} is the most.",
                    field="chunks.metadata",
                )
            await self._store.add_fields(record.index, fields.minus(record.fields))
            self._records[collection] = replace(record, fields=fields)
            await self._catalog.put(self._records[collection])

    async def _planned(self, new: NewCollection) -> CollectionRecord:
        embedder = (await self._embedders.queue(new.embedder, "collection.embedder")).embedder
        chunk_tokens, overlap_tokens = _chunking(new, embedder.max_tokens)
        language = (new.language or DEFAULT_LANGUAGE).lower()
        words_of(language)
        parts = (embedder.name, embedder.version, chunk_tokens, overlap_tokens, language, _INDEX_FORMAT)
        version = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", str(part))[-48:] for part in parts)
        return CollectionRecord(
            id=new.id,
            embedder=embedder.name,
            embedder_version=embedder.version,
            dimensions=embedder.dimensions,
            max_tokens=embedder.max_tokens,
            chunk_tokens=chunk_tokens,
            overlap_tokens=overlap_tokens,
            language=language,
            index=f"{new.id}--{version}",
            created=datetime.now(UTC),
        )


def _chunking(new: NewCollection, window: int) -> tuple[int, int]:
    tokens = new.chunk_tokens or min(DEFAULT_CHUNK_TOKENS, window)
    if not MIN_CHUNK_TOKENS <= tokens <= window:
        raise InvalidInput(
            f"chunk_tokens is {tokens}; it must be {MIN_CHUNK_TOKENS} to {window}, the embedder's window.",
            field="collection.chunking.chunk_tokens",
        )
    overlap = min(DEFAULT_OVERLAP_TOKENS, tokens // 2) if new.overlap_tokens is None else new.overlap_tokens
    if not 0 <= overlap <= tokens // 2:
        raise InvalidInput(
            f"overlap_tokens is {overlap}; it must be 0 to {tokens // 2}, half of chunk_tokens.",
            field="collection.chunking.overlap_tokens",
        )
    return tokens, overlap


def _check_same(there: CollectionRecord, wanted: CollectionRecord) -> None:
    differing = [
        f"{name} {getattr(there, name)!r}, not {getattr(wanted, name)!r}"
        for name in ("embedder", "chunk_tokens", "overlap_tokens", "language")
        if getattr(there, name) != getattr(wanted, name)
    ]
    if differing:
        raise AlreadyExists(
            f"The collection {there.id!r} exists with {'; '.join(differing)}. Use another name, or delete it first."
        )


def _with_all(fields: Fields, metadata: Iterable[Mapping[str, MetadataValue]]) -> Fields:
    last = None
    for each in metadata:
        if each is not last:  # the chunks of a document often share theirs
            fields, last = fields.adding(each), each
    return fields
