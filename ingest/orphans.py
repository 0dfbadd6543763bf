"""Proves that nothing of a deleted document is left in any store, and that nothing of the others is missing.

Objects, chunks and rows are compared with what the database says of the documents. It is asked before and after a store is
listed, and only what neither answer knows is an orphan, so that work that goes on meanwhile is none.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import IntEnum

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.batches import table_key
from ingest.catalog import object_keys
from ingest.database import Database
from ingest.index.chunk_index import ChunkIndex, StoredVersion
from ingest.storage import Storage
from ingest.tables import VERSION_IS_LIVE, copies, discarded, documents, jobs, of_tenant, reindexings, runs, versions
from mesh.access.tenants import tenant_of
from mesh.names import collection_id, collection_name, document_ids, document_name


class OrphanKind(IntEnum):
    """Numbered as in the contract."""

    OBJECT = 1
    CHUNKS = 2
    ROW = 3
    MISSING_OBJECT = 4
    MISSING_CHUNKS = 5
    INDEX = 6


@dataclass(frozen=True)
class Orphan:
    """What belongs to no document, or what a document lacks. `amount` is in bytes, chunks or rows, by kind.

    `name` is an object's key, or a document's or a collection's resource name; `version` is set for chunks, rows and indexes.
    Chunks are in the index `index_version`, or in any where that is empty.
    """

    kind: OrphanKind
    name: str
    version: str
    amount: int
    index_version: str = ""

    @property
    def removable(self) -> bool:
        """Whether removing it loses nothing."""
        return self.kind in (OrphanKind.OBJECT, OrphanKind.CHUNKS, OrphanKind.ROW, OrphanKind.INDEX)


@dataclass
class Looked:
    """How much was looked at."""

    documents: int = 0
    objects: int = 0
    versions: int = 0


@dataclass(frozen=True)
class Known:
    """What the database says is there: objects; versions with their chunks, None while these are on their way."""

    keys: set[str]
    wanted_keys: set[str]
    chunks: dict[tuple[str, str], int | None]
    documents: int


@dataclass
class Orphans:
    """A search through all that the stores hold of a tenant, once, made in one of its calls."""

    database: Database
    storage: Storage
    index: ChunkIndex
    tenant: str
    minimum_age_s: float
    """Younger objects are let alone: an upload keeps its file before the database knows of it."""
    looked: Looked = field(default_factory=Looked)

    async def find(self) -> AsyncIterator[Orphan]:
        """All of them."""
        before = await self._known()
        self.looked.documents = before.documents
        async for orphan in self._objects(before):
            yield orphan
        async for orphan in self._chunks(before):
            yield orphan
        async for orphan in self._indexes():
            yield orphan
        for orphan in await self._rows():
            yield orphan

    async def remove(self, orphan: Orphan) -> None:
        """Removes what belongs to no document."""
        if orphan.kind == OrphanKind.OBJECT:
            await self.storage.delete([orphan.name])
        elif orphan.kind == OrphanKind.CHUNKS:
            collection, _ = document_ids(orphan.name)
            await self.index.delete_version(collection, orphan.name, orphan.version, orphan.index_version)
        elif orphan.kind == OrphanKind.INDEX:
            await self.index.drop_index(collection_id(orphan.name), orphan.version)
        elif orphan.kind == OrphanKind.ROW:
            collection, document = document_ids(orphan.name)
            async with self.database.write(collection) as connection:
                mine = sa.and_(versions.c.collection == collection, versions.c.document == document)
                await connection.execute(versions.delete().where(mine, versions.c.id == orphan.version))

    async def _objects(self, before: Known) -> AsyncIterator[Orphan]:
        listed = {item.key: item async for item in self.storage.list() if _owner(item.key) == self.tenant}
        after = await self._known()
        self.looked.objects = len(listed)
        for key, item in sorted(listed.items()):
            if key not in before.keys and key not in after.keys and item.age_s >= self.minimum_age_s:
                yield Orphan(OrphanKind.OBJECT, key, "", item.size_bytes)
        for key in sorted((before.wanted_keys & after.wanted_keys) - listed.keys()):
            yield Orphan(OrphanKind.MISSING_OBJECT, key, "", 1)

    async def _chunks(self, before: Known) -> AsyncIterator[Orphan]:
        collections = set(await self.index.collections())
        stored: dict[tuple[str, str], StoredVersion] = {}
        for collection in sorted(collections):
            async for found in self.index.stored(collection):
                stored[found.document, found.version] = found
        after = await self._known()
        self.looked.versions = len(stored)
        for identity, found in stored.items():
            if identity not in before.chunks and identity not in after.chunks:
                yield Orphan(OrphanKind.CHUNKS, *identity, found.live_chunks + found.staged_chunks)
        for identity, wanted in before.chunks.items():
            there = stored[identity].live_chunks if identity in stored else 0
            if wanted is not None and after.chunks.get(identity) == wanted and there < wanted:
                yield Orphan(OrphanKind.MISSING_CHUNKS, *identity, wanted - there)

    async def _indexes(self) -> AsyncIterator[Orphan]:
        """Indexes beside the live ones that nobody builds or keeps, and what stands in the others besides documents."""
        for collection in sorted(await self.index.collections()):
            before = await self._copied(collection)
            found = await self.index.indexes(collection)
            beside = [index for index in (found.building, found.previous) if index is not None]
            stored = {
                (index.version, each.document, each.version): each.live_chunks + each.staged_chunks
                for index in beside
                for each in [each async for each in self.index.stored(collection, index.version)]
            }
            known = before | await self._copied(collection)
            versions_known = {identity[0] for identity in known}
            for index in beside:
                if index.version not in versions_known:
                    yield Orphan(OrphanKind.INDEX, collection_name(collection), index.version, 1)
            for identity, amount in stored.items():
                if identity[0] in versions_known and identity not in known:
                    yield Orphan(OrphanKind.CHUNKS, identity[1], identity[2], amount, index_version=identity[0])

    async def _copied(self, collection: str) -> set[tuple[str, str, str]]:
        """Versions of documents that may stand in indexes beside the live one; the indexes themselves have an empty one."""
        theirs = sa.and_(documents.c.collection == copies.c.collection, documents.c.id == copies.c.document)
        rows = sa.select(copies.c.index_version, copies.c.document, copies.c.version).join(documents, theirs)
        kept = sa.select(copies.c.index_version).distinct().where(copies.c.collection == collection)
        going = sa.select(reindexings.c.index_version, reindexings.c.former_version)
        async with self.database.read() as connection:
            found = (await connection.execute(rows.where(copies.c.collection == collection))).all()
            indexes = set((await connection.execute(kept)).scalars())
            for row in await connection.execute(going.where(reindexings.c.collection == collection)):
                indexes |= {row.index_version, row.former_version}
        named = {(row.index_version, document_name(collection, row.document), row.version) for row in found}
        return named | {(version, "", "") for version in indexes}

    async def _rows(self) -> list[Orphan]:
        """Versions of documents that are not there: one transaction removes both, so there should never be any."""
        theirs = sa.and_(documents.c.collection == versions.c.collection, documents.c.id == versions.c.document)
        query = sa.select(versions.c.collection, versions.c.document, versions.c.id).where(~sa.exists().where(theirs))
        query = query.where(of_tenant(versions.c.collection, self.tenant))
        async with self.database.read() as connection:
            rows = await connection.execute(query)
            return [Orphan(OrphanKind.ROW, document_name(row.collection, row.document), row.id, 1) for row in rows]

    async def _known(self) -> Known:
        async with self.database.read() as connection:
            return await known(connection, self.tenant)


async def known(connection: AsyncConnection, tenant: str | None) -> Known:
    """As the database is now, of one tenant or of all."""
    described = sa.select(
        versions.c.collection, versions.c.document, versions.c.id, versions.c.raw_key, versions.c.text_key,
        versions.c.chunk_count, documents.c.id.is_not(None).label("live"),
    ).outerjoin(documents, VERSION_IS_LIVE)  # fmt: skip
    on_their_way = sa.select(jobs.c.collection, jobs.c.document, jobs.c.version).join(runs, runs.c.id == jobs.c.run)
    how_many = sa.select(sa.func.count()).select_from(documents)
    if tenant is not None:
        described = described.where(of_tenant(versions.c.collection, tenant))
        on_their_way = on_their_way.where(of_tenant(jobs.c.collection, tenant))
        how_many = how_many.where(of_tenant(documents.c.collection, tenant))
    rows = (await connection.execute(described)).all()
    going = (await connection.execute(on_their_way)).all()
    waiting = (await connection.execute(sa.select(runs.c.id))).scalars().all()
    deleted = (await connection.execute(sa.select(discarded.c.key))).scalars().all()
    counted = (await connection.execute(how_many)).scalar_one()
    kept = {key for row in rows for key in object_keys(row.raw_key, row.text_key)}
    wanted = {key for row in rows if row.live for key in (row.raw_key, row.text_key)}
    chunks: dict[tuple[str, str], int | None] = {
        (document_name(row.collection, row.document), row.version): None for row in going
    }
    chunks |= {(document_name(row.collection, row.document), row.id): row.chunk_count for row in rows if row.live}
    keys = kept.union(deleted, map(table_key, waiting))
    return Known(keys, wanted - {""}, chunks, counted)


def _owner(key: str) -> str:
    """Whose an object is: `raw/acme.notes/…` is acme's. What belongs to no collection is the default tenant's to look after."""
    return tenant_of(key.partition("/")[2])
