"""Notes of raw files that no document names yet: an upload keeps its file before the database knows of it.

A note is a small file in the worker's scratch folder with a line for each upload that is on its way; a file for each cost
small uploads more than their own. Whoever sweeps the folder of a worker that was killed takes its notes over, and removes the
raw files that were never registered.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ingest.database import Database
from ingest.jobs import new_id
from ingest.storage import Storage, StorageAway
from ingest.tables import versions
from mesh import logs

log = logs.get(__name__)

UNSETTLED_S = 120.0
"""An upload that was broken off may still be registered: the transaction that it was in goes on without it."""
MAX_NOTE_BYTES = 64 * 1024
"""A longer note gets no more lines, so that under steady uploads it comes to its end."""
_NOTE = "raw-{}.note"


class _Note:
    """Lines of uploads that are on their way, and of those that have ended since none was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uploads = self.size_bytes = 0
        self.has_failed = False
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def add(self, key: str) -> None:
        """A line in one write, which the system keeps should this process be killed."""
        self.size_bytes += os.write(self._file, f"\n{key}\n".encode())

    def clear(self) -> None:
        """All have ended well."""
        os.ftruncate(self._file, 0)
        self.size_bytes = 0

    def close(self) -> None:
        """No line comes any more."""
        os.close(self._file)
        if not self.has_failed:
            self.path.unlink(missing_ok=True)


class RawNotes:
    """The notes of this process, and those that it took over."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder, self._storage = folder, storage
        self._current: _Note | None = None
        self._open: set[Path] = set()

    @contextlib.contextmanager
    def noted(self, key: str) -> Iterator[None]:
        """Has a note while inside, and afterwards too where that ends with an error. StorageAway when there is no room."""
        note = self._begun(key)
        try:
            yield
        except BaseException:
            note.has_failed = True
            raise
        finally:
            note.uploads -= 1
            self._tidy(note)

    def _begun(self, key: str) -> _Note:
        try:
            note = self._writable()
            note.add(key)
        except OSError as error:
            raise StorageAway(f"An upload cannot be noted: {error.strerror}") from error
        note.uploads += 1
        return note

    def _writable(self) -> _Note:
        if self._current is None:
            self._current = _Note(self._folder / _NOTE.format(new_id()))
            self._open.add(self._current.path)
        return self._current

    def _tidy(self, note: _Note) -> None:
        if note is self._current and (note.has_failed or note.size_bytes > MAX_NOTE_BYTES):
            self._current = None
        if note.uploads == 0 and note is self._current:
            note.clear()
        elif note.uploads == 0:
            note.close()
            self._open.discard(note.path)

    async def sweep(self, database: Database) -> int:
        """Removes the files of uploads that have ended and that no document names; answers how many there may have been."""
        old = time.time() - UNSETTLED_S
        left = [note for note in self._folder.glob(_NOTE.format("*")) if note not in self._open]
        keys = {note: note.read_text().split() for note in left if note.stat().st_mtime < old}
        for note in keys:
            for key in keys[note]:
                await self._sweep_one(database, key)
            note.unlink(missing_ok=True)
        swept = sum(map(len, keys.values()))
        if swept:
            log.info("broken_uploads_swept", uploads=swept)
        return swept

    async def _sweep_one(self, database: Database, key: str) -> None:
        async with database.read() as connection:
            named = (await connection.execute(sa.select(versions.c.id).where(versions.c.raw_key == key))).first()
        if named is None:
            await self._storage.delete_half(key)


def adopt(theirs: Path, mine: Path) -> None:
    """Takes over the notes of a worker that is dead: nothing of its uploads goes on."""
    for note in theirs.glob(_NOTE.format("*")):
        with contextlib.suppress(FileNotFoundError):
            taken = note.replace(mine / note.name)
            os.utime(taken, (0, 0))
