"""Makes another index of a collection beside the live one, from the stored texts, and swaps it in.

Documents that come, change or go meanwhile are caught up with: round after round takes what the live index has and the other
one lacks, and the other way round, until there is no difference. For the last round and the swap nothing is published; searches
never wait. Whatever is interrupted goes on at the worker that takes the collection over.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from ingest.batches import ChunkTable, Twins, read_slice
from ingest.database import DatabaseAway
from ingest.documents import Failure
from ingest.index.chunk_index import ChunkIndex, IndexReplaced, IndexTarget, NewIndex
from ingest.jobs import Job
from ingest.pipeline import Pipeline
from ingest.reindexings import Reindexing, Reindexings
from ingest.run_statements import Work
from ingest.runs import RunLost
from ingest.storage import Storage, StorageAway
from mesh import logs
from mesh.access.tenants import public
from mesh.errors import DeadlineExceeded, FailedPrecondition, Internal, MurpheyError, NotFound, Overloaded, Unavailable
from mesh.names import document_name

log = logs.get(__name__)

LOOK_EVERY_S = 1.0
PAUSE_S = 2.0
CLOSING_POLL_S = 0.1
SLICES_AT_ONCE = 2
_AWAY = (Unavailable, Overloaded, DeadlineExceeded, DatabaseAway, StorageAway)

Result = TypeVar("Result")


@dataclass(frozen=True)
class ReindexLimits:
    """How much goes to the other index in one round, and in one call."""

    batch_documents: int
    batch_bytes: int
    upsert_chunks: int


class Reindexer:
    """Begins reindexings, and carries those that no other worker carries, one after the other."""

    def __init__(
        self, records: Reindexings, pipeline: Pipeline, index: ChunkIndex, storage: Storage, limits: ReindexLimits
    ) -> None:
        self._records, self._pipeline, self._index = records, pipeline, index
        self._storage, self._limits = storage, limits
        self._wake = asyncio.Event()
        self._beginning = asyncio.Lock()

    async def begin(self, collection: str, new: NewIndex, batch: str = "") -> Job:
        """The job that does it. FailedPrecondition while another one does, or when nothing would change."""
        async with self._beginning:
            going = await self._records.of(collection)
            before = await self._index.indexes(collection)
            if going is None and before.building is not None:  # left by a worker that was killed before it had a job
                await self._drop_abandoned(collection, before.building)
                before = await self._index.indexes(collection)
            building = (await self._index.begin_index(collection, new)).building
            if building is None:
                raise FailedPrecondition(
                    f"The index of {public(collection)} has this embedder and this chunking already."
                )
            kept = before.previous is not None and before.previous.version == building.version
            job = await self._records.begin(collection, building.version, before.live.version, kept=kept, batch=batch)
        self._wake.set()
        return job

    async def keep(self) -> None:
        """For as long as the service lives."""
        while True:
            self._wake.clear()
            try:
                for collection in await self._records.waiting():
                    if (reindexing := await self._records.claim(collection)) is not None:
                        await self._carry(reindexing)
            except DatabaseAway as error:
                log.warning("database_away", error=error.message)
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY_S)
            except TimeoutError:
                continue

    async def _drop_abandoned(self, collection: str, building: IndexTarget) -> None:
        keep = (collection, building.version) in await self._records.kept_indexes()
        await self._index.drop_index(collection, building.version, keep=keep)

    async def _carry(self, reindexing: Reindexing) -> None:
        """To its end, whatever that is."""
        try:
            failure = await self._outcome(reindexing)
            if failure is _DONE:
                log.info("reindexed", collection=reindexing.collection, index=reindexing.index_version)
                return
            await _outlasting(lambda: self._abandon(reindexing, failure))
        except RunLost:
            log.warning("reindexing_lost", collection=reindexing.collection)

    async def _outcome(self, reindexing: Reindexing) -> Failure | None:
        """_DONE, why it failed, or None when it was cancelled."""
        try:
            done = await _outlasting(lambda: self._build_and_swap(reindexing))
        except IndexReplaced as error:
            return Failure.of(FailedPrecondition(str(error)))
        except MurpheyError as error:
            return Failure.of(error)
        except RunLost:
            raise
        except Exception:
            log.exception("reindexing_failed", collection=reindexing.collection)
            return Failure.of(Internal("Ingest failed on its own side; its log says why."))
        return _DONE if done else None

    async def _abandon(self, reindexing: Reindexing, failure: Failure | None) -> None:
        """The half-built index goes; one that was live before stays as it is."""
        try:
            await self._index.drop_index(reindexing.collection, reindexing.index_version, keep=reindexing.kept)
        except (NotFound, FailedPrecondition) as error:
            log.info("index_not_dropped", collection=reindexing.collection, reason=error.message)
        await self._records.give_up(reindexing, failure)
        log.info("reindexing_given_up", collection=reindexing.collection, failed=failure is not None)

    async def _build_and_swap(self, reindexing: Reindexing) -> bool:
        """False when it was cancelled. Can be begun again at any point."""
        collection, target = reindexing.collection, await self._target(reindexing)
        if target is not None:
            if not await self._catch_up(reindexing, target):
                return False
            while not await self._records.close(reindexing):
                if not await self._records.going(reindexing):
                    return False
                await asyncio.sleep(CLOSING_POLL_S)  # until what is just being published is live
            if not await self._catch_up(reindexing, target):
                return False
            await self._pipeline.patiently(lambda: self._index.swap_index(collection, target.version))
        await self._records.finish(reindexing)
        return True

    async def _target(self, reindexing: Reindexing) -> IndexTarget | None:
        """The index that is being built; None when it is the live one by now."""
        indexes = await self._pipeline.patiently(lambda: self._index.indexes(reindexing.collection))
        if indexes.live.version == reindexing.index_version:
            return None
        if indexes.building is None or indexes.building.version != reindexing.index_version:
            raise FailedPrecondition(f"The index {reindexing.index_version} is not being built any more. Begin again.")
        return indexes.building

    async def _catch_up(self, reindexing: Reindexing, target: IndexTarget) -> bool:
        """Until both indexes have the same documents; False when the job was cancelled."""
        while True:
            if not await self._records.going(reindexing):
                return False
            if stale := await self._records.stale(reindexing):
                await self._take_out(reindexing, stale)
            works = await self._records.missing(reindexing, self._limits.batch_documents, self._limits.batch_bytes)
            if works:
                await self._copy(reindexing, target, works)
            elif not stale:
                return True

    async def _take_out(self, reindexing: Reindexing, stale: list[tuple[str, str]]) -> None:
        collection = reindexing.collection
        for document, version in stale:
            name = document_name(collection, document)
            await self._pipeline.patiently(
                lambda name=name, version=version: self._index.delete_version(
                    collection, name, version, reindexing.index_version
                )
            )
        await self._records.forget(reindexing, stale)

    async def _copy(self, reindexing: Reindexing, target: IndexTarget, works: list[Work]) -> None:
        """Cuts and embeds documents for the other index, and shows them there."""
        collection = reindexing.collection
        await self._records.intend(reindexing, works)
        table, counts = await self._pipeline.cut(works, target.size)
        known = {work.job.id: work for work in works}
        slices = list(table.slices(0, self._limits.upsert_chunks))
        for at in range(0, len(slices), SLICES_AT_ONCE):
            some = slices[at : at + SLICES_AT_ONCE]
            await asyncio.gather(*(self._stage((collection, target.version), table, known, *part) for part in some))
        if not await self._records.going(reindexing):
            return
        versions = [(work.job.document, work.version.id) for work in works]
        await self._pipeline.patiently(lambda: self._index.publish(collection, versions, target.version))
        await self._records.record(reindexing, list(zip(works, counts, strict=True)), target.size.described)

    async def _stage(
        self, target: tuple[str, str], table: ChunkTable, works: dict[str, Work], start: int, end: int
    ) -> None:
        replaced = {key: (work.version.id, work.version.chunk_count) for key, work in works.items()}
        chunks = await read_slice(self._storage, table, works, start, end, Twins({}, again=True, replaced=replaced))
        await self._pipeline.patiently(lambda: self._index.stage(target[0], chunks, target[1]))


_DONE = Failure(0, "", "")


async def _outlasting(call: Callable[[], Awaitable[Result]]) -> Result:
    """Calls again for as long as the database, the object store or the retriever is away."""
    while True:
        try:
            return await call()
        except _AWAY as error:
            log.warning("reindexing_waits", error=error.message, retry_in_s=PAUSE_S)
        await asyncio.sleep(PAUSE_S)
