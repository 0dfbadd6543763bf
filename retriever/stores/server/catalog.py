"""The catalog on a Qdrant server, where all replicas of the retriever see it: a point for each collection, and an alias.

The alias `murphey--COLLECTION` stands for the index in use, for people and tools that look at Qdrant itself.
"""

import uuid
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from retriever.catalog import CollectionRecord, from_json, to_json
from retriever.stores.server.options import DEFAULT_OPTIONS, ServerOptions
from retriever.stores.server.qdrant import PREFIX, translated

_NAME = f"{PREFIX}catalog"
_MAX_COLLECTIONS = 10_000


class ServerCatalog:
    """Records of collections, as points without vectors."""

    def __init__(self, client: AsyncQdrantClient, options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self._client, self._options = client, options

    async def load(self) -> dict[str, CollectionRecord]:
        await self._prepare()
        with translated("catalog"):
            points, _ = await self._client.scroll(_NAME, limit=_MAX_COLLECTIONS, consistency=self._options.consistency)
        records = [from_json(point.payload or {}) for point in points]
        return {record.id: record for record in records}

    async def put(self, record: CollectionRecord) -> None:
        await self._prepare()
        with translated("catalog"):
            point = models.PointStruct(id=_point_id(record.id), vector={}, payload=to_json(record))
            await self._client.upsert(_NAME, [point])
            await self._client.update_collection_aliases([_alias(record)])

    async def remove(self, collection: str) -> None:
        await self._prepare()
        ids: list[Any] = [_point_id(collection)]
        with translated("catalog"):
            await self._client.delete(_NAME, models.PointIdsList(points=ids))

    async def _prepare(self) -> None:
        with translated("catalog"):
            if not await self._client.collection_exists(_NAME):
                await self._client.create_collection(_NAME, vectors_config={}, **self._options.replication)


def _point_id(collection: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"collections/{collection}"))


def _alias(record: CollectionRecord) -> models.CreateAliasOperation:
    """An alias that is there is moved."""
    create = models.CreateAlias(collection_name=PREFIX + record.index, alias_name=PREFIX + record.id)
    return models.CreateAliasOperation(create_alias=create)
