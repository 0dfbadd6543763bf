"""Which processes work on the shared queue, and which of them have died, so that others carry on what they carried.

A worker keeps a row in the database fresh, and in its data folder a file that the operating system keeps locked for as
long as the process lives. Workers that share the folder see a death at once, by the lock; others when the row has stood
still for `lease_s` by their own clock, so that the clocks of several machines need not agree.
"""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from ingest import raw_notes
from ingest.database import Database
from ingest.jobs import new_id, now_us
from ingest.tables import workers

LEFT = -1
"""The beat of a worker that has ended as it should."""


class WorkerFolder:
    """This process's part of the data folder: its lock, and its scratch folder for files on their way."""

    def __init__(self, data: Path) -> None:
        self.worker = f"{re.sub('[^A-Za-z0-9.-]', '-', socket.gethostname())[:64]}-{new_id()}"
        self._locks, self._scratches = data / "workers", data / "scratch"
        self._locks.mkdir(parents=True, exist_ok=True)
        self._lock = _create_locked(self._locks / self.worker)
        self.scratch = self._scratches / self.worker
        self.scratch.mkdir(parents=True)

    def close(self) -> None:
        """Lets go: from here on the worker counts as dead. Its lock file stays, so that others see this at once."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        os.close(self._lock)

    def alive(self, worker: str) -> bool | None:
        """Whether a worker of this folder lives; None for one of another folder."""
        if worker == self.worker:
            return True
        with _lock_of(self._locks / worker) as locked_here:
            return None if locked_here is None else not locked_here

    def sweep(self) -> None:
        """Removes what processes left here that are dead."""
        left = [*self._scratches.iterdir(), *self._locks.iterdir()]
        for name in {path.name for path in left} - {self.worker}:
            self.forget(name)

    def forget(self, worker: str) -> None:
        """Removes what a worker left here, unless it lives."""
        with _lock_of(self._locks / worker) as locked_here:
            if locked_here is False:
                return
            scratch = self._scratches / worker
            if scratch.is_dir():
                raw_notes.adopt(scratch, self.scratch)
                shutil.rmtree(scratch, ignore_errors=True)
            else:
                scratch.unlink(missing_ok=True)
            (self._locks / worker).unlink(missing_ok=True)


class Workers:
    """The rows of all workers, as this one sees them."""

    def __init__(self, database: Database, folder: WorkerFolder, lease_s: float) -> None:
        self.id = folder.worker
        self._database = database
        self._folder = folder
        self._lease_s = lease_s
        self._seen: dict[str, tuple[int, float]] = {}

    async def join(self) -> None:
        """This process works from now on."""
        self._folder.sweep()
        async with self._database.write() as connection:
            await connection.execute(workers.insert(), {"id": self.id, "beat": 0, "joined_us": now_us()})

    async def beat(self) -> bool:
        """Says that this process lives. False when others took it for dead: it must not go on."""
        async with self._database.write() as connection:
            mine = workers.update().where(workers.c.id == self.id).values(beat=workers.c.beat + 1)
            return (await connection.execute(mine)).rowcount == 1

    async def leave(self) -> None:
        """This process has stopped its work; what it carried may be taken at once."""
        async with self._database.write() as connection:
            await connection.execute(workers.update().where(workers.c.id == self.id).values(beat=LEFT))

    async def dead(self) -> list[str]:
        """Workers that do not live any more."""
        async with self._database.read() as connection:
            rows = (await connection.execute(sa.select(workers.c.id, workers.c.beat))).all()
        now = time.monotonic()
        self._seen = {row.id: self._last_seen(row.id, row.beat, now) for row in rows}
        return [row.id for row in rows if row.id != self.id and self._is_dead(row.id, row.beat, now)]

    async def forget(self, worker: str) -> None:
        """What a dead worker carried has been handed on."""
        async with self._database.write() as connection:
            await connection.execute(workers.delete().where(workers.c.id == worker))
        self._folder.forget(worker)

    def _last_seen(self, worker: str, beat: int, now: float) -> tuple[int, float]:
        known = self._seen.get(worker)
        return known if known is not None and known[0] == beat else (beat, now)

    def _is_dead(self, worker: str, beat: int, now: float) -> bool:
        if beat == LEFT:
            return True
        alive = self._folder.alive(worker)
        return not alive if alive is not None else now - self._seen[worker][1] > self._lease_s


def _create_locked(path: Path) -> int:
    """A new lock file's descriptor. One that another worker swept away before it was locked is made again."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)


@contextlib.contextmanager
def _lock_of(path: Path) -> Iterator[bool | None]:
    """Whether the lock could be had, and if so with it; None when there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
