"""Notes of raw files that no document names yet: an upload keeps its file before the database knows of it.

A note is a small file in the worker's scratch folder, there for as long as its upload is on its way. Whoever sweeps the
folder of a worker that was killed takes its notes over, and removes the raw files that were never registered.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ingest.database import Database
from ingest.jobs import new_id
from ingest.storage import Storage
from ingest.tables import versions
from mesh import logs

log = logs.get(__name__)

UNSETTLED_S = 120.0
"""An upload that was broken off may still be registered: the transaction that it was in goes on without it."""
_NOTE = "raw-{}.note"


class RawNotes:
    """The notes of this process, and those that it took over."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder, self._storage = folder, storage
        self._open: set[Path] = set()

    @contextlib.contextmanager
    def noted(self, key: str) -> Iterator[None]:
        """Has a note while inside, and afterwards too where that ends with an error."""
        note = self._folder / _NOTE.format(new_id())
        note.write_text(key)
        self._open.add(note)
        try:
            yield
            note.unlink(missing_ok=True)
        finally:
            self._open.discard(note)

    async def sweep(self, database: Database) -> int:
        """Removes the files of uploads that have ended and that no document names; answers how many there may have been."""
        old = time.time() - UNSETTLED_S
        left = [note for note in self._folder.glob(_NOTE.format("*")) if note not in self._open]
        keys = {note: note.read_text() for note in left if note.stat().st_mtime < old}
        for note, key in keys.items():
            async with database.read() as connection:
                named = (await connection.execute(sa.select(versions.c.id).where(versions.c.raw_key == key))).first()
            if key and named is None:
                await self._storage.delete_half(key)
            note.unlink(missing_ok=True)
        if keys:
            log.info("broken_uploads_swept", uploads=len(keys))
        return len(keys)


def adopt(theirs: Path, mine: Path) -> None:
    """Takes over the notes of a worker that is dead: nothing of its uploads goes on."""
    for note in theirs.glob(_NOTE.format("*")):
        with contextlib.suppress(FileNotFoundError):
            taken = note.replace(mine / note.name)
            os.utime(taken, (0, 0))
