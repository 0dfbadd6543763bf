"""The members of archives as documents of their own: registered, kept equal to the archive, and gone with it."""

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import sqlalchemy as sa

from ingest.catalog import Catalog
from ingest.comparison import Comparer, Comparison, FileDescription
from ingest.database import Database
from ingest.documents import NewUpload
from ingest.jobs import new_id
from ingest.parsers.unpacking import UnpackedMember
from ingest.raw_notes import RawNotes
from ingest.registration import Registration, Stopped, StoredUpload
from ingest.relabelling import Relabelling
from ingest.removal import Removal
from ingest.runs import Work
from ingest.storage import Storage
from ingest.tables import versions
from mesh import logs

log = logs.get(__name__)

REGISTERED_AT_ONCE = 64
STORED_AT_ONCE = 8


@dataclass(frozen=True)
class _Member:
    """A file of an archive. Keys begin with its archive's version: what is kept under such a one, that version registered."""

    upload: NewUpload
    file: UnpackedMember
    keys: str

    @cached_property
    def stored(self) -> StoredUpload:
        """To be kept under a key of its own."""
        return StoredUpload(self.upload, self.file.sha256, self.file.size_bytes, f"{self.keys}.{new_id()}")


class Members:
    """What becomes of the files that an archive holds. One for all archives of a process."""

    def __init__(
        self, database: Database, catalog: Catalog, storage: Storage, notes: RawNotes, registration: Registration,
        relabelling: Relabelling, removal: Removal,
    ) -> None:  # fmt: skip
        self._database = database
        self._catalog = catalog
        self._comparer = Comparer(database)
        self._storage = storage
        self._notes = notes
        self._registration = registration
        self._relabelling = relabelling
        self._removal = removal
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def archives(self, works: Sequence[Work]) -> set[str]:
        """The ids of those documents that have members of an earlier version."""
        ids = [work.job.document_id for work in works]
        return await self._catalog.archives(works[0].job.collection, ids) if works else set()

    async def take(self, archive: Work, files: Sequence[UnpackedMember]) -> None:
        """Makes the members of a document those of its new version: what is new or changed gets a job, what is not is let
        alone, and what is no longer there is removed. Can be begun again; does nothing more once the job is stopped.
        """
        job = archive.job
        members = [_member(archive, file) for file in files]
        lock = self._locks.setdefault((job.collection, job.document_id), asyncio.Lock())
        async with lock:  # two versions of one archive must not meet here
            try:
                for at in range(0, len(members), REGISTERED_AT_ONCE):
                    await self._register(job.id, members[at : at + REGISTERED_AT_ONCE])
                await self._remove_others(archive, {member.upload.document_id for member in members})
            except Stopped:
                log.info("archive_stopped", document=job.document, job=job.id)

    async def _register(self, job: str, members: Sequence[_Member]) -> None:
        changed, kept = await self._changed(members)
        places = asyncio.Semaphore(STORED_AT_ONCE)

        async def keep(member: _Member) -> None:
            async with places:
                await self._storage.put(member.stored.raw_key, Path(member.file.path))

        with ExitStack() as notes:
            for member in changed:
                notes.enter_context(self._notes.noted(member.stored.raw_key))
            await asyncio.gather(*(keep(member) for member in changed))
            stored = [member.stored for member in changed]
            await self._registration.register_members(job, stored, [member.upload for member in kept])

    async def _changed(self, members: Sequence[_Member]) -> tuple[list[_Member], list[_Member]]:
        """Those that need a job, and those that do not: relabelled where only the metadata differs."""
        files = [FileDescription(each.upload.display_name, each.file.sha256, each.upload.metadata) for each in members]
        compared = await self._comparer.compare(members[0].upload.collection, files)
        registered = await self._registered(members)

        async def settled(member: _Member, comparison: Comparison) -> bool:
            if comparison == Comparison.METADATA_CHANGED:
                return await self._relabelling.relabel(member.upload, member.file.sha256) is not None
            return comparison in (Comparison.UNCHANGED, Comparison.PENDING) or member.keys in registered

        pairs = zip(members, compared, strict=True)
        done = await asyncio.gather(*(settled(member, found.comparison) for member, found in pairs))
        changed = [member for member, is_done in zip(members, done, strict=True) if not is_done]
        return changed, [member for member, is_done in zip(members, done, strict=True) if is_done]

    async def _registered(self, members: Sequence[_Member]) -> set[str]:
        """What the keys of those begin with that this version registered before it was interrupted, whatever became of them."""
        ids = [member.upload.document_id for member in members]
        mine = sa.and_(versions.c.collection == members[0].upload.collection, versions.c.document.in_(ids))
        async with self._database.read() as connection:
            keys = (await connection.execute(sa.select(versions.c.raw_key).where(mine))).scalars()
            return {key.rpartition(".")[0] for key in keys}

    async def _remove_others(self, archive: Work, names: set[str]) -> None:
        job = archive.job
        others = [each for each in await self._catalog.members(job.collection, job.document_id) if each not in names]
        if others and not (await self._catalog.job(job.id)).state.ended:
            await self._removal.remove(job.collection, others)


def _member(archive: Work, file: UnpackedMember) -> _Member:
    job = archive.job
    upload = NewUpload(
        job.collection, f"{job.display_name}/{file.name}", archive.version.metadata, job.batch, job.document_id
    )
    return _Member(upload, file, f"raw/{job.collection}/{upload.document_id}/{archive.version.id}")
