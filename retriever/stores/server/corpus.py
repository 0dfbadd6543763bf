"""The states of the indexes on a Qdrant server, where all replicas of the retriever see them: two points for each index."""

import uuid
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from retriever.corpus import CorpusVersion
from retriever.stores.server.options import DEFAULT_OPTIONS, ServerOptions
from retriever.stores.server.qdrant import PREFIX, translated

_NAME = f"{PREFIX}corpus"
_CONTENTS, _REMOVALS = "contents", "removals"


class ServerCorpusVersions:
    """Implements `corpus.CorpusVersions`. A replica that dies between a write and its new state leaves the old one; ingest
    repeats a write that was not answered, which names a new one."""

    def __init__(self, client: AsyncQdrantClient, options: ServerOptions = DEFAULT_OPTIONS) -> None:
        self._client, self._options = client, options
        self._there = False

    async def of(self, index: str) -> CorpusVersion:
        await self._prepare()
        ids = [_point_id(index, part) for part in (_CONTENTS, _REMOVALS)]
        with translated("corpus versions"):
            records = await self._client.retrieve(_NAME, ids, consistency=self._options.consistency)
        states: dict[Any, str] = {record.id: (record.payload or {})["state"] for record in records}
        contents, removals = (f"{index}@{states.get(identifier, '')}" for identifier in ids)
        return CorpusVersion(contents, removals)

    async def move(self, index: str, *, removal: bool) -> None:
        await self._prepare()
        payload = {"index": index, "state": uuid.uuid4().hex}
        parts = (_CONTENTS, _REMOVALS) if removal else (_CONTENTS,)
        points = [models.PointStruct(id=_point_id(index, part), vector={}, payload=payload) for part in parts]
        with translated("corpus versions"):
            await self._client.upsert(_NAME, points)

    async def _prepare(self) -> None:
        if self._there:
            return
        with translated("corpus versions"):
            if not await self._client.collection_exists(_NAME):
                await self._client.create_collection(_NAME, vectors_config={}, **self._options.replication)
        self._there = True


def _point_id(index: str, part: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"indexes/{index}/{part}"))
