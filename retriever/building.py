"""An index that is built beside the live one of a collection, and takes its place; the one before is kept, to go back to.

What fills it is the caller's matter. Until it is swapped in no search sees it; the swap is one write of the catalog.
"""

from dataclasses import dataclass, replace

from mesh import logs
from mesh.access.tenants import public
from mesh.errors import FailedPrecondition
from retriever.catalog import CollectionRecord, Splitter
from retriever.collections import Collections, NewCollection, planned
from retriever.named_embedders import NamedEmbedders
from retriever.stores.base import Store

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class NewIndex:
    """What shall differ from the live index; empty, 0 and None mean the same as there. `previous` asks for the one before."""

    embedder: str = ""
    chunk_tokens: int = 0
    overlap_tokens: int | None = None
    splitter: Splitter | None = None
    previous: bool = False


class Building:
    """Begins, swaps in and drops indexes."""

    def __init__(self, collections: Collections, store: Store, embedders: NamedEmbedders) -> None:
        self._collections, self._store, self._embedders = collections, store, embedders

    async def begin(self, collection: str, wanted: NewIndex) -> CollectionRecord:
        """The collection with the index being built, or without one where the live index is as wanted.

        FailedPrecondition while another one is being built, or when there is no previous one.
        """
        target = await self._wanted(await self._collections.get(collection), wanted)

        async def change(record: CollectionRecord) -> CollectionRecord:
            if target.index == record.index:
                return record
            building, previous = record.building, record.previous
            if building is not None and building.index != target.index:
                raise FailedPrecondition(
                    f"The index {building.index_version} of {public(collection)!r} is being built. Let it end, or cancel its "
                    "job."
                )
            if previous is not None and previous.index == target.index:
                return replace(record, building=previous, previous=None)
            await self._store.create_index(target.index, target.dimensions)
            await self._store.add_fields(target.index, record.fields.minus(target.fields))
            log.info("index_begun", collection=collection, index=target.index)
            return replace(record, building=building or target)

        return await self._collections.update(collection, change)

    async def swap(self, collection: str, index_version: str) -> CollectionRecord:
        """The collection with that index as the live one."""
        dropped: list[CollectionRecord] = []

        async def change(record: CollectionRecord) -> CollectionRecord:
            building = record.building
            if record.index_version == index_version:
                return record
            if building is None or building.index_version != index_version:
                raise FailedPrecondition(f"The index {index_version} of {public(collection)!r} is not being built.")
            dropped.extend([record.previous] if record.previous else [])
            previous = replace(record, building=None, previous=None)
            known = {"fields": record.fields, "languages": record.languages, "created": record.created}
            return replace(building, **known, building=None, previous=previous)

        swapped = await self._collections.update(collection, change)
        for index in dropped:
            await self._store.drop_index(index.index)
        log.info("index_swapped", collection=collection, index=swapped.index)
        return swapped

    async def drop(self, collection: str, index_version: str, *, keep: bool = False) -> CollectionRecord:
        """The collection without that index, or with it as the previous one. FailedPrecondition for the live one."""
        dropped: list[CollectionRecord] = []

        async def change(record: CollectionRecord) -> CollectionRecord:
            if record.index_version == index_version:
                raise FailedPrecondition(
                    f"The index {index_version} of {public(collection)!r} is live; it cannot be dropped."
                )
            building, previous = record.building, record.previous
            if building is not None and building.index_version == index_version:
                dropped.extend([] if keep else [building])
                return replace(record, building=None, previous=building if keep and previous is None else previous)
            if previous is not None and previous.index_version == index_version and not keep:
                dropped.append(previous)
                return replace(record, previous=None)
            return record

        left = await self._collections.update(collection, change)
        for index in dropped:  # after it was taken from the catalog, so that a crash leaves no half index in use
            await self._store.drop_index(index.index)
        return left

    async def _wanted(self, record: CollectionRecord, wanted: NewIndex) -> CollectionRecord:
        if wanted.previous:
            kept = record.previous or record.building
            if kept is None:
                raise FailedPrecondition(f"No index of {public(record.id)!r} before the live one is kept.")
            return kept
        embedder = (await self._embedders.queue(wanted.embedder or record.embedder)).embedder
        tokens = wanted.chunk_tokens or min(record.chunk_tokens, embedder.max_tokens)
        overlap = min(record.overlap_tokens, tokens // 2) if wanted.overlap_tokens is None else wanted.overlap_tokens
        splitter = wanted.splitter or record.splitter
        new = NewCollection(record.id, embedder.name, tokens, overlap, record.language, splitter)
        return planned(new, embedder)
