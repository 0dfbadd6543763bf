"""Where backups are kept: a folder, or an object store by URL. Blobs by their SHA-256, files by their keys, manifests, a lock.

An object appears whole or not at all. Nothing that a manifest names is ever written over.
"""

import asyncio
import hashlib
import json
import os
import secrets
import socket
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import obstore
import psutil
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import ObjectStore

from mesh.backup.manifest import Manifest, read_manifest
from mesh.errors import Corrupt, FailedPrecondition, InvalidInput, NotFound, Unavailable
from mesh.object_stores import open_folder, open_store, reason

_MANIFESTS, _BLOBS, _LOCK = "backups", "blobs", "lock.json"
FILES = "files"
_LEVEL = 1


class Place:
    """One place. Failures of the store are Unavailable; what is not as it was written is Corrupt."""

    def __init__(self, store: ObjectStore, url: str, folder: Path | None = None) -> None:
        self._store, self.url, self._folder = store, url, folder
        self._known: set[str] = set()
        self.written_bytes = 0

    @classmethod
    def open(cls, destination: str, *, make: bool = False) -> "Place":
        """A folder, or a URL such as `s3://bucket/prefix`. NotFound for a folder that is not there, unless it is to be made."""
        if "://" in destination and not destination.startswith("file://"):
            try:
                return cls(open_store(destination), destination)
            except (BaseError, ValueError) as error:
                raise InvalidInput(f"{destination} cannot be used: {reason(error, destination)}") from error
        folder = Path(destination.removeprefix("file://")).absolute()
        if not make and not folder.is_dir():
            raise NotFound(f"There is no folder {folder}.")
        if folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{folder} is a file; backups go into a folder.")
        try:
            return cls(open_folder(folder), destination, folder)
        except (BaseError, OSError) as error:
            raise InvalidInput(f"{folder} cannot be used: {reason(error)}") from error

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise Corrupt(f"{what} is gone from {self.url}.") from error
        except (BaseError, OSError) as error:
            raise Unavailable(f"{self.url} cannot be used: {reason(error, self.url)}") from error

    def know(self, manifest: Manifest) -> None:
        """What it names need not be written again."""
        self._known |= manifest.blobs()

    async def put_blob(self, content: bytes) -> str:
        """Keeps bytes, compressed; returns their name. The same bytes are kept once."""
        name = hashlib.sha256(content).hexdigest()
        if name not in self._known:
            packed = await asyncio.to_thread(zlib.compress, content, _LEVEL)
            with self._translated("A blob"):
                await obstore.put_async(self._store, _blob(name), packed)
            self.written_bytes += len(packed)
            self._known.add(name)
        return name

    async def blob(self, name: str) -> bytes:
        """Corrupt unless it is what was written."""
        with self._translated(f"The blob {name}"):
            packed = bytes(await (await obstore.get_async(self._store, _blob(name))).bytes_async())
        try:
            content = await asyncio.to_thread(zlib.decompress, packed)
        except zlib.error as error:
            raise Corrupt(f"The blob {name} of {self.url} is damaged.") from error
        if hashlib.sha256(content).hexdigest() != name:
            raise Corrupt(f"The blob {name} of {self.url} is not what was written.")
        return content

    async def put_file(self, path: str, pieces: AsyncIterator[bytes]) -> tuple[int, str]:
        """Keeps a stream under a path that is new; returns its size and its SHA-256."""
        size, digest = 0, hashlib.sha256()

        async def measured() -> AsyncIterator[bytes]:
            nonlocal size
            async for piece in pieces:
                size += len(piece)
                digest.update(piece)
                yield piece

        with self._translated("A file"):
            await obstore.put_async(self._store, path, measured())
        self.written_bytes += size
        return size, digest.hexdigest()

    async def file(self, path: str, size: int, sha256: str) -> AsyncIterator[bytes]:
        """Its bytes, piece by piece. Corrupt, after the last one, unless they are what was written."""
        read, digest = 0, hashlib.sha256()
        with self._translated(f"The file {path}"):
            async for piece in (await obstore.get_async(self._store, path)).stream():
                read += len(piece)
                digest.update(piece)
                yield bytes(piece)
        if (read, digest.hexdigest()) != (size, sha256):
            raise Corrupt(f"The file {path} of {self.url} is not what was written.")

    async def manifests(self) -> list[str]:
        """The ids of all backups, the oldest first."""
        return sorted([path.removesuffix(".json").rpartition("/")[2] async for path, _ in self._list(f"{_MANIFESTS}/")])

    async def manifest(self, identifier: str = "") -> Manifest:
        """A backup, the newest one where none is named. NotFound when there is none."""
        known = await self.manifests()
        if identifier not in ("", *known):
            raise NotFound(f"There is no backup {identifier} in {self.url}; there are: {', '.join(known) or 'none'}.")
        if not known:
            raise NotFound(f"There is no backup in {self.url}.")
        name = identifier or known[-1]
        with self._translated(f"The backup {name}"):
            content = bytes(await (await obstore.get_async(self._store, f"{_MANIFESTS}/{name}.json")).bytes_async())
        return read_manifest(name, content)

    async def put_manifest(self, manifest: Manifest) -> None:
        """From here on the backup is there. All before it is on the disk first, where the place is a folder."""
        if self._folder is not None:
            await asyncio.to_thread(os.sync)
        with self._translated("A manifest"):
            content = manifest.model_dump_json(indent=1).encode()
            await obstore.put_async(self._store, f"{_MANIFESTS}/{manifest.id}.json", content)

    async def keep_only(self, newest: int) -> list[str]:
        """Drops all but the newest backups, none for 0, and then what no backup names, as an interrupted one leaves it. Returns
        the ids of those dropped."""
        names = await self.manifests()
        dropped = names[:-newest] if newest else []
        for name in dropped:
            await self._delete(f"{_MANIFESTS}/{name}.json")
        kept: set[str] = set()
        for name in names[len(dropped) :]:
            manifest = await self.manifest(name)
            kept |= {_blob(blob) for blob in manifest.blobs()}
            for copy in (manifest.objects, manifest.records):
                kept |= {str(line["path"]) for blob in copy.lists async for line in self.lines(blob)}
        for prefix in (f"{_BLOBS}/", f"{FILES}/"):
            for path in [path async for path, _ in self._list(prefix) if path not in kept]:
                await self._delete(path)
        for half in self._folder.rglob("*#*") if self._folder is not None else ():  # which the store does not list
            half.unlink(missing_ok=True)
        return dropped

    async def lines(self, blob: str) -> AsyncIterator[Any]:
        """The JSON lines of a blob."""
        for line in (await self.blob(blob)).split(b"\n"):  # `splitlines` takes other characters for ends too
            yield json.loads(line)

    @asynccontextmanager
    async def locked(self, *, steal: bool = False) -> AsyncIterator[None]:
        """No other backup writes here meanwhile. FailedPrecondition while one does, unless it died on this machine."""
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "token": secrets.token_hex(8)}  # fmt: skip
        content = json.dumps(mine).encode()
        with self._translated("The lock"):
            try:
                await obstore.put_async(self._store, _LOCK, content, mode="create")
            except AlreadyExistsError:
                await self._check_lock(steal=steal)
                await obstore.put_async(self._store, _LOCK, content)
        try:
            yield
        finally:
            if await self._lock() == mine:
                await self._delete(_LOCK)

    async def _check_lock(self, *, steal: bool) -> None:
        theirs = await self._lock()
        if theirs is None or steal:
            return
        dead = theirs.get("host") == socket.gethostname() and not psutil.pid_exists(int(str(theirs.get("pid", 0))))
        if not dead:
            raise FailedPrecondition(
                f"Another backup writes to {self.url} since {theirs.get('since')}: process {theirs.get('pid')} of "
                f"{theirs.get('host')}. If it is dead, say --steal-lock."
            )

    async def _lock(self) -> dict[str, object] | None:
        with self._translated("The lock"):
            try:
                return json.loads(bytes(await (await obstore.get_async(self._store, _LOCK)).bytes_async()))
            except (FileNotFoundError, json.JSONDecodeError):
                return None

    async def _list(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        with self._translated("The list"):
            async for page in obstore.list(self._store, prefix):
                for item in page:
                    yield item["path"], item["size"]

    async def _delete(self, path: str) -> None:
        with self._translated("A deletion"):
            await obstore.delete_async(self._store, path)


def _blob(name: str) -> str:
    return f"{_BLOBS}/{name[:2]}/{name}"
