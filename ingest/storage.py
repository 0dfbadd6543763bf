"""Files by key, in a folder or in S3, GCS or Azure by URL: raw documents, their texts, and what workflows keep on the way.

An object is there whole or not at all. What is on its way lies in the worker's scratch folder.
"""

import asyncio
import contextlib
import os
import stat
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from mesh.errors import Corrupt, Unavailable
from mesh.object_stores import open_folder, open_store, reason

DOWNLOAD_CHUNK_BYTES = 256 * 1024
DELETED_AT_ONCE = READS_AT_ONCE = 16


class StorageAway(Unavailable):
    """The object store cannot be reached, or has no room, for now."""


@dataclass(frozen=True)
class StoredObject:
    """An object that is kept, and for how long it has been."""

    key: str
    size_bytes: int
    age_s: float


class Storage:
    """Objects by key. Every failure of the store is StorageAway, a missing object Corrupt: a row promised that it is there."""

    def __init__(self, store: ObjectStore, scratch: Path, folder: Path | None, url: str = "") -> None:
        self._store = store
        self._folder = folder
        self._url = url
        self.scratch = scratch

    @classmethod
    def open(cls, url: str, data: Path, scratch: Path) -> "Storage":
        """At a URL such as `s3://bucket/prefix`, or in the data folder when the URL is empty."""
        if url:
            return cls(open_store(url), scratch, None, url)
        folder = (data / "objects").absolute()
        return cls(open_folder(folder), scratch, folder)

    async def put(self, key: str, content: bytes | Path) -> None:
        """Keeps bytes, or a file's."""
        try:
            await obstore.put_async(self._store, key, content)
        except (BaseError, OSError) as error:
            raise StorageAway(f"The object store cannot keep a file: {reason(error, self._url)}") from error

    async def put_stream(self, key: str, pieces: AsyncIterator[bytes]) -> None:
        """Keeps what comes piece by piece."""
        try:
            await obstore.put_async(self._store, key, pieces)
        except (BaseError, OSError) as error:
            raise StorageAway(f"The object store cannot keep a file: {reason(error, self._url)}") from error

    async def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        """An object's bytes, or those from `start` to `end`."""
        if end is not None and end <= start:
            return b""
        with self._reading(key):
            if end is not None:
                return bytes(await obstore.get_range_async(self._store, key, start=start, end=end))
            return bytes(await (await obstore.get_async(self._store, key)).bytes_async())

    @contextlib.contextmanager
    def _reading(self, key: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Corrupt(f"The object {key} is gone from the object store. Upload the document again.") from error
        except BaseError as error:
            raise StorageAway(f"The object store cannot be read: {reason(error, self._url)}") from error

    async def read_ranges(self, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """The bytes of objects from one to another place in each. Those of a folder are read in one thread: a call each took
        several times as long."""
        if self._folder is not None:
            return await asyncio.to_thread(_read_files, self._folder, wanted)
        places = asyncio.Semaphore(READS_AT_ONCE)

        async def one(key: str, start: int, end: int) -> bytes:
            async with places:
                return await self.read(key, start, end)

        return await asyncio.gather(*(one(*each) for each in wanted))

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """An object's bytes, piece by piece."""
        with self._reading(key):
            result = await obstore.get_async(self._store, key)
            async for piece in result.stream(min_chunk_size=DOWNLOAD_CHUNK_BYTES):
                yield bytes(piece)

    async def delete(self, keys: list[str]) -> None:
        """Deletes objects; one that is not there counts as deleted."""
        for at in range(0, len(keys), DELETED_AT_ONCE):
            await asyncio.gather(*map(self._delete, keys[at : at + DELETED_AT_ONCE]))

    async def _delete(self, key: str) -> None:
        try:
            if self._folder is not None:  # the store's own call does not see what was left half written
                (self._folder / key).unlink()
            else:
                await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            pass
        except (BaseError, OSError) as error:
            raise StorageAway(f"The object store cannot delete: {reason(error, self._url)}") from error

    async def delete_half(self, key: str) -> None:
        """Deletes an object whose writer was killed, whole or half written."""
        if self._folder is not None:
            for path in (self._folder / key).parent.glob(f"{Path(key).name}#*"):
                path.unlink(missing_ok=True)
        await self.delete([key])

    async def list(self) -> AsyncIterator[StoredObject]:
        """Everything that is kept, and what a killed process left half written in a folder store."""
        now = time.time()
        if self._folder is not None:
            for found in await asyncio.to_thread(_list_files, self._folder, now):
                yield found
            return
        try:
            async for page in obstore.list(self._store):
                for item in page:
                    yield StoredObject(item["path"], item["size"], now - item["last_modified"].timestamp())
        except BaseError as error:
            raise StorageAway(f"The object store cannot be listed: {reason(error, self._url)}") from error

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """For what is on its way; gone on leaving."""
        try:
            made = TemporaryDirectory(dir=self.scratch)
        except OSError as error:
            raise StorageAway(f"There is no room for files on their way: {error.strerror}") from error
        with made as name:
            yield Path(name)

    @asynccontextmanager
    async def as_file(self, key: str) -> AsyncIterator[Path]:
        """An object as a file on this machine: the file itself in a folder store, a copy while inside otherwise."""
        if self._folder is not None:
            path = self._folder / key
            with self._reading(key):
                path.stat()
            yield path
            return
        with self.folder() as folder:
            path = folder / "object"
            try:
                with path.open("wb") as file:
                    async for piece in self.stream(key):
                        await asyncio.to_thread(file.write, piece)
            except OSError as error:
                raise StorageAway(f"An object cannot be copied to this machine: {error.strerror}") from error
            yield path


def _list_files(folder: Path, now: float) -> list[StoredObject]:
    """All of it in one thread: asking for each of many files took the event loop from everybody else."""
    found: list[StoredObject] = []
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                key = path.relative_to(folder).as_posix()
                found.append(StoredObject(key, status.st_size, now - status.st_mtime))
    return found


def _read_files(folder: Path, wanted: Sequence[tuple[str, int, int]]) -> list[bytes]:
    found: list[bytes] = []
    for key, start, end in wanted:
        try:
            with (folder / key).open("rb") as file:
                found.append(os.pread(file.fileno(), end - start, start))
        except FileNotFoundError as error:
            raise Corrupt(f"The object {key} is gone from the object store. Upload the document again.") from error
        except OSError as error:
            raise StorageAway(f"The object store cannot be read: {error.strerror}") from error
        if len(found[-1]) < end - start:
            raise Corrupt(f"The object {key} is shorter than it was. Upload the document again.")
    return found
