"""Deletes documents from every store, an archive with its members."""

from collections.abc import Sequence

from ingest.catalog import Catalog
from ingest.index.chunk_index import ChunkIndex
from ingest.job_watch import JobWatch
from ingest.reindexings import Reindexings
from mesh.errors import NotFound
from mesh.names import document_name


class Removal:
    """Can be begun again wherever it was interrupted: the database forgets a document last."""

    def __init__(self, catalog: Catalog, watch: JobWatch, index: ChunkIndex, reindexings: Reindexings) -> None:
        self._catalog = catalog
        self._watch = watch
        self._index = index
        self._reindexings = reindexings

    async def remove(self, collection: str, ids: Sequence[str]) -> int:
        """Answers how many chunks they had, those of members included. Their files are discarded, not yet deleted.

        The jobs are stopped first: once an archive's is, no further member of it can be registered.
        """
        if not ids:
            return 0
        names = [document_name(collection, document) for document in ids]
        deleted, reindexing = 0, await self._reindexings.of(collection)
        while True:
            for job in await self._catalog.stop(collection, ids):
                await self._watch.published(job)
            for archive in sorted(await self._catalog.archives(collection, ids)):
                deleted += await self.remove(collection, await self._catalog.members(collection, archive))
            deleted += await self._delete_chunks(collection, names)
            if await self._catalog.remove(collection, ids):
                break
        if reindexing or await self._reindexings.of(collection):  # they may just have been copied to the other index
            await self._delete_chunks(collection, names)
        return deleted

    async def _delete_chunks(self, collection: str, names: Sequence[str]) -> int:
        """None where the whole collection was deleted before."""
        try:
            return await self._index.delete_documents(collection, names)
        except NotFound:
            return 0
