"""Restores a mesh that does not run, and checks backups.

All that belongs into the data folder is put into a new one beside it, which takes its place at the end, so that an interrupted
restore leaves the old one. What lies elsewhere (Postgres, an object store, a Qdrant server) is filled before; a restore that is
interrupted there is begun again with `replace`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mesh.backup.databases import load_database
from mesh.backup.files import files_of
from mesh.backup.manifest import CollectionCopy, Manifest
from mesh.backup.parts import ChunksTarget, DocumentsTarget, SeenCollection
from mesh.backup.place import Place
from mesh.database import check_revision
from mesh.errors import Corrupt

INGEST = "ingest"
Tell = Callable[[str, int], None]


@dataclass(frozen=True)
class Targets:
    """What is filled: databases by room, the retriever's stores, ingest's files, and the data folder."""

    databases: dict[str, str]
    chunks: ChunksTarget
    documents: DocumentsTarget
    data: Path


def check_versions(manifest: Manifest) -> None:
    """FailedPrecondition for a backup of a newer Murphey."""
    for database in manifest.databases:
        where = f"The backup {manifest.id}, of Murphey {manifest.murphey},"
        check_revision(database.room, database.revision, where)


async def restore(manifest: Manifest, place: Place, targets: Targets, tell: Tell, *, replace: bool) -> None:
    """Fills all targets. Corrupt where anything is not as it was written."""
    for database in manifest.databases:
        url = targets.databases[database.room]
        await load_database(url, database, place, replace=replace)
        if database.room == INGEST:
            await targets.documents.settle(url)
        tell("rows", sum(table.rows for table in database.tables))
    async for file in files_of(place, manifest.objects):
        await targets.documents.put(file.key, place.file(file.path, file.size, file.sha256))
        tell("files", 1)
    async for file in files_of(place, manifest.records):
        path = targets.data / file.key
        if not path.resolve().is_relative_to(targets.data.resolve()):
            raise Corrupt(
                f"The backup {manifest.id} has a file that would lie outside of the data folder: {file.key!r}."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as opened:
            async for piece in place.file(file.path, file.size, file.sha256):
                opened.write(piece)
        tell("files", 1)
    for collection in manifest.collections:
        await _restore_collection(collection, place, targets.chunks, tell, replace=replace)


async def _restore_collection(
    copy: CollectionCopy, place: Place, target: ChunksTarget, tell: Tell, *, replace: bool
) -> None:
    seen = SeenCollection(copy.record, tuple((index.index, index.dimensions) for index in copy.indexes))
    await target.begin(seen, replace=replace)
    for index in copy.indexes:
        without = frozenset([str(name) for blob in index.replaced async for name in place.lines(blob)])
        for parts, staged, left_out in (
            (index.parts, False, without), (index.staged_parts, True, without), (index.newer, False, frozenset[str]()),
            (index.newer_staged, True, frozenset[str]()),
        ):  # fmt: skip
            for part in parts:
                tell("chunks", await target.put(index.index, await place.blob(part), staged=staged, without=left_out))
    await target.finish(seen, {index.index: (index.live, index.staged) for index in copy.indexes})


async def verify(manifest: Manifest, place: Place, tell: Tell) -> None:
    """Reads all of a backup. Corrupt for the first thing that is not as it was written, or is gone."""
    for name in sorted(manifest.blobs()):
        await place.blob(name)
        tell("blobs", 1)
    for database in manifest.databases:
        for table in database.tables:
            rows = sum([(await place.blob(part)).count(b"\n") + 1 for part in table.parts])
            if rows != table.rows:
                raise Corrupt(f"{database.room}.{table.name} should have {table.rows} rows, and has {rows}.")
    for copy in (manifest.objects, manifest.records):
        count = 0
        async for file in files_of(place, copy):
            async for _ in place.file(file.path, file.size, file.sha256):
                pass
            count += 1
            tell("files", 1)
        if count != copy.count:
            raise Corrupt(f"There should be {copy.count} files, and there are {count}.")
