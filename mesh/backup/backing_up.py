"""Makes a backup of a mesh while it runs, without stopping anyone.

All chunks and files are copied first, which takes long. Then comes the cut: the databases are copied, each as it is at one
instant, and what ingest's says of the documents is compared with what was copied. Documents that have changed since the
beginning are copied again, files that came since are copied, and what is gone is left out. Where a document or file has
changed once more after the cut, so that it cannot be had as the database says, there is another cut. What remains is a mesh as
it was at the last cut: each document with exactly the chunks and files that the database names; work that was under way goes
on after a restore, as it does after a crash.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

from mesh.backup.chunks import CopiedIndex, copy_again, copy_index
from mesh.backup.databases import copy_database, snapshot
from mesh.backup.files import FileCopies
from mesh.backup.manifest import FORMAT, CollectionCopy, DatabaseCopy, Manifest, new_id
from mesh.backup.parts import Chunks, Cut, Documents, SeenCollection
from mesh.backup.place import Place
from mesh.errors import Corrupt, NotFound, Unavailable

CUTS = 10
"""At most: in a mesh in which documents change faster than they are copied again."""
CLOCKS_DIFFER_US = 600 * 1_000_000
EMPTY_CUT = Cut(frozenset(), frozenset(), frozenset(), {}, {}, {})
INGEST = "ingest"
FOLDERS = ("audit", "evaluations")
"""Of the data folder, with records that are in no database."""


@dataclass(frozen=True)
class Sources:
    """Where everything is: the rooms' databases, the retriever's chunks, ingest's files, and the data folder."""

    databases: dict[str, str]
    chunks: Chunks
    documents: Documents
    data: Path


Tell = Callable[[str, int], None]
"""What is copied, and how many more of it: `chunks`, `files`, `rows`, `cuts`."""


class BackingUp:
    """One backup."""

    def __init__(self, sources: Sources, place: Place, tell: Tell) -> None:
        self._sources, self._place, self._tell = sources, place, tell
        self.id = new_id(secrets.token_hex(2))
        self._since_us = int(time.time() * 1_000_000) - CLOCKS_DIFFER_US
        self._files = FileCopies(place, self.id, sources.documents.read)
        self._records = FileCopies(place, f"{self.id}/records", self._record)
        self._indexes: dict[str, CopiedIndex] = {}
        self._collections: list[SeenCollection] = []

    async def run(self) -> Manifest:
        """The manifest, written: the backup is there. Unavailable where too much changes."""
        for name in (await self._place.manifests())[-1:]:
            earlier = await self._place.manifest(name)
            self._place.know(earlier)
            await self._files.know(earlier.objects)
        await self._copy_collections()
        async for key in self._sources.documents.files():
            self._tell("files", await self._files.add(key))
        for path in sorted(path for folder in FOLDERS for path in (self._sources.data / folder).rglob("*")):
            if path.is_file():
                self._tell("files", await self._records.add(path.relative_to(self._sources.data).as_posix(), anew=True))
        for _ in range(CUTS):
            databases, cut = await self._cut()
            if await self._complete(cut):
                return await self._finish(databases, cut)
        raise Unavailable(
            f"Documents changed faster than they were copied, {CUTS} times. Try again when less is ingested."
        )

    async def _copy_collections(self) -> None:
        """Indexes that have not been copied yet; those that have gone are forgotten."""
        self._collections = await self._sources.chunks.collections()
        wanted = {index: dimensions for each in self._collections for index, dimensions in each.indexes}
        for index in self._indexes.keys() - wanted.keys():
            del self._indexes[index]
        for index, dimensions in wanted.items():
            if index not in self._indexes:
                self._indexes[index] = await copy_index(
                    self._sources.chunks, index, dimensions, self._place, lambda rows: self._tell("chunks", rows)
                )

    async def _cut(self) -> tuple[list[DatabaseCopy], Cut]:
        """All databases, ingest's as the last one, which says what the chunks and files have to be like."""
        self._tell("cuts", 1)
        copies: list[DatabaseCopy] = []
        cut = EMPTY_CUT
        for room in sorted(self._sources.databases, key=lambda room: room == INGEST):
            async with snapshot(self._sources.databases[room]) as connection:
                copied = None if connection is None else await copy_database(connection, room, self._place)
                if connection is not None and copied is not None:
                    copies.append(copied)
                    self._tell("rows", sum(table.rows for table in copied.tables))
                    if room == INGEST:
                        cut = await self._sources.documents.cut(connection, self._since_us)
        return copies, cut

    async def _complete(self, cut: Cut) -> bool:
        """Copies what has changed until the cut; False where it has changed since."""
        try:
            await self._copy_collections()
            for collection in self._collections:
                for place, (index, _) in enumerate(collection.indexes):
                    copied = self._indexes[index]
                    stale = _stale(copied, cut, collection.record["id"], served=place == 0)
                    await copy_again(self._sources.chunks, copied, stale)
                    copied.forget_later(cut.versions.get(collection.record["id"], {}))
                    self._tell("chunks", len(stale))
        except NotFound:  # an index came or went
            return False
        for key in cut.changing_files:
            self._files.copied.pop(key, None)
        for key in sorted(cut.files - self._files.copied.keys()):
            found = await self._files.add(key, anew=key in cut.changing_files)
            self._tell("files", found)
            if not found and key in cut.needed_files:
                return False
        return all(
            self._indexes[each.indexes[0][0]].count(document, live) >= chunks
            for each in self._collections
            for document, (live, chunks) in cut.live.get(each.record["id"], {}).items()
        )

    async def _finish(self, databases: list[DatabaseCopy], cut: Cut) -> Manifest:
        collections = [
            CollectionCopy(
                record=each.record,
                indexes=[await self._indexes[index].finish(self._place) for index, _ in each.indexes],
            )
            for each in self._collections
        ]
        manifest = Manifest(
            format=FORMAT, id=self.id, created=datetime.now(UTC), murphey=version_of("murphey"), databases=databases,
            collections=collections, objects=await self._files.finish(cut.files),
            records=await self._records.finish(),
        )  # fmt: skip
        await self._place.put_manifest(manifest)
        return manifest

    async def _record(self, key: str) -> AsyncIterator[bytes]:
        try:
            yield await asyncio.to_thread((self._sources.data / key).read_bytes)
        except FileNotFoundError as error:  # a full log was kept aside meanwhile, and the oldest given up
            raise Corrupt(f"{key} is gone.") from error


def _stale(copied: CopiedIndex, cut: Cut, collection: str, *, served: bool) -> set[str]:
    """Documents of a collection that were not copied as the database says; of an index that searches do not use, those that
    changed."""
    there = copied.documents() | copied.newer.keys()
    live, changed = cut.live.get(collection, {}), cut.changed.get(collection, set())
    if not served:
        return changed & (there | live.keys())
    versions = copied.versions_of()
    wrong = {
        document
        for document, (version, chunks) in live.items()
        if chunks and (versions.get(document) != {version} or copied.count(document, version) < chunks)
    }
    return wrong | changed | (there - live.keys())
