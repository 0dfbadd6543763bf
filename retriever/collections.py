"""Collections: names that people use, each standing for one physical index made with one embedder and one chunking.

How an index is built beside that one, and takes its place, is in building.py.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mesh import logs
from mesh.access.tenants import public, tenant_of
from mesh.errors import AlreadyExists, FailedPrecondition, InvalidInput, MurpheyError, NotFound
from mesh.names import DEFAULT_COLLECTION
from retriever.batching import EmbeddingQueue
from retriever.catalog import Catalog, CollectionRecord, Splitter
from retriever.chunks import MetadataValue
from retriever.embedding import Embedder
from retriever.filters import MAX_FIELDS, Fields
from retriever.named_embedders import NamedEmbedders
from retriever.sparse import AUTO, DEFAULT_LANGUAGE, words_of
from retriever.stores.base import Counts, Store

log = logs.get(__name__)

DEFAULT_CHUNK_TOKENS, DEFAULT_OVERLAP_TOKENS = 240, 32
MIN_CHUNK_TOKENS = 16
REFRESH_S = 5.0
"""For so long another replica's change of a collection may go unseen."""
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
    splitter: Splitter | None = None


class Collections:
    """The collections of this retriever."""

    def __init__(self, catalog: Catalog, store: Store, embedders: NamedEmbedders) -> None:
        self._catalog, self._store, self._embedders = catalog, store, embedders
        self._records: dict[str, CollectionRecord] = {}
        self._lock = asyncio.Lock()
        self._loaded_s = 0.0

    async def open(self) -> None:
        """Reads the catalog and sees to it that the default collection exists."""
        self._records = await self._catalog.load()
        for record in [index for known in self._records.values() for index in known.indexes]:
            try:
                await self._store.create_index(record.index, record.dimensions)
            except MurpheyError as error:  # the other collections can still be searched
                log.error("index_unusable", collection=record.id, index=record.index, error=error.message)
        if DEFAULT_COLLECTION not in self._records:
            await self.create(NewCollection(DEFAULT_COLLECTION))

    async def warm(self) -> None:
        """Loads the embedders that collections need, so that no search waits for it."""
        for record in self._records.values():
            try:
                await self._embedders.of_index(record.embedder, record.embedder_version, record.id)
            except MurpheyError as error:
                log.error("embedder_missing", collection=record.id, embedder=record.embedder, error=error.message)

    async def create(self, new: NewCollection) -> CollectionRecord:
        """The collection, made unless it is there. AlreadyExists when one of that name has other settings."""
        record = planned(new, (await self._embedders.queue(new.embedder, "collection.embedder")).embedder)
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
        """NotFound when there is none; asks the catalog again first, and now and then, for other replicas change it too."""
        if collection not in self._records:
            await self._reload()
            if collection not in self._records and _is_tenants_default(collection):
                return await self.create(NewCollection(collection))
        elif time.monotonic() - self._loaded_s > REFRESH_S and not self._lock.locked():
            async with self._lock:
                with contextlib.suppress(MurpheyError):
                    await self._reload()
        return self._known(collection)

    def _known(self, collection: str) -> CollectionRecord:
        """As it was last seen. NotFound for one that has been deleted, be it while a call of its was under way."""
        try:
            return self._records[collection]
        except KeyError:
            raise self._unknown(collection) from None

    def _unknown(self, collection: str) -> NotFound:
        theirs = [key for key in sorted(self._records) if tenant_of(key) == tenant_of(collection)]
        known = ", ".join(map(public, theirs[:20]))
        return NotFound(
            f"There is no collection {public(collection)!r}. Create it first, or use one of: {known}.",
            field="collection",
        )

    async def usable(self, collection: str, index_version: str = "") -> tuple[CollectionRecord, EmbeddingQueue]:
        """The collection's live index, or the one of that version, with the embedder that it was made with.

        FailedPrecondition when this retriever has none such, or when the index is neither live nor being built.
        """
        record = await self.index(collection, index_version)
        return record, await self._embedders.of_index(record.embedder, record.embedder_version, collection)

    async def index(self, collection: str, index_version: str) -> CollectionRecord:
        """One of the collection's indexes, the live one for an empty version; FailedPrecondition for one that is neither
        live nor being built."""
        record = await self.get(collection)
        if index_version not in ("", record.index_version):
            await self._reload()  # another replica may have built or swapped it
            record = self._known(collection)
        open_ones = [record, *([record.building] if record.building else [])]
        for index in open_ones:
            if index_version in ("", index.index_version):
                return index
        raise FailedPrecondition(
            f"The index {index_version} of {public(collection)!r} is not in use any more; {record.index_version} is.",
            field="index_version",
        )

    async def check_index(self, tenant: str, index: str) -> None:
        """NotFound unless it is an index of one of the tenant's collections: a store takes a name for that of a folder."""
        if not self._has_index(tenant, index):
            await self._reload()
            if not self._has_index(tenant, index):
                raise NotFound(f"The tenant {tenant} has no index {index[:200]!r}.", field="index")

    def _has_index(self, tenant: str, index: str) -> bool:
        theirs = (record for key, record in self._records.items() if tenant_of(key) == tenant)
        return any(index == known.index for record in theirs for known in record.indexes)

    async def update(
        self, collection: str, change: Callable[[CollectionRecord], Awaitable[CollectionRecord]]
    ) -> CollectionRecord:
        """Changes what is known of a collection, one change at a time. NotFound when there is none."""
        async with self._lock:
            await self._reload()
            changed = await change(self._known(collection))
            await self._catalog.put(changed)
            self._records[collection] = changed
            return changed

    async def _reload(self) -> None:
        self._loaded_s = time.monotonic()
        self._records = await self._catalog.load()

    async def list(self, tenant: str, after: str, size: int) -> list[CollectionRecord]:
        """The next `size` of a tenant, by id."""
        self._records = await self._catalog.load()
        theirs = [key for key in sorted(self._records) if tenant_of(key) == tenant and key > after]
        return [self._records[key] for key in theirs[:size]]

    async def delete(self, collection: str, *, force: bool = False) -> None:
        """Nothing happens when there is none. FailedPrecondition while it holds chunks, unless these shall go with it."""
        async with self._lock:
            self._records = await self._catalog.load()
            record = self._records.get(collection)
            if record is None:
                return
            if not force:
                await self._check_empty(record)
            del self._records[collection]
            await self._catalog.remove(collection)
            for index in record.indexes:
                await self._store.drop_index(index.index)
            log.info("collection_deleted", collection=collection)

    async def _check_empty(self, record: CollectionRecord) -> None:
        """The documents are ingest's: without their chunks it would go on to list them, and nothing would find them."""
        counted = [await self.counts(index) for index in record.indexes]
        if chunks := sum(counts.live + counts.staged for counts in counted):
            raise FailedPrecondition(
                f"The collection {public(record.id)!r} holds {chunks} chunks of documents. Delete these first: "
                f"`murphey documents delete --all --collection {public(record.id)}`. Or say force, if no ingest service has "
                "them."
            )

    async def counts(self, record: CollectionRecord) -> Counts:
        """Chunks of a collection."""
        return await self._store.count(record.index)

    async def learn_fields(self, collection: str, metadata: Sequence[Mapping[str, MetadataValue]]) -> None:
        """Indexes metadata keys that were not seen before, so that they can be filtered."""
        seen = self._known(collection).fields
        fields = _with_all(seen, metadata)
        if fields is seen:
            return
        async with self._lock:
            await self._reload()
            record = self._known(collection)
            fields = _with_all(record.fields, metadata)
            if len(fields.kinds) > MAX_FIELDS:
                raise InvalidInput(
                    f"The collection {public(collection)!r} would have {len(fields.kinds)} metadata keys; {MAX_FIELDS} is "
                    "the most.",
                    field="chunks.metadata",
                )
            for index in record.indexes:
                await self._store.add_fields(index.index, fields.minus(record.fields))
            self._records[collection] = replace(record, fields=fields)
            await self._catalog.put(self._records[collection])

    async def learn_languages(self, collection: str, languages: Collection[str]) -> None:
        """Keeps the languages that documents were found in, so that questions are read in them, where these vary."""
        record = self._known(collection)
        if record.language != AUTO or set(languages) <= set(record.languages):
            return

        async def change(record: CollectionRecord) -> CollectionRecord:
            return replace(record, languages=tuple(sorted({*record.languages, *languages})))

        await self.update(collection, change)


def _is_tenants_default(collection: str) -> bool:
    """The one that a tenant has as soon as it asks; that of the default tenant is made at the start."""
    return public(collection) == DEFAULT_COLLECTION != collection


def planned(new: NewCollection, embedder: Embedder) -> CollectionRecord:
    """The record of a new index. InvalidInput for settings that do not fit the embedder."""
    chunk_tokens, overlap_tokens = _chunking(new, embedder.max_tokens)
    splitter = new.splitter or Splitter.STRUCTURE
    language = (new.language or DEFAULT_LANGUAGE).lower()
    if language != AUTO:
        words_of(language)
    parts = [embedder.name, embedder.version, chunk_tokens, overlap_tokens, language, _INDEX_FORMAT]
    parts += [splitter] if splitter is not Splitter.STRUCTURE else []
    version = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", str(part))[-48:] for part in parts)
    return CollectionRecord(
        id=new.id,
        embedder=embedder.name,
        embedder_version=embedder.version,
        dimensions=embedder.dimensions,
        chunk_tokens=chunk_tokens,
        overlap_tokens=overlap_tokens,
        language=language,
        index=f"{new.id}--{version}",
        created=datetime.now(UTC),
        splitter=splitter,
        max_tokens=embedder.max_tokens,
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
        for name in ("embedder", "chunk_tokens", "overlap_tokens", "language", "splitter")
        if getattr(there, name) != getattr(wanted, name)
    ]
    if differing:
        raise AlreadyExists(
            f"The collection {public(there.id)!r} exists with {'; '.join(differing)}. Use another name, or delete it first."
        )


def _with_all(fields: Fields, metadata: Iterable[Mapping[str, MetadataValue]]) -> Fields:
    last = None
    for each in metadata:
        if each is not last:  # the chunks of a document often share theirs
            fields, last = fields.adding(each), each
    return fields
