"""Ingest's part of a backup: its files, and what its database says of the documents; and of a restore."""

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import mkdtemp

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from ingest.batches import table_key
from ingest.orphans import known
from ingest.rows import ACTIVE
from ingest.settings import IngestSettings
from ingest.storage import Storage
from ingest.tables import VERSION_IS_LIVE, documents, jobs, reindexings, runs, versions, workers
from mesh.backup.parts import Cut
from mesh.database import database_url
from mesh.names import document_name

_CHANGING = table_key("")
"""Before the keys of tables, which a run that begins again writes over."""


def database_of(settings: IngestSettings) -> str:
    """The URL of the database."""
    return database_url(settings.database_url, settings.data, settings.service)


class BackedUpDocuments:
    """Implements `parts.Documents` and `parts.DocumentsTarget` on the stores that the settings name. Closed by `close`."""

    def __init__(self, settings: IngestSettings) -> None:
        self._scratch = Path(mkdtemp(prefix="murphey-backup-"))
        self._storage = Storage.open(settings.objects_url, settings.data / settings.service, self._scratch)

    def close(self) -> None:
        """Removes what was on its way."""
        self._scratch.rmdir()

    async def cut(self, connection: AsyncConnection, since_us: int) -> Cut:
        found = await known(connection, None)
        raw = set((await connection.execute(sa.select(versions.c.raw_key))).scalars()) - {""}
        rows = sa.select(versions.c.collection, versions.c.document, versions.c.id, versions.c.chunk_count)
        there: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        for row in await connection.execute(rows):
            there[row.collection][document_name(row.collection, row.document)].add(row.id)
        live: dict[str, dict[str, tuple[str, int]]] = defaultdict(dict)
        for row in await connection.execute(rows.join(documents, VERSION_IS_LIVE)):
            live[row.collection][document_name(row.collection, row.document)] = (row.id, row.chunk_count)
        changed: dict[str, set[str]] = defaultdict(set)
        lately = sa.select(documents.c.collection, documents.c.id).where(documents.c.updated_us >= since_us)
        going = sa.select(jobs.c.collection, jobs.c.document).where(jobs.c.state.in_(ACTIVE), jobs.c.document != "")
        for query in (lately, going):
            for collection, document in await connection.execute(query):
                changed[collection].add(document_name(collection, document))
        return Cut(
            needed_files=frozenset(raw | found.wanted_keys),
            files=frozenset(found.keys),
            changing_files=frozenset(key for key in found.keys if key.startswith(_CHANGING)),
            live=live,
            versions=there,
            changed=changed,
        )

    async def files(self) -> AsyncIterator[str]:
        async for found in self._storage.list():
            if not found.key.startswith(_CHANGING) and "#" not in found.key:
                yield found.key

    def read(self, key: str) -> AsyncIterator[bytes]:
        return self._storage.stream(key)

    async def put(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        await self._storage.put_stream(key, pieces)

    async def settle(self, url: str) -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            for table in (runs, reindexings):
                await connection.execute(table.update().values(worker=""))
            await connection.execute(workers.delete())
        await engine.dispose()
